"""Looking at three dimensions from afar: orthographic projections that keep the order of depth."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Numbers = NDArray[np.integer]


def looking_from(azimuth: float, elevation: float) -> Array:
    """Rows, ``[3, 3]``: to the right, upwards, towards the eye; azimuth about z from x, both in degrees."""
    a, e = np.radians(azimuth), np.radians(elevation)
    out = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    return np.stack([right, np.cross(out, right), out])


def in_space(pos: Array) -> Array:
    """Points ``[N, 1 to 3]`` as points ``[N, 3]``, zeros appended."""
    return np.pad(pos, ((0, 0), (0, 3 - pos.shape[1])))
