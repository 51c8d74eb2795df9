"""Real spherical harmonics of any spin at any points, polar axis z."""

import torch
from torch import Tensor

from geomeq._checks import check_shape

from ._legendre_tables import table_rows


def harmonic_matrix(pos: Tensor, lmax: int, spin: int = 0) -> Tensor:
    r"""The harmonics of this package's transforms at points.

    Args:
        pos: Unit vectors ``[N, 3]``.
        lmax: Highest degree.
        spin: Of the harmonics. Their frames are south, east and the point; at a pole south along longitude 0.

    Returns:
        ``[N, (lmax + 1)^2]``, float64, orthonormal over the sphere, column :math:`l^2 + l + m`, sines for
        :math:`m < 0`. With a spin ``[N, (lmax + 1)^2, 2]``, real and imaginary part.

    Raises:
        ValueError: If ``pos`` has another shape or the degree or spin makes no sense.

    Example:
        >>> harmonic_matrix(torch.eye(3), 2, spin=1).shape
        torch.Size([3, 9, 2])
    """
    check_shape("pos", pos, "N", 3)
    if lmax < abs(spin):
        raise ValueError(f"harmonics of spin {spin} begin at degree {abs(spin)}, got lmax={lmax}")
    pos = pos.detach().double().cpu() + 0.0  # no negative zero: at a pole the longitude is 0
    colatitude = torch.atan2(torch.hypot(pos[:, 0], pos[:, 1]), pos[:, 2])
    angle = torch.atan2(pos[:, 1], pos[:, 0]) * torch.arange(lmax + 1)[:, None]
    cos, sin = angle.cos(), angle.sin()
    out = pos.new_zeros((lmax + 1) ** 2, *((2,) if spin else ()), len(pos))
    for degree, value in table_rows(range(lmax + 1), colatitude, lmax, spin):
        orders = min(len(value), degree + 1)
        c, s = cos[:orders], sin[:orders]
        value, zero = value[:orders], degree * (degree + 1)
        plus = value[:, 0]
        if spin:
            minus = value[:, 1]
            out[zero - orders + 1 : zero + 1] = torch.stack([plus * s, -minus * c], dim=1).flip(0)
            out[zero : zero + orders] = torch.stack([plus * c, minus * s], dim=1)
        else:
            out[zero - orders + 1 : zero + 1] = (plus * s).flip(0)
            out[zero : zero + orders] = plus * c
    return out.movedim(-1, 0).contiguous()
