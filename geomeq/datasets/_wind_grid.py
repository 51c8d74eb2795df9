"""The bundled winds: reading, and values between the points of the grid."""

from functools import cache

import numpy as np

from geomeq.datasets import _earth
from geomeq.datasets._latlon import LatLon
from geomeq.datasets._raw import load_npz
from geomeq.datasets._registry import bundled

MONTHS, ROWS, COLUMNS, STEP = 132, 35, 72, 5.0
_GRID = LatLon(np.radians(STEP * (1 + np.arange(ROWS))), 0.0, COLUMNS)
_LAND_WIDTH = np.radians(2.5)  # of the Gaussian mean of the land mask


@cache
def read_winds() -> np.ndarray:
    """Eastward and northward wind, m/s, ``[132, 2, 35, 72]``; latitudes 85, ..., -85, longitudes 0, ..., 355."""
    arrays = load_npz(bundled("winds/winds.npz"), None, "install geomeq again")
    return np.stack([arrays["eastward"], arrays["northward"]], axis=1) * 0.01


def wind_at(points: np.ndarray) -> np.ndarray:
    """Winds as tangent vectors of space, between the points of the grid by :meth:`LatLon.bilinear`.

    A pole has the mean vector of the row beside it.

    Args:
        points: Unit vectors ``[N, 3]``: x towards longitude 0, y towards 90 east, z to the north pole.

    Returns:
        ``[132, N, 3]``, m/s, float64.
    """
    winds = read_winds()
    wind = np.moveaxis(_GRID.bilinear(_GRID.vectors(winds[:, 0], winds[:, 1]), points), 1, 2)
    return wind - (wind * points).sum(-1, keepdims=True) * points


def land_at(points: np.ndarray) -> np.ndarray:
    """Share of land around points ``[N, 3]``, ``[N]``."""
    return _earth.sample(_smooth_land(), points)[0]


@cache
def _smooth_land() -> np.ndarray:
    return _earth.smooth(_earth.read_earth()[0][None].astype(np.float64), float(_LAND_WIDTH))
