r"""Frames of edges and the Wigner rows that turn features into them.

A frame sends the direction of an edge to the polar axis y. In it, the spherical harmonics of the edge have only their
:math:`m = 0` component, so Clebsch-Gordan products become one small matrix per :math:`|m|`.
"""

import torch
from torch import Tensor

from geomeq._checks import check_shape
from geomeq.groups._lasting import lasting
from geomeq.groups.wigner import degree_lift, wigner_blocks
from geomeq.ops.edge_rotation import EdgeLayout

from .spherical import direction

__all__ = ["edge_frames", "edge_wigner", "wigner_blocks"]


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


def edge_wigner(vec: Tensor, lmax: int, mmax: int | None = None) -> Tensor:
    r"""Rows of the Wigner matrices of :func:`edge_frames`, those with :math:`|m| \le M` only.

    .. math::
        D^l_{m \cdot} = \frac{1}{c_{lm}} (D^{l-1}_{m \cdot} \otimes u)\, C^{l-1,1,l} \quad (|m| < l),
        \qquad c_{lm} = C^{l-1,1,l}_{m 0 m}

    with the direction :math:`u` of the edge: row m of degree l follows from the same row of degree l - 1, so rows that
    are not wanted are never computed. Only :math:`D^l_{\pm l \cdot}`, for l up to M, take the other rows of the
    frame. Polynomials in the entries of the frame, so smooth at the poles too, and differentiable to any order; no
    Euler angles. An error in a row grows by at most
    :math:`\prod_l l / \sqrt{l^2 - m^2}` (1.8 for m = 2, L = 6).

    Args:
        vec: Edge vectors, ``[E, 3]``, any unit.
        lmax: Highest degree, L.
        mmax: Highest order in the frame, M; all by default.

    Returns:
        ``[E, T]``, flat: one row after the other in the order of :class:`geomeq.ops.EdgeLayout`. The first
        :math:`(L+1)^2` numbers are the rows m = 0: the harmonics of the edge divided by :math:`\sqrt{2l+1}`.

    Example:
        >>> edge_wigner(torch.tensor([[0.0, 2.0, 0.0]]), lmax=1, mmax=0)
        tensor([[1., 0., 1., 0.]])
    """
    layout = EdgeLayout(lmax, mmax)
    frame = edge_frames(vec)
    rows = {(0, 0): torch.ones_like(vec[:, :1])}
    below = rows[0, 0][:, None]
    for degree in range(1, lmax + 1):
        below = _next_degree(below, frame, degree, layout.mmax)
        top = min(degree, layout.mmax)
        rows |= {(degree, m): row for m, row in zip(range(-top, top + 1), below.unbind(1), strict=True)}
    ordered = [rows[key] for key in zip(layout.degrees, layout.signed_orders, strict=True)]
    return torch.cat(ordered, dim=1)


def _next_degree(below: Tensor, frame: Tensor, degree: int, mmax: int) -> Tensor:
    """Rows ``[E, 2 min(l, M) + 1, 2l + 1]`` from those of degree l - 1."""
    lift, inverse, ladder = (table.to(below) for table in _tables(degree))
    top = min(degree - 1, mmax)
    rows = (below[..., None] * frame[:, 1, None, None]).flatten(2) @ lift
    rows = rows * inverse[degree - 1 - top : degree + top, None]
    if mmax < degree:
        return rows
    # The outermost rows from those of degree l - 1 and the two axes across the edge.
    outer = below[:, [0, -1]] if degree > 1 else below
    pairs = outer[:, :, None, :, None] * frame[:, None, [0, 2], None, :]
    first, last = (ladder @ (pairs.flatten(3).flatten(1, 2) @ lift)).split(1, dim=1)
    return torch.cat([first, rows, last], dim=1)


_TABLES: dict[int, tuple[Tensor, Tensor, Tensor]] = {}


@lasting
def _tables(degree: int) -> tuple[Tensor, Tensor, Tensor]:
    """3j symbols ``[3 (2l-1), 2l+1]``, 1 / c for |m| < l ``[2l-1]``, and how pairs of rows make m = -l and l."""
    if degree not in _TABLES:
        lift, below = degree_lift(degree), degree - 1
        orders = range(-below, below + 1)
        inverse = torch.tensor([1 / lift[below + m, 1, degree + m].item() for m in orders], dtype=torch.float64)
        ends = [0, -1] if degree > 1 else [0]
        ladder = torch.stack([lift[ends][:, [0, 2]][..., side].flatten() for side in (0, -1)])
        _TABLES[degree] = (lift.flatten(0, 1), inverse, ladder)
    return _TABLES[degree]


for _degree in range(1, 9):  # torch.compile cannot trace how they are made, only look them up
    _tables(_degree)
