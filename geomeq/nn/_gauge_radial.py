"""Radial profiles of gauge-equivariant kernels: a few overlapping rings inside an absolute cut-off."""

import math

import torch
from torch import Tensor

BASES = ("hat", "smooth")


def check_rings(rings: int, cutoff: float | None, basis: str) -> None:
    """Raises unless the three describe a basis."""
    if basis not in BASES:
        raise ValueError(f"basis must be one of {', '.join(BASES)}, got {basis!r}")
    if isinstance(rings, bool) or not isinstance(rings, int) or rings < 1:
        raise ValueError(f"rings must be an integer of at least 1, got {rings!r}")
    if cutoff is None:
        if rings > 1 or basis == "smooth":
            raise ValueError(
                f"rings={rings} with basis={basis!r} needs cutoff, the radius where the kernel ends, in the unit of "
                "polar[:, 0]; only rings=1 with basis='hat' does without"
            )
    elif not (math.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"cutoff must be positive and finite, got {cutoff}")


def ring_profiles(r: Tensor, rings: int, cutoff: float | None, basis: str) -> Tensor:
    r"""The profiles :math:`\phi_k(r)`, which sum to one wherever all of them count.

    ``"hat"``: piecewise linear between knots at :math:`k r_c / (R - 1)`, as in the published gauge-equivariant mesh
    networks, with ``r`` clipped to the cut-off; one ring is constant. ``"smooth"``: cosine bumps
    :math:`\cos^2(\tfrac{\pi}{2} (r - r_k) / h)` at :math:`r_k = k h`, :math:`h = r_c / R`, zero with zero slope at the
    cut-off and beyond.

    Args:
        r: Distances, ``[...]``.
        rings: Number of profiles :math:`R`.
        cutoff: :math:`r_c`, or ``None`` for one constant ring.
        basis: ``"hat"`` or ``"smooth"``.

    Returns:
        ``[..., R]``.
    """
    if basis == "hat" and rings == 1:
        return torch.ones_like(r).unsqueeze(-1)
    assert cutoff is not None, "check_rings lets nothing else through"
    k = torch.arange(rings, dtype=r.dtype, device=r.device)
    if basis == "hat":
        return (1 - (r.clamp(max=cutoff).unsqueeze(-1) * ((rings - 1) / cutoff) - k).abs()).clamp(min=0)
    t = (r.unsqueeze(-1) * (rings / cutoff) - k).clamp(-1, 1)
    return torch.cos(t * (math.pi / 2)).square()


def is_inside(r: Tensor, cutoff: float | None, basis: str) -> Tensor:
    """Which edges count: all for ``"hat"`` (longer ones are clipped), those within the cut-off for ``"smooth"``."""
    return torch.ones_like(r, dtype=torch.bool) if basis == "hat" or cutoff is None else r < cutoff


def mean_square(power: int, rings: int, cutoff: float | None, basis: str) -> float:
    r"""Mean of :math:`\sum_k \phi_k(r)^2 (r / r_c)^{2p}` over the disc within the cut-off: what initial weights expect.

    The power belongs to the smooth basis only.
    """
    r = (torch.arange(512, dtype=torch.float64, device="cpu") + 0.5) / 512  # midpoints
    square = ring_profiles(r, rings, None if cutoff is None else 1.0, basis).square().sum(dim=-1)
    return float((square * r ** (2 * power if basis == "smooth" else 0) * 2 * r).mean())
