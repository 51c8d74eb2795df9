"""Edge weights that fall with the distance."""

import numpy as np

from ._group_table import Array

KERNELS = ("gaussian", "rectangular", "laplace", "cauchy")


def edge_weights(sqdist: Array, kernel: str, scale: float) -> Array:
    r"""Weights in (0, 1] of squared distances, with ``scale`` :math:`4t`, a squared length.

    .. math:: e^{-d^2 / 4t}, \qquad 1, \qquad e^{-d / \sqrt{4t}}, \qquad 1 / (1 + d^2 / 4t)
    """
    if kernel == "rectangular":
        return np.ones_like(sqdist)
    ratio = sqdist / scale
    if kernel == "gaussian":
        return np.exp(-ratio)
    if kernel == "laplace":
        return np.exp(-np.sqrt(ratio))
    return 1 / (1 + ratio)


def mean_square(sqdist: Array) -> float:
    """The mean over edges; of no edges, 1."""
    return float(sqdist.mean()) if sqdist.size else 1.0
