"""Fields on the earth, every degree: reading, smoothing on the sphere, and values between the cells.

A field is ``[180, 360]``: rows from north to south, columns eastward from longitude -180; values belong to the centres
of the cells, 89.5, 88.5, ... and -179.5, -178.5, ....
"""

import math
from functools import cache

import numpy as np

from geomeq.datasets._latlon import LatLon
from geomeq.datasets._raw import load_npz
from geomeq.datasets._registry import bundled

ROWS, COLUMNS = 180, 360
GRID = LatLon.cells(ROWS, COLUMNS)


@cache
def read_earth() -> tuple[np.ndarray, np.ndarray]:
    """Land (bool) and height in metres (float64), both ``[180, 360]``."""
    arrays = load_npz(bundled("earth/earth.npz"), None, "install geomeq again")
    land = np.unpackbits(arrays["land"]).astype(bool).reshape(ROWS, COLUMNS)
    return land, arrays["height"].astype(np.float64)


def latitudes() -> np.ndarray:
    """Of the rows, radians, ``[180]``."""
    return np.radians(89.5 - np.arange(ROWS))


def smooth(fields: np.ndarray, width: float) -> np.ndarray:
    r"""Weighted mean over the sphere around each cell, weights :math:`e^{-\gamma^2 / 2 w^2}` of the angle.

    Exact on the grid, poles included: the weights depend on two latitudes and a difference of longitudes, so that the
    sum over longitudes is a product of Fourier coefficients.

    Args:
        fields: ``[..., 180, 360]``.
        width: ``w``, radians.

    Returns:
        ``[..., 180, 360]``, float64.
    """
    latitude = latitudes()
    sin, cos = np.sin(latitude)[:, None], np.cos(latitude)[:, None]
    turn = np.cos(2 * math.pi / COLUMNS * np.arange(COLUMNS))
    spectrum = np.fft.rfft(fields * cos)  # times the area of a cell, up to a factor
    reach = math.ceil(math.degrees(6 * width))  # rows farther away weigh less than 2e-8
    out = np.empty(np.shape(fields))
    for i in range(ROWS):
        near = slice(max(i - reach, 0), i + reach + 1)
        angle = np.arccos(np.clip(sin[i] * sin[near] + cos[i] * cos[near] * turn, -1, 1))  # [rows, 360]
        weight = np.exp(-0.5 * (angle / width) ** 2)
        total = (weight * cos[near]).sum()
        out[..., i, :] = np.fft.irfft((np.fft.rfft(weight) * spectrum[..., near, :]).sum(-2), COLUMNS) / total
    return out


def sample(fields: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Interpolation between the cells, see :meth:`LatLon.bilinear`.

    Args:
        fields: ``[C, 180, 360]``.
        points: Unit vectors ``[..., 3]``: x towards longitude 0, y towards 90 east, z to the north pole.

    Returns:
        ``[C, ...]``, float64.
    """
    return GRID.bilinear(fields, points)
