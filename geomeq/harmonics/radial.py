"""Functions of a distance: bases and the envelope that makes energies continuous at a cut-off."""

import math

import torch
from torch import Tensor


def _check_cutoff(cutoff: float) -> None:
    if not cutoff > 0:
        raise ValueError(f"cutoff must be positive, got {cutoff}")


def polynomial_envelope(r: Tensor, cutoff: float, p: int = 6) -> Tensor:
    r"""Falls from 1 to 0 at the cut-off, where value, first and second derivative vanish.

    .. math:: u(d) = 1 - \frac{(p+1)(p+2)}{2} d^p + p(p+2) d^{p+1} - \frac{p(p+1)}{2} d^{p+2}, \quad d = r / r_c

    Args:
        r: Distances, any shape.
        cutoff: Where the envelope ends, in the unit of ``r``.
        p: Order of the flat start, at least 1.

    Returns:
        The envelope, the shape of ``r``; zero beyond the cut-off.

    Source: Gasteiger et al., Directional Message Passing (2020), eq. 8.
    """
    _check_cutoff(cutoff)
    if p < 1:
        raise ValueError(f"p must be at least 1, got {p}")
    d = r / cutoff
    u = 1 - (p + 1) * (p + 2) / 2 * d**p + p * (p + 2) * d ** (p + 1) - p * (p + 1) / 2 * d ** (p + 2)
    return torch.where(d < 1, u, torch.zeros_like(u))


def bessel_basis(r: Tensor, cutoff: float, num_basis: int = 8) -> Tensor:
    r"""Spherical Bessel functions of degree 0 that vanish at the cut-off: orthonormal on a ball.

    .. math:: b_n(r) = \sqrt{2 / r_c} \; \sin(n \pi r / r_c) / r, \qquad n = 1, \dots, n_{max}

    Args:
        r: Distances, any shape.
        cutoff: Radius of the ball, in the unit of ``r``.
        num_basis: Number of functions.

    Returns:
        ``[..., num_basis]``; at ``r = 0`` the limit :math:`\sqrt{2/r_c} \; n \pi / r_c`, with finite gradient.

    Source: Gasteiger et al. (2020), eq. 7.
    """
    _check_cutoff(cutoff)
    n = torch.arange(1, num_basis + 1, dtype=r.dtype, device=r.device)
    return math.sqrt(2 / cutoff) * (n * math.pi / cutoff) * _sinc(n * (math.pi / cutoff) * r[..., None])


def _sinc(x: Tensor) -> Tensor:
    """sin(x) / x with derivatives of every order at 0 (torch.sinc has a NaN second derivative there)."""
    small = x.abs() < 1e-2
    square = torch.where(small, x, torch.zeros_like(x)).square()
    series = 1 - square / 6 * (1 - square / 20 * (1 - square / 42))
    safe = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, series, torch.sin(safe) / safe)


def gaussian_basis(r: Tensor, cutoff: float, num_basis: int = 16) -> Tensor:
    """Gaussians at equal spacing from 0 to the cut-off, one spacing wide.

    Args:
        r: Distances, any shape.
        cutoff: Centre of the last Gaussian, in the unit of ``r``.
        num_basis: Number of functions, at least 2.

    Returns:
        ``[..., num_basis]``, each between 0 and 1.
    """
    _check_cutoff(cutoff)
    if num_basis < 2:
        raise ValueError(f"num_basis must be at least 2, got {num_basis}")
    centre = torch.linspace(0, cutoff, num_basis, dtype=r.dtype, device=r.device)
    width = cutoff / (num_basis - 1)
    return normal_curve((r[..., None] - centre) / width)


def normal_curve(u: Tensor) -> Tensor:
    """``exp(-u^2 / 2)``, as a power of 2: ``torch.exp`` is ten times slower on some CPUs, more where it underflows."""
    return torch.exp2(u.square() * (-0.5 / math.log(2)))
