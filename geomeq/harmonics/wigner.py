r"""Frames of edges and the Wigner blocks that turn features into them.

A frame sends the direction of an edge to the polar axis y. In it, the spherical harmonics of the edge have only their
:math:`m = 0` component, so Clebsch-Gordan products become one small matrix per :math:`|m|`.
"""

import torch
from torch import Tensor

from geomeq._checks import check_shape
from geomeq.groups.wigner import wigner_blocks

from .spherical import direction


def edge_frames(vec: Tensor) -> Tensor:
    """Rotation matrices that turn each vector onto the axis y.

    Args:
        vec: Vectors, ``[E, 3]``, not zero.

    Returns:
        ``[E, 3, 3]``, determinant 1, with ``frame @ vec = |vec| * (0, 1, 0)``. The turn about the axis is a fixed
        function of the vector with bounded derivatives; it jumps where ``z`` changes sign, which cannot be seen in
        anything invariant under that turn. A zero vector gets some rotation, never NaN.

    Source: Duff et al. (2017), Building an orthonormal basis, revisited, JCGT 6(1).
    """
    check_shape("vec", vec, "E", 3)
    x, y, z = direction(vec).unbind(-1)
    nonzero = (x != 0) | (y != 0) | (z != 0)
    z = torch.where(nonzero, z, torch.ones_like(z))
    sign = torch.where(z < 0, -1.0, 1.0).to(vec.dtype)
    a = -1 / (sign + z)
    b = x * y * a
    first = torch.stack([1 + sign * x * x * a, sign * b, -sign * x], dim=-1)
    second = torch.stack([b, sign + y * y * a, -y], dim=-1)
    return torch.stack([second, torch.stack([x, y, z], dim=-1), first], dim=-2)


def edge_wigner(vec: Tensor, lmax: int) -> list[Tensor]:
    """Wigner blocks of :func:`edge_frames`: ``D[l] @ Y_l(vec) = sqrt(2l+1) * (0, .., 1, .., 0)``.

    Args:
        vec: Edge vectors, ``[E, 3]``.
        lmax: Highest degree.

    Returns:
        One tensor ``[E, 2l+1, 2l+1]`` per degree.
    """
    return wigner_blocks(edge_frames(vec), lmax)
