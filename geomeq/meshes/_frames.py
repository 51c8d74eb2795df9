"""Orthonormal frames of tangent planes in space, and polar coordinates by projection onto them."""

import math

import torch
from torch import Tensor

from ..groups import wrap_angle
from ._log_map import LogMap, reverse_pairs

_OPPOSITE = 1e-6  # normals whose cosine is closer to -1 than this have no smallest rotation between them
_STRAIGHT = 16  # power of chord over length by which an edge across a fold counts less
_STEEP = 1e-6  # an edge with a smaller part in the tangent plane has no direction there


def any_frames(normal: Tensor) -> Tensor:
    """Some right-handed orthonormal frame for each unit normal.

    Args:
        normal: ``[N, 3]``.

    Returns:
        Rows e1, e2, n, ``[N, 3, 3]``.

    Example:
        >>> frame = any_frames(torch.tensor([[0.0, 0.6, 0.8]]))[0]
        >>> bool(torch.allclose(frame @ frame.t(), torch.eye(3), atol=1e-6)), round(float(torch.linalg.det(frame)), 5)
        (True, 1.0)
    """
    x, y, z = normal.unbind(1)
    sign = torch.where(z < 0, -torch.ones_like(z), torch.ones_like(z))
    a = -1 / (sign + z)
    b = x * y * a
    e1 = torch.stack([1 + sign * x * x * a, sign * b, -sign * x], dim=1)
    e2 = torch.stack([b, sign + y * y * a, -y], dim=1)
    return torch.stack([e1, e2, normal], dim=1)


def turn_frames(frame: Tensor, angle: Tensor) -> Tensor:
    """Turns every frame about its normal, counter-clockwise.

    Args:
        frame: Rows e1, e2, n, ``[N, 3, 3]``.
        angle: Radians, ``[N]``.

    Returns:
        The new frames, ``[N, 3, 3]``.
    """
    cos, sin = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    e1, e2, normal = frame.unbind(1)
    return torch.stack([cos * e1 + sin * e2, cos * e2 - sin * e1, normal], dim=1)


def tangent_frames(pos: Tensor, normal: Tensor, log: LogMap) -> Tensor:
    r"""Places the frames in which ``log`` is written in space, as near as possible to the edges.

    .. math:: e_1 = \arg\max_{|e| = 1} \sum_j \mathrm{Re}\; \overline{z_j(e)}\, e^{i \varphi_{ij}}

    where :math:`z_j(e)` is the step to neighbour ``j`` projected onto the tangent plane, in the frame that begins
    with ``e``. On a plane this is exact. When all angles at a vertex turn, its frame turns by exactly as much, so it
    does not matter at which edge they began. Edges longer in the intrinsic triangulation than in space (flipped ones)
    count less.

    Args:
        pos: Vertices ``[N, 3]``.
        normal: Unit normals ``[N, 3]``.
        log: One ring, from :func:`geomeq.meshes.one_ring`.

    Returns:
        Rows e1, e2, n, right-handed, float64, ``[N, 3, 3]``; some frame around the normal where no edge has a
        direction.
    """
    frame = any_frames(normal.double())
    source, target = log.edge_index
    step = pos.double()[source] - pos.double()[target]
    radius, angle = log.polar.unbind(1)
    straight = torch.where(radius > 0, step.norm(dim=1) / torch.where(radius > 0, radius, torch.ones_like(radius)), 0.0)
    weight = straight.clamp(max=1.0) ** _STRAIGHT
    direction = torch.einsum("eij,ej->ei", frame[target, :2], step) * weight[:, None]
    cos, sin = torch.cos(angle), torch.sin(angle)
    along = torch.stack(
        [cos * direction[:, 0] + sin * direction[:, 1], cos * direction[:, 1] - sin * direction[:, 0]], 1
    )
    total = along.new_zeros(pos.size(0), 2).index_add_(0, target, along)
    return turn_frames(frame, torch.atan2(total[:, 1], total[:, 0]))


def projected_frames(pos: Tensor, normal: Tensor, edge_index: Tensor) -> Tensor:
    """Frames whose e1 is the direction of the neighbour with the lowest number, projected onto the tangent plane.

    A neighbour straight above does not count; without any other the frame is an arbitrary one around the normal.

    Args:
        pos: Points ``[N, 3]``.
        normal: Unit normals ``[N, 3]``.
        edge_index: Sorted by target, then by source, ``[2, E]``.

    Returns:
        Rows e1, e2, n, float64, ``[N, 3, 3]``.
    """
    frame = any_frames(normal.double())
    source, target = edge_index
    step = pos.double()[source] - pos.double()[target]
    flat = torch.einsum("eij,ej->ei", frame[target, :2], step)
    usable = (flat.norm(dim=1) > _STEEP * step.norm(dim=1)).nonzero().flatten()
    first = torch.full((pos.size(0),), source.numel(), dtype=torch.long)
    first.scatter_reduce_(0, target[usable], usable, "amin")
    has = first < source.numel()
    angle = torch.zeros(pos.size(0), dtype=torch.float64)
    angle[has] = torch.atan2(flat[first[has], 1], flat[first[has], 0])
    return turn_frames(frame, angle)


def project(pos: Tensor, frame: Tensor, edge_index: Tensor) -> LogMap:
    r"""Polar coordinates of neighbours by projection, for meshes of any kind and for points with normals.

    With :math:`d = p_j - p_i` the length is :math:`|d|`, that of the chord, the angle
    :math:`\operatorname{atan2}(e_2 d, e_1 d)`, and the transport the smallest rotation that takes :math:`n_j` to
    :math:`n_i`. Where the two normals are opposite there is no smallest one; then the direction along the edge
    continues, as in :func:`geomeq.meshes.one_ring`.

    Args:
        pos: Points ``[N, 3]``.
        frame: Rows e1, e2, n, ``[N, 3, 3]``.
        edge_index: Both directions of every pair, sorted by target, then by source, ``[2, E]``.

    Returns:
        The log map, float64.

    Raises:
        ValueError: If two neighbours lie at the same place.

    Source: de Haan et al. (2021), https://arxiv.org/abs/2003.05425
    """
    frame = frame.double()
    source, target = edge_index
    step = pos.double()[source] - pos.double()[target]
    radius = step.norm(dim=1)
    _reject_coincident(pos, edge_index, radius)
    flat = torch.einsum("eij,ej->ei", frame[target, :2], step)
    angle = wrap_angle(torch.atan2(flat[:, 1], flat[:, 0]))
    transport = projected_transport(frame[source], frame[target])
    opposite = opposite_normals(frame, edge_index).nonzero().flatten()
    if opposite.numel():
        back = reverse_pairs(edge_index, pos.size(0))[opposite]
        transport[opposite] = wrap_angle(angle[opposite] - angle[back] - math.pi)
    return LogMap(edge_index, torch.stack([radius, angle], dim=1), transport)


def opposite_normals(frame: Tensor, edge_index: Tensor) -> Tensor:
    """Pairs between which no smallest rotation takes one normal to the other, bool ``[E]``."""
    source, target = edge_index
    return (frame[source, 2] * frame[target, 2]).sum(dim=1) < -1 + _OPPOSITE


def projected_transport(source: Tensor, target: Tensor) -> Tensor:
    r"""Angle of the smallest rotation between two normals, read in their frames.

    .. math:: R = 1 + [v]_\times + \frac{[v]_\times^2}{1 + c}, \qquad v = n_j \times n_i, \quad c = n_j n_i

    On a sphere this is parallel transport along the great circle.

    Args:
        source: Frames ``j``, rows e1, e2, n, ``[E, 3, 3]``.
        target: Frames ``i``, ``[E, 3, 3]``.

    Returns:
        Turns components in frame ``j`` into components in frame ``i``, in (-pi, pi], ``[E]``; 0 for opposite normals.
    """
    axis = torch.linalg.cross(source[:, 2], target[:, 2])
    cosine = (source[:, 2] * target[:, 2]).sum(dim=1, keepdim=True)
    opposite = cosine < -1 + _OPPOSITE
    once = torch.linalg.cross(axis, source[:, 0])
    twice = torch.linalg.cross(axis, once)
    moved = source[:, 0] + once + twice / torch.where(opposite, torch.ones_like(cosine), 1 + cosine)
    x, y = (target[:, :2] * moved[:, None]).sum(dim=2).unbind(1)
    return torch.where(opposite[:, 0], torch.zeros_like(x), wrap_angle(torch.atan2(y, x)))


def _reject_coincident(pos: Tensor, edge_index: Tensor, radius: Tensor) -> None:
    zero = (radius == 0).nonzero().flatten()
    if zero.numel():
        a, b = sorted(edge_index[:, zero[0]].tolist())
        raise ValueError(
            f"neighbours {a} and {b} coincide at {pos[a].tolist()}, so one has no direction from the other; merge them "
            "with geomeq.meshes.clean(data, merge_duplicates=True)"
        )
