"""Real spherical harmonics of vectors, safe at the origin."""

import math

import torch
from e3nn import o3
from torch import Tensor

from geomeq._checks import check_shape

_NORMALIZATIONS = ("component", "integral", "norm")


def direction(vec: Tensor) -> Tensor:
    """Unit vectors; the zero vector stays zero and gets a zero gradient.

    Args:
        vec: Vectors of any unit, ``[..., 3]``.

    Returns:
        ``vec / |vec|``, ``[..., 3]``. Exact for lengths down to the smallest normal number: the vector is scaled by
        its largest entry before squaring, so nothing underflows.
    """
    scale = vec.detach().abs().amax(dim=-1, keepdim=True)
    zero = scale == 0
    scaled = vec / torch.where(zero, torch.ones_like(scale), scale)
    square = scaled.square().sum(dim=-1, keepdim=True)
    # The double where keeps 0/0 out of the backward pass too.
    inverse = torch.where(zero, torch.ones_like(square), square).rsqrt()
    return torch.where(zero, torch.zeros_like(scaled), scaled * inverse)


def spherical_harmonics(vec: Tensor, lmax: int, normalization: str = "component") -> Tensor:
    r"""Real spherical harmonics of the directions of ``vec``, degrees 0 to ``lmax`` (e3nn order, polar axis y).

    Args:
        vec: Vectors, ``[..., 3]``; only their directions count.
        lmax: Highest degree.
        normalization: ``"component"`` (:math:`|Y_l|^2 = 2l+1`), ``"integral"`` (:math:`(2l+1)/4\pi`) or
            ``"norm"`` (1).

    Returns:
        ``[..., (lmax + 1)^2]``. For a zero vector, degree 0 as usual and every higher degree 0.

    Raises:
        ValueError: If ``vec`` is not ``[..., 3]``, ``lmax`` is negative or the normalization is unknown.
    """
    check_shape("vec", vec, "...", 3)
    if lmax < 0:
        raise ValueError(f"lmax must be at least 0, got {lmax}")
    if normalization not in _NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {_NORMALIZATIONS}, got {normalization!r}")
    unit = direction(vec)
    y = o3.spherical_harmonics(list(range(lmax + 1)), unit, normalize=False, normalization="component")
    if lmax > 0:
        # Even degrees are polynomials with a constant term, which e3nn writes with |u| = 1 in mind.
        nonzero = (unit != 0).any(dim=-1, keepdim=True)
        higher = torch.where(nonzero, y[..., 1:], torch.zeros_like(y[..., 1:]))
        y = torch.cat([y[..., :1], higher], dim=-1)
    if normalization == "component":
        return y
    degree = torch.arange(lmax + 1, device=y.device).repeat_interleave(2 * torch.arange(lmax + 1, device=y.device) + 1)
    factor = (
        torch.full((degree.numel(),), 1 / math.sqrt(4 * math.pi), dtype=y.dtype, device=y.device)
        if normalization == "integral"
        else (2 * degree + 1).to(y.dtype).rsqrt()
    )
    return y * factor
