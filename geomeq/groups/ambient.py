r"""Vectors and tensors of space, read into the tangent frames of a surface and written back.

In a frame with rows :math:`e_1, e_2, n` a vector :math:`v` has the components :math:`(e_1 v, e_2 v, n v)`. A turn of
the frame about :math:`n` leaves :math:`n v` alone and turns the pair :math:`e_1 v + i\, e_2 v` as order 1. The nine
components of a matrix fall into orders 0, 0, 0, 1, 1 and 2. Both maps are exact isometries, and because the frames of
a surface move with it, features read this way do not see a rotation of the whole.
"""

import math

import torch
from torch import Tensor

from .._checks import check_shape
from .so2_irreps import SO2Irreps

_HALF = 1 / math.sqrt(2)


def ambient_types(channels: int, rank: int = 1) -> SO2Irreps:
    """The type of ``channels`` vectors (``rank=1``) or 3 x 3 tensors (``rank=2``) read in tangent frames.

    Example:
        >>> ambient_types(4), ambient_types(4, rank=2)
        (4x0+4x1, 12x0+8x1+4x2)
    """
    if rank not in (1, 2):
        raise ValueError(f"rank must be 1 (vectors) or 2 (3 x 3 tensors), got {rank}")
    multiplicities = (1, 1) if rank == 1 else (3, 2, 1)
    return SO2Irreps((channels * mul, order) for order, mul in enumerate(multiplicities))


def from_ambient(v: Tensor, frame: Tensor, rank: int = 1) -> Tensor:
    r"""Reads vectors or tensors of space in the frames of the nodes.

    .. math::
        v &\mapsto n v,\; e_1 v + i\, e_2 v \\
        T &\mapsto \tfrac{T_{11} + T_{22}}{\sqrt 2},\; T_{33},\; \tfrac{T_{21} - T_{12}}{\sqrt 2};\;
        T_{13} + i T_{23},\; T_{31} + i T_{32};\; \tfrac{T_{11} - T_{22} + i (T_{12} + T_{21})}{\sqrt 2}

    Args:
        v: ``[..., N, C, 3]`` (``rank=1``) or ``[..., N, C, 3, 3]`` (``rank=2``). One channel may be written without its
            axis, ``[N, 3]`` or ``[N, 3, 3]``, where that is not ambiguous: exactly one leading axis.
        frame: Orthonormal rows e1, e2, n, ``[N, 3, 3]``.
        rank: 1 for vectors, 2 for tensors.

    Returns:
        Features ``[..., N, dim]`` of the type :func:`ambient_types` gives, channels within a block by channel first:
        the multiplicity index of rank 2 is ``(channel, kind)``.

    Raises:
        ValueError: If a shape does not fit.
    """
    v = _with_channels(v, rank)
    channels = v.size(-2) if rank == 1 else v.size(-3)
    check_shape("frame", frame, v.size(-2 - rank), 3, 3, hint="one frame per node")
    frame = frame.to(v.dtype)
    types = ambient_types(channels, rank)
    if rank == 1:
        c = torch.einsum("nij,...ncj->...nci", frame, v)
        return types.join([c[..., 2:], c[..., :2]])
    t = torch.einsum("nij,...ncjk,nlk->...ncil", frame, v, frame)
    scalars = [_HALF * (t[..., 0, 0] + t[..., 1, 1]), t[..., 2, 2], _HALF * (t[..., 1, 0] - t[..., 0, 1])]
    vectors = torch.stack([t[..., :2, 2], t[..., 2, :2]], dim=-2)
    twos = _HALF * torch.stack([t[..., 0, 0] - t[..., 1, 1], t[..., 0, 1] + t[..., 1, 0]], dim=-1)
    return types.join([torch.stack(scalars, dim=-1).flatten(-2)[..., None], vectors.flatten(-3, -2), twos])


def to_ambient(x: Tensor, frame: Tensor, rank: int = 1) -> Tensor:
    """Writes features as vectors or tensors of space, the inverse of :func:`from_ambient`.

    Args:
        x: ``[..., N, dim]`` of the type :func:`ambient_types` gives for some number of channels.
        frame: Orthonormal rows e1, e2, n, ``[N, 3, 3]``.
        rank: 1 for vectors, 2 for tensors.

    Returns:
        ``[..., N, C, 3]`` or ``[..., N, C, 3, 3]``.

    Raises:
        ValueError: If a shape does not fit.
    """
    width = ambient_types(1, rank).dim
    check_shape("x", x, "...", "N", "dim")
    if x.size(-1) % width:
        raise ValueError(f"x must have a multiple of {width} components for rank {rank}, got {list(x.shape)}")
    check_shape("frame", frame, x.size(-2), 3, 3, hint="one frame per node")
    frame = frame.to(x.dtype)
    blocks = ambient_types(x.size(-1) // width, rank).split(x)
    if rank == 1:
        return torch.einsum("nij,...nci->...ncj", frame, torch.cat([blocks[1], blocks[0]], dim=-1))
    return torch.einsum("nij,...ncik,nkl->...ncjl", frame, _matrix(blocks), frame)


def _matrix(blocks: list[Tensor]) -> Tensor:
    """The components ``[..., C, 3, 3]`` in the frame."""
    trace, t33, skew = blocks[0].squeeze(-1).unflatten(-1, (-1, 3)).unbind(-1)
    (t13, t23), (t31, t32) = (pair.unbind(-1) for pair in blocks[1].unflatten(-2, (-1, 2)).unbind(-2))
    even, odd = blocks[2].unbind(-1)
    rows = [
        torch.stack([_HALF * (trace + even), _HALF * (odd - skew), t13], dim=-1),
        torch.stack([_HALF * (odd + skew), _HALF * (trace - even), t23], dim=-1),
        torch.stack([t31, t32, t33], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def _with_channels(v: Tensor, rank: int) -> Tensor:
    ambient_types(0, rank)  # checks the rank
    tail = (3,) * rank
    if v.dim() == rank + 1:
        v = v.unsqueeze(1)
    if v.dim() < rank + 2 or v.shape[-rank:] != tail:
        shape = ", ".join(["..., N, C", *map(str, tail)])
        raise ValueError(f"v must have shape [{shape}] for rank {rank}, got {list(v.shape)}")
    return v
