"""Grids of latitude and longitude with exact quadrature."""

import math

import numpy as np
import torch
from torch import Tensor

from .sampling import Rings, Sampling, check_count


def gauss_legendre(nlat: int, nlon: int | None = None) -> Sampling:
    r"""Latitudes at the roots of the Legendre polynomial, longitudes :math:`2 \pi k / W`.

    Node ``row * nlon + column``, rows from north to south. No node at a pole. Integrates polynomials of degree
    ``min(2 nlat - 1, nlon - 1)`` exactly.

    Args:
        nlat: Number of rows.
        nlon: Number of columns; default ``2 nlat``.

    Raises:
        ValueError: If a number is too small.

    Example:
        >>> gauss_legendre(8)
        Sampling('gauss_legendre', num_nodes=128)
    """
    check_count("nlat", nlat, 1)
    nlon = 2 * nlat if nlon is None else nlon
    check_count("nlon", nlon, 1)
    cos, weight = np.polynomial.legendre.leggauss(nlat)
    return _grid("gauss_legendre", np.arccos(cos[::-1]), weight[::-1], nlon, min(2 * nlat - 1, nlon - 1))


def equiangular(nlat: int, nlon: int | None = None) -> Sampling:
    r"""Colatitudes :math:`\pi i / (H - 1)`, both poles included, with Clenshaw-Curtis weights.

    Node ``row * nlon + column``, rows from north to south, longitudes :math:`2 \pi k / W`. A pole is ``nlon`` nodes at
    one place, which share its weight. Integrates polynomials of degree ``min(nlat - 1, nlon - 1)`` exactly (and one
    more where ``nlat`` is odd, by symmetry).

    Args:
        nlat: Number of rows, at least 2.
        nlon: Number of columns; default ``2 (nlat - 1)``, equal steps both ways.

    Raises:
        ValueError: If a number is too small.

    Example:
        >>> equiangular(7)
        Sampling('equiangular', num_nodes=84)
    """
    check_count("nlat", nlat, 2)
    nlon = 2 * (nlat - 1) if nlon is None else nlon
    check_count("nlon", nlon, 1)
    degree = nlat if nlat % 2 else nlat - 1
    colatitude = math.pi * np.arange(nlat) / (nlat - 1)
    return _grid("equiangular", colatitude, _clenshaw_curtis(nlat), nlon, min(degree, nlon - 1))


def _clenshaw_curtis(nlat: int) -> np.ndarray:
    """Weights on [-1, 1] at the cosines of equal steps, sum 2.

    Source: Waldvogel (2006), https://doi.org/10.1007/s10543-006-0045-4
    """
    steps = nlat - 1
    k = np.arange(steps // 2 + 1)
    factor = np.where((k == 0) | (2 * k == steps), 1.0, 2.0) / (1 - 4.0 * k**2)
    weight = np.cos(2 * math.pi / steps * np.outer(np.arange(nlat), k)) @ factor * 2 / steps
    weight[[0, -1]] /= 2
    return weight


def _grid(kind: str, colatitude: np.ndarray, weight: np.ndarray, nlon: int, degree: int) -> Sampling:
    theta, area = torch.from_numpy(colatitude.copy()), torch.from_numpy(weight.copy())
    rows = len(theta)
    phi = 2 * math.pi / nlon * torch.arange(nlon, dtype=torch.float64)
    pole = (theta == 0) | (theta == math.pi)
    sin = torch.where(pole, 0.0, theta.sin())  # sin(pi) is not 0 in floating point, and a pole is one place
    pos = torch.stack(
        [sin[:, None] * phi.cos(), sin[:, None] * phi.sin(), theta.cos()[:, None].expand(rows, nlon)], dim=-1
    )
    rings = Rings(theta, torch.full((rows,), nlon), torch.zeros_like(theta), torch.arange(rows * nlon))
    return Sampling(kind, pos.flatten(0, 1), _spread(area, nlon), degree, rings)


def _spread(weight: Tensor, nlon: int) -> Tensor:
    """Weights of rows, sum 2, as weights of nodes, sum 4 pi."""
    return (weight * (2 * math.pi / nlon)).repeat_interleave(nlon)
