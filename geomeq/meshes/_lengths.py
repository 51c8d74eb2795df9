"""Lengths of half-edges, and the angles and areas that follow from them alone."""

import math

import torch
from torch import Tensor

from ._read import read_face, read_length, read_pos


def edge_lengths(pos: Tensor, face: Tensor) -> Tensor:
    """Lengths of all half-edges.

    Differentiable in ``pos``, except at edges of length zero.

    Args:
        pos: Vertices ``[N, 3]``, float32 or float64.
        face: Corners of the triangles ``[3, F]``.

    Returns:
        Entry ``3 f + c`` is the distance from ``face[c, f]`` to ``face[(c + 1) % 3, f]``, float64, ``[3 F]``; bitwise
        equal on both sides of an edge.

    Raises:
        TypeError: For another dtype.
        ValueError: For another shape, a vertex out of range, NaN.

    Example:
        >>> edge_lengths(torch.tensor([[0.0, 0, 0], [3, 0, 0], [3, 4, 0]]), torch.tensor([[0], [1], [2]])).tolist()
        [3.0, 4.0, 5.0]
    """
    pos = read_pos(pos)
    face = read_face(face, pos.size(0))
    corner = pos.double()[face]
    return (corner.roll(-1, dims=0) - corner).norm(dim=2).t().reshape(-1)


def corner_angles(length: Tensor) -> Tensor:
    r"""Angle of every corner, from the lengths of the sides.

    .. math:: \tan \tfrac{\alpha}{2} = \sqrt{\frac{y z}{s x}}, \quad x = \tfrac{b + c - a}{2}, \;
        y = \tfrac{a + c - b}{2}, \; z = \tfrac{a + b - c}{2}, \; s = x + y + z

    with the side ``a`` opposite to the angle. The differences are taken in an order that does not cancel (Kahan), and
    the three angles of a triangle add up to pi for any lengths at all: a broken triangle inequality is read as a flat
    triangle (angles pi, 0, 0), and corners whose angle is not defined, at a side of length zero, share what the others
    leave of pi.

    Differentiable in ``length``, except at flat triangles.

    Args:
        length: Of the half-edges, ``[3 F]``.

    Returns:
        Angle at the source of every half-edge in its own triangle, radians, float64, ``[3 F]``.

    Raises:
        TypeError: If ``length`` is not floating point.
        ValueError: For another shape, negative lengths, NaN.

    Example:
        >>> torch.rad2deg(corner_angles(torch.tensor([3.0, 4.0, 5.0]))).round(decimals=2).tolist()
        [53.13, 90.0, 36.87]

    Source: Kahan (2014), https://people.eecs.berkeley.edu/~wkahan/Triangle.pdf
    """
    x, y, z, s = _halves(read_length(length))
    over, under = y * z, s * x
    undefined = (over == 0) & (under == 0)
    if not bool(undefined.any()):
        return 2 * torch.atan2(over.sqrt(), under.sqrt()).reshape(-1)
    one = torch.ones_like(over)
    angle = 2 * torch.atan2(torch.where(undefined, one, over).sqrt(), torch.where(undefined, one, under).sqrt())
    angle = angle.masked_fill(undefined, 0.0)
    left = (math.pi - angle.sum(dim=1, keepdim=True)) / undefined.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(undefined, left, angle).reshape(-1)


def face_areas(length: Tensor) -> Tensor:
    """Area of every triangle from its sides, by Heron's formula in a stable order.

    Args:
        length: Of the half-edges, ``[3 F]``.

    Returns:
        Areas, float64, ``[F]``; zero where the triangle inequality fails.

    Raises:
        TypeError: If ``length`` is not floating point.
        ValueError: For another shape, negative lengths, NaN.

    Example:
        >>> face_areas(torch.tensor([3.0, 4.0, 5.0])).item()
        6.0
    """
    x, y, z, s = _halves(read_length(length))
    return ((s * x)[:, 0] * (y * z)[:, 0]).sqrt()


def cotangents(length: Tensor) -> Tensor:
    """Cotangent of the angle opposite to every half-edge, from the lengths.

    Args:
        length: Of the half-edges, ``[3 F]``.

    Returns:
        Cotangents, float64, ``[3 F]``.

    Raises:
        TypeError: If ``length`` is not floating point.
        ValueError: For another shape, negative lengths, NaN, or a triangle without an area.
    """
    x, y, z, s = _halves(read_length(length))
    over, under = s * x - y * z, 2 * ((s * x) * (y * z)).sqrt()
    flat = (under <= 0).any(dim=1)
    if bool(flat.any()):
        raise ValueError(
            f"{int(flat.sum())} triangles have no area, the first is face {int(flat.nonzero()[0])}; "
            "apply geomeq.meshes.mollify to the lengths or remove these faces with geomeq.meshes.clean"
        )
    return (over / under).roll(1, dims=1).reshape(-1)  # the corner opposite to h = (c, c + 1) is c + 2


def mollify(length: Tensor, relative: float = 1e-5) -> tuple[Tensor, float]:
    r"""Lengthens all edges by the same smallest amount that leaves no triangle flat.

    .. math:: \epsilon = \max(0, \max_{abc} (\delta - (a + b - c))), \quad \delta = \text{relative} \cdot
        \text{mean length}

    Vertices stay; only lengths change, and only if needed: then by the same amount everywhere, so that both sides of
    an edge still agree. This repairs zero edges, zero areas and broken triangle inequalities.

    Args:
        length: Of the half-edges, ``[3 F]``.
        relative: Slack that every triangle inequality gets, as a part of the mean length.

    Returns:
        The lengths, float64, ``[3 F]``, and the amount added, 0 for a healthy mesh.

    Raises:
        TypeError: If ``length`` is not floating point.
        ValueError: For another shape, negative lengths, NaN, or a ``relative`` outside [0, 1).

    Example:
        >>> flat = torch.tensor([1.0, 1.0, 2.0])
        >>> longer, added = mollify(flat)
        >>> f"{added:.2e}", bool(face_areas(flat) > 0), bool(face_areas(longer) > 0)
        ('1.33e-05', False, True)

    Source: Sharp and Crane (2020), A Laplacian for nonmanifold triangle meshes, https://doi.org/10.1111/cgf.14069
    """
    length = read_length(length)
    if not 0 <= relative < 1:
        raise ValueError(f"relative must lie in [0, 1), got {relative}; 1e-5 is usual")
    if length.numel() == 0:
        return length, 0.0
    slack = 2 * _differences(length.detach()).amin()
    added = max(0.0, float(relative * length.detach().mean() - slack))
    return (length + added if added else length), added


def _halves(length: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``x, y, z`` of the corner formula at each corner, none negative, and ``s``, each ``[F, 3]``."""
    x = _differences(length).clamp(min=0.0)
    y, z = x.roll(-1, dims=1), x.roll(1, dims=1)
    s = (x + y) + z
    return x, y, z, s[:, :1].expand_as(s)  # one rounding of the sum for all three corners


def _differences(length: Tensor) -> Tensor:
    """Half of (b + c - a) at each corner, ``a`` the side opposite to it, ``[F, 3]``."""
    side = length.view(-1, 3)
    opposite, after, before = side.roll(-1, dims=1), side, side.roll(1, dims=1)
    high, low = torch.maximum(after, before), torch.minimum(after, before)
    return ((high - opposite) + low) / 2  # exact first difference where it matters (Sterbenz)
