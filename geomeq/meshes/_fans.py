"""The triangles around every vertex in their order: angles of the edges in the tangent plane."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..groups import wrap_angle
from ._half_edges import HalfEdges
from ._lengths import corner_angles
from ._log_map import LogMap, sorted_pairs

BOUNDARIES = ("plain", "flat")


class NotManifold(ValueError):
    """The triangles around some edge or vertex do not form one oriented fan."""


@dataclass(frozen=True)
class Fans:
    """What the fan of triangles around each vertex says about its tangent plane.

    Attributes:
        angle: Of every half-edge at its source, from the first edge of the fan, counter-clockwise, times ``scale``,
            radians, ``[H]``.
        corner: Angle of the triangle at the source of every half-edge, as it is, ``[H]``.
        total: Sum of the corner angles at each vertex, ``[N]``; zero without triangles.
        scale: What makes the angles of a vertex those of a plane, ``[N]``.
        boundary: Vertices whose fan has two ends, bool ``[N]``.
    """

    angle: Tensor
    corner: Tensor
    total: Tensor
    scale: Tensor
    boundary: Tensor


def fans(he: HalfEdges, length: Tensor, boundary: str = "plain") -> Fans:
    r"""Orders the triangles around every vertex and adds up their angles.

    .. math:: \varphi_{ij} = s_i \sum_{j' < j} \alpha_{i j'}, \qquad s_i = 2 \pi / \sum_{j'} \alpha_{i j'}

    counter-clockwise, inside the mesh from the neighbour of the lowest number, at a boundary from the edge that has no
    triangle on its right. Depends on lengths only, so bending the surface changes nothing. The fans are followed by
    pointer doubling: log2 of the largest number of edges at a vertex rounds, whatever the number of vertices.

    Args:
        he: Half-edges of an oriented manifold mesh.
        length: Of the half-edges, ``[H]``.
        boundary: Scale at a boundary vertex: ``"plain"``: 1, angles as they are. ``"flat"``: ``pi / total``, so that
            the boundary becomes a straight line.

    Returns:
        The fans, float64.

    Raises:
        NotManifold: (a ``ValueError``) If an edge has more than two triangles or two that disagree about their
            orientation, or if several fans meet at a vertex.
        ValueError: If ``boundary`` is unknown.

    Source: Knoeppel et al. (2013), Globally optimal direction fields, https://doi.org/10.1145/2461912.2462005
    """
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary must be one of {BOUNDARIES}, got {boundary!r}")
    _require_manifold(he)
    corner = corner_angles(length)
    num = he.num_vertices
    total = torch.zeros(num, dtype=corner.dtype).index_add_(0, he.source, corner)
    start = _first_of_fan(he)
    at_boundary = torch.zeros(num, dtype=torch.bool)
    at_boundary[he.source[he.twin < 0]] = True
    one = torch.ones_like(total)
    scale = torch.where(at_boundary, math.pi * one, 2 * math.pi * one) / torch.where(total > 0, total, one)
    if boundary == "plain":
        scale = torch.where(at_boundary, one, scale)
    scale = torch.where(total > 0, scale, one)
    return Fans(_walk(he, corner, start) * scale[he.source], corner, total, scale, at_boundary)


def fan_angles(he: HalfEdges, length: Tensor, boundary: str = "plain") -> Tensor:
    """Angle of every half-edge in the tangent plane of its source: ``angle`` of :func:`fans`.

    Args:
        he: Half-edges of an oriented manifold mesh.
        length: Of the half-edges, ``[H]``.
        boundary: As in :func:`fans`.

    Returns:
        Radians from the first edge of the fan, counter-clockwise, float64, ``[H]``.

    Raises:
        ValueError: As :func:`fans`.

    Example:
        >>> from geomeq.meshes import edge_lengths, half_edges
        >>> pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
        >>> face = torch.tensor([[0], [1], [2]])
        >>> fan_angles(half_edges(face, 3), edge_lengths(pos, face))
        tensor([0., 0., 0.], dtype=torch.float64)
    """
    return fans(he, length, boundary).angle


def one_ring(he: HalfEdges, length: Tensor, boundary: str = "plain") -> LogMap:
    r"""Neighbours of every vertex in polar coordinates, with the intrinsic transport.

    .. math:: r_{ij} = \ell_{ij}, \qquad g_{ij} = \varphi_{ij} - \varphi_{ji} - \pi

    A vector that points from ``j`` away from ``i`` continues in the direction from ``i`` to ``j``. Both directions of
    every edge are there, also at a boundary, and :math:`g_{ij} + g_{ji} = 0` modulo 2 pi.

    Args:
        he: Half-edges of an oriented manifold mesh.
        length: Of the half-edges, ``[H]``.
        boundary: As in :func:`fans`.

    Returns:
        The log map, float64.

    Raises:
        ValueError: As :func:`fans`.
    """
    return ring_of_fans(he, length, fans(he, length, boundary))


def ring_of_fans(he: HalfEdges, length: Tensor, fan: Fans) -> LogMap:
    """:func:`one_ring` of fans that are known already."""
    border = (he.twin < 0).nonzero().flatten()
    after = he.next[border]
    # seen from its target, a half-edge without twin is the last edge of the fan
    last = fan.angle[after] + fan.scale[he.source[after]] * fan.corner[after]
    at_target = fan.angle[he.twin]
    at_target[border] = last
    target, source = torch.cat([he.source, he.target[border]]), torch.cat([he.target, he.source[border]])
    here, there = torch.cat([fan.angle, last]), torch.cat([at_target, fan.angle[border]])
    radius = torch.cat([length.to(here.dtype), length.to(here.dtype)[border]])
    order = sorted_pairs(source, target, he.num_vertices)
    here, there = here[order], there[order]
    polar = torch.stack([radius[order], wrap_angle(here)], dim=1)
    return LogMap(torch.stack([source[order], target[order]]), polar, wrap_angle(here - there - math.pi))


def _require_manifold(he: HalfEdges) -> None:
    if he.is_oriented_manifold:
        return
    many, against = he.nonmanifold_edge, he.inconsistent_edge
    bad = (many | against).nonzero().flatten()
    raise NotManifold(
        f"fans need an oriented manifold, but {int(many.sum())} edges have more than two triangles and "
        f"{int(against.sum())} have two that disagree about their orientation (the first of them joins vertices "
        f"{he.edges[:, bad[0]].tolist()}); geomeq.meshes.orient repairs orientation where that is possible, "
        "transforms.MeshGauge(method='projected') does without"
    )


def _first_of_fan(he: HalfEdges) -> Tensor:
    """Marks one half-edge at every vertex with triangles, bool ``[H]``."""
    num, count = he.num_vertices, he.source.numel()
    number = torch.arange(count)
    lowest = torch.full((num,), num, dtype=torch.long).scatter_reduce_(0, he.source, he.target, "amin")
    candidate = he.target == lowest[he.source]
    open_fan = he.twin < 0
    ends = torch.bincount(he.source[open_fan], minlength=num)
    if bool((ends > 1).any()):
        _reject_vertices((ends > 1).nonzero().flatten())
    candidate = torch.where(ends[he.source] > 0, open_fan, candidate)
    first = torch.full((num,), count, dtype=torch.long)
    first.scatter_reduce_(0, he.source[candidate], number[candidate], "amin")  # one, also where neighbours repeat
    return first[he.source] == number


def _walk(he: HalfEdges, corner: Tensor, start: Tensor) -> Tensor:
    """Sum of the corner angles from the start of its fan to every half-edge, ``[H]``."""
    count = corner.numel()
    before = torch.where(start | (he.twin < 0), count, he.next[he.twin])  # the triangle on the right
    jump = torch.cat([before, before.new_tensor([count])])
    padded = torch.cat([corner, corner.new_zeros(1)])
    angle = padded[jump]
    largest = int(torch.bincount(he.source).max()) if count else 0
    for _ in range(largest.bit_length()):
        angle = angle + angle[jump]
        jump = jump[jump]
    astray = jump != count
    if bool(astray.any()):  # went round a fan in which nothing starts
        _reject_vertices(he.source[astray[:-1].nonzero().flatten()].unique())
    return angle[:-1]


def _reject_vertices(vertices: Tensor) -> None:
    raise NotManifold(
        f"several fans of triangles meet at {vertices.numel()} non-manifold vertices, the first is {int(vertices[0])}; "
        "split them, or use transforms.MeshGauge(method='projected')"
    )
