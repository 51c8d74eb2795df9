"""Nodes and weights of Gauss-Legendre quadrature, to the last digits for any number of nodes."""

import math

import numpy as np


def gauss_rule(count: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Colatitudes from north to south and weights, sum 2.

    Newton's method in the angle, with the Legendre polynomials by their differences, which loses no digits near the
    poles: there the weights of ``numpy.polynomial.legendre.leggauss`` have a relative error of 1e-9 for 513 nodes.

    Args:
        count: Number of nodes.

    Source: the recursion is that of Abramowitz and Stegun 8.5.3 in :math:`P_{k+1} - P_k`.
    """
    half = (count + 1) // 2
    k = np.arange(1, half + 1)
    theta = math.pi * (4 * k - 1) / (4 * count + 2)
    theta += 1 / (8 * count**2 * np.tan(theta))  # the first terms of its asymptotic series
    for _ in range(4):
        value, slope = _legendre(count, theta)
        theta = theta - value / slope
    if count % 2:
        theta[-1] = math.pi / 2
    weight = 2 / _legendre(count, theta)[1] ** 2
    mirror = slice(None, None, -1) if count % 2 == 0 else slice(-2, None, -1)
    return np.concatenate([theta, math.pi - theta[mirror]]), np.concatenate([weight, weight[mirror]])


def _legendre(degree: int, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The polynomial at cos theta and its derivative by theta."""
    gap = 2 * np.sin(theta / 2) ** 2  # 1 - cos theta
    value, change = np.ones_like(theta), np.zeros_like(theta)
    for k in range(degree):
        change = (k * change - (2 * k + 1) * gap * value) / (k + 1)
        value = value + change
    below = value - change
    return value, degree * (np.cos(theta) * value - below) / np.sin(theta)
