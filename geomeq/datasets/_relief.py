"""Relief that has lost its height: what tells land from sea without naming the level."""

import math
from functools import cache

import numpy as np

from geomeq.datasets import _earth

_DETAIL, _WIDE = 0.4, 3.0  # widths of the two Gaussian means: in units of the spacing, and of the first
_FLAT = 50.0, 10.0  # metres, so that plains do not become noise
DEGREE = math.radians(1.0)


def relief_fields(spacing: float, finest: float = DEGREE) -> np.ndarray:
    """Relief, roughness, share of land and height, smoothed for a sampling, ``[4, 180, 360]``.

    - Relief: the smoothed height minus its mean over a wider surrounding, divided by its own standard deviation there.
    - Roughness: the logarithm of the standard deviation of what the smoothing took away, minus its mean around.
    - Share of land: of the smoothed mask.
    - Height: smoothed, metres.

    Args:
        spacing: Of the nodes, radians.
        finest: Width of the narrowest mean, radians. Where it is less than the 1 degree of the data, the smoothing
            takes little away, and roughness says little.
    """
    return _fields(max(_DETAIL * spacing, finest))


@cache
def _fields(width: float) -> np.ndarray:
    land, height = _earth.read_earth()
    smooth_height, share = _earth.smooth(np.stack([height, land]), width)
    detail = np.log(np.sqrt(_earth.smooth((height - smooth_height) ** 2, width)) + _FLAT[1])
    mean_height, mean_detail = _earth.smooth(np.stack([height, detail]), _WIDE * width)
    relief = smooth_height - mean_height
    spread = np.sqrt(_earth.smooth(relief**2, _WIDE * width)) + _FLAT[0]
    return np.stack([relief / spread, detail - mean_detail, share, smooth_height])
