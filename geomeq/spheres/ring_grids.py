"""Grids of latitude and longitude with exact quadrature."""

import math

import numpy as np
import torch
from scipy.special import eval_legendre, roots_jacobi
from torch import Tensor

from ._gauss import gauss_rule
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
    theta, weight = gauss_rule(nlat)
    return _grid("gauss_legendre", theta, weight, nlon, min(2 * nlat - 1, nlon - 1))


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


def lobatto(nlat: int, nlon: int | None = None) -> Sampling:
    """Latitudes of Gauss-Lobatto quadrature: both poles, and the best places between them.

    Node ``row * nlon + column``, rows from north to south. A pole is ``nlon`` nodes at one place. Integrates
    polynomials of degree ``min(2 nlat - 3, nlon - 1)`` exactly.

    Args:
        nlat: Number of rows, at least 2.
        nlon: Number of columns; default ``2 (nlat - 1)``.

    Raises:
        ValueError: If a number is too small.

    Example:
        >>> lobatto(7)
        Sampling('lobatto', num_nodes=84)
    """
    check_count("nlat", nlat, 2)
    nlon = 2 * (nlat - 1) if nlon is None else nlon
    check_count("nlon", nlon, 1)
    inner = roots_jacobi(nlat - 2, 1, 1)[0] if nlat > 2 else np.empty(0)  # extrema of the Legendre polynomial
    cos = np.concatenate([[-1.0], inner, [1.0]])[::-1]
    weight = 2 / (nlat * (nlat - 1) * eval_legendre(nlat - 1, cos) ** 2)
    return _grid("lobatto", np.arccos(cos), weight, nlon, min(2 * nlat - 3, nlon - 1))


def driscoll_healy(bandwidth: int) -> Sampling:
    r"""The grid of Driscoll and Healy, also that of SOFT: colatitudes :math:`(i + 1/2) \pi / 2b`, ``2 b`` longitudes.

    Node ``row * 2 b + column``, rows from north to south. No node at a pole. Integrates polynomials of degree
    ``2 b - 1`` exactly, so that products of two functions of degree below ``b`` are.

    Args:
        bandwidth: ``b``; there are ``4 b^2`` nodes.

    Raises:
        ValueError: If it is no positive integer.

    Example:
        >>> driscoll_healy(8)
        Sampling('driscoll_healy', num_nodes=256)

    Source: Driscoll and Healy (1994), https://doi.org/10.1006/aama.1994.1008
    """
    check_count("bandwidth", bandwidth, 1)
    rows = 2 * bandwidth
    theta = math.pi / rows * (np.arange(rows) + 0.5)
    odd = 2 * np.arange(bandwidth) + 1
    weight = 2 / bandwidth * np.sin(theta) * (np.sin(np.outer(theta, odd)) @ (1 / odd))
    return _grid("driscoll_healy", theta, weight, rows, rows - 1)


def reduced_gauss_legendre(nlat: int) -> Sampling:
    r"""Gauss-Legendre latitudes with fewer nodes near the poles: the octahedral reduced Gaussian grid.

    The i-th row from a pole, from 0, has ``4 i + 20`` equal steps of longitude from 0: about half the nodes of
    :func:`gauss_legendre` with ``2 nlat + 16`` columns, and no crowd of neighbours at the poles. Rows are summed
    exactly to the order of their count only, so that no degree is quite exact; but high orders are small near a pole,
    and polynomials of degree ``nlat`` are integrated to 1e-11. Far beyond that degree they are not.

    Args:
        nlat: Number of rows, even.

    Raises:
        ValueError: If it is odd or too small.

    Example:
        >>> reduced_gauss_legendre(32)
        Sampling('reduced_gauss_legendre', num_nodes=1600)

    Source: Malardel et al. (2016), https://doi.org/10.21957/zwdu9u5i
    """
    check_count("nlat", nlat, 2)
    if nlat % 2:
        raise ValueError(f"the rows come in pairs north and south of the equator; nlat must be even, got {nlat}")
    with torch.device("cpu"):  # whatever the default is
        colatitude, weight = gauss_rule(nlat)
        half = 20 + 4 * torch.arange(nlat // 2)
        count = torch.cat([half, half.flip(0)])
        theta = torch.from_numpy(colatitude)
        rings = Rings(theta, count, torch.zeros_like(theta), torch.arange(int(count.sum())))
        row, phi = torch.arange(nlat).repeat_interleave(count), rings.longitude
        pos = torch.stack([theta.sin()[row] * phi.cos(), theta.sin()[row] * phi.sin(), theta.cos()[row]], dim=-1)
        area = torch.from_numpy(weight) * 2 * math.pi / count
        return Sampling("reduced_gauss_legendre", pos, area[row], None, rings)


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
    with torch.device("cpu"):  # whatever the default is
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
