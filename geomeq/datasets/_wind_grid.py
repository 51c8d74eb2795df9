"""The bundled winds: reading, and values between the points of the grid."""

from functools import cache

import numpy as np

from geomeq.datasets import _earth
from geomeq.datasets._raw import load_npz
from geomeq.datasets._registry import bundled

MONTHS, ROWS, COLUMNS, STEP = 132, 35, 72, 5.0
_LAND_WIDTH = np.radians(2.5)  # of the Gaussian mean of the land mask


@cache
def read_winds() -> np.ndarray:
    """Eastward and northward wind, m/s, ``[132, 2, 35, 72]``; latitudes 85, ..., -85, longitudes 0, ..., 355."""
    arrays = load_npz(bundled("winds/winds.npz"), None, "install geomeq again")
    return np.stack([arrays["eastward"], arrays["northward"]], axis=1) * 0.01


@cache
def _vectors() -> np.ndarray:
    """Winds as vectors of space, ``[132, 3, 37, 72]``, rows at 90, ..., -90; a pole has the mean of the row beside it.

    Components along east and north cannot be interpolated near a pole, where these turn; vectors of space can.
    """
    latitude = np.radians(85.0 - STEP * np.arange(ROWS))[:, None]
    longitude = np.radians(STEP * np.arange(COLUMNS))[None]
    zero = np.zeros((ROWS, COLUMNS))
    east = np.stack([-np.sin(longitude) + zero, np.cos(longitude) + zero, zero])
    north = np.stack(
        [-np.sin(latitude) * np.cos(longitude), -np.sin(latitude) * np.sin(longitude), np.cos(latitude) + zero]
    )
    winds = read_winds()
    vectors = winds[:, :1] * east + winds[:, 1:] * north
    ends = [vectors[:, :, row].mean(-1)[:, :, None, None].repeat(COLUMNS, 3) for row in (0, -1)]
    return np.concatenate([ends[0], vectors, ends[1]], axis=2)


def wind_at(points: np.ndarray) -> np.ndarray:
    """Winds as tangent vectors of space, bilinear in latitude and longitude.

    Args:
        points: Unit vectors ``[N, 3]``: x towards longitude 0, y towards 90 east, z to the north pole.

    Returns:
        ``[132, N, 3]``, m/s, float64.
    """
    x, y, z = points.T
    down = (90 - np.degrees(np.arctan2(z, np.hypot(x, y)))) / STEP
    across = np.degrees(np.arctan2(y, x)) / STEP
    row, column = np.clip(np.floor(down), 0, ROWS).astype(int), np.floor(across).astype(int)
    v, u = down - row, across - column
    field, low, high = _vectors(), column % COLUMNS, (column + 1) % COLUMNS
    top = field[:, :, row, low] * (1 - u) + field[:, :, row, high] * u
    bottom = field[:, :, row + 1, low] * (1 - u) + field[:, :, row + 1, high] * u
    wind = np.moveaxis(top * (1 - v) + bottom * v, 1, 2)
    return wind - (wind * points).sum(-1, keepdims=True) * points


def land_at(points: np.ndarray) -> np.ndarray:
    """Share of land around points ``[N, 3]``, ``[N]``."""
    return _earth.sample(_smooth_land(), points)[0]


@cache
def _smooth_land() -> np.ndarray:
    return _earth.smooth(_earth.read_earth()[0][None].astype(np.float64), float(_LAND_WIDTH))
