"""Curvatures at vertices."""

import math

import torch
from torch import Tensor

from ._half_edges import half_edges
from ._lengths import corner_angles, cotangents, edge_lengths
from ._read import read_face, read_length, read_pos, read_simple_face
from ._vertices import face_normals, sum_at, vertex_area, vertex_normals


def gaussian_curvature(face: Tensor, length: Tensor, num_vertices: int, *, density: bool = False) -> Tensor:
    r"""Angle defects: how much of a full turn the corners at a vertex leave open.

    .. math:: K_i = 2\pi - \sum_{f \ni i} \alpha_{i,f} \quad \text{inside}, \qquad
        K_i = \pi - \sum_{f \ni i} \alpha_{i,f} \quad \text{on the boundary}

    and in general :math:`2\pi - \pi(d_i - f_i) - \sum\alpha` with ``d`` edges and ``f`` triangles at the vertex, so
    that the sum is :math:`2\pi\chi` on every mesh, non-manifold ones included (Gauss-Bonnet). It is the integral of the
    Gaussian curvature over the vertex, and inside the boundary it depends on lengths alone.

    Args:
        face: Corners of the triangles ``[3, F]``.
        length: Of the half-edges ``[3 F]``.
        num_vertices: Number of vertices.
        density: Whether to divide by the mixed area of the vertex, for curvature per area: 1 on the unit sphere.

    Returns:
        Float64, ``[N]``; zero at vertices of no triangle.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, a face that names a vertex twice; with ``density``: a
            triangle without area.

    Example:
        >>> from geomeq.groups import icosphere
        >>> s = icosphere(2)
        >>> f"{float(gaussian_curvature(s.face, edge_lengths(s.pos, s.face), 162).sum() / math.pi):.9f}"
        '4.000000000'
    """
    face = read_simple_face(face, num_vertices)
    length = read_length(length, face.size(1))
    he = half_edges(face, num_vertices)
    open_ends = torch.bincount(he.edges.flatten(), minlength=num_vertices) - torch.bincount(
        he.source, minlength=num_vertices
    )
    full = (math.pi * (2 - open_ends).double()).masked_fill(he.isolated_vertex, 0.0)
    defect = full - sum_at(he.source, corner_angles(length), num_vertices)
    return _per_area(defect, vertex_area(face, length, num_vertices, "mixed")) if density else defect


def mean_curvature(pos: Tensor, face: Tensor) -> Tensor:
    r"""Half the divergence of the outward normal: positive on a sphere, 1 over its radius.

    .. math:: H_i = \frac{1}{4 A_i} \, n_i \cdot \sum_j (\cot\alpha_{ij} + \cot\beta_{ij}) (p_i - p_j)

    with the mixed area of the vertex. On a boundary it is the value of an average over the neighbours inside it, and
    zero where there are none.

    Args:
        pos: Vertices ``[N, 3]``.
        face: Corners of the triangles ``[3, F]``, consistently oriented.

    Returns:
        Float64, ``[N]``; zero at vertices of no triangle.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, NaN, a triangle without area.

    Source: Meyer et al. (2003), Discrete differential-geometry operators for triangulated 2-manifolds
    """
    pos = read_pos(pos)
    face = read_simple_face(face, pos.size(0))
    length = edge_lengths(pos, face)
    he = half_edges(face, pos.size(0))
    pull = cotangents(length)[:, None] * (pos.double()[he.source] - pos.double()[he.target]) / 4
    total = sum_at(torch.cat([he.source, he.target]), torch.cat([pull, -pull]), pos.size(0))
    area = vertex_area(face, length, pos.size(0), "mixed")
    value = _per_area((total * vertex_normals(pos, face)).sum(dim=1), area)
    inside = ~he.boundary_vertex & ~he.isolated_vertex
    if bool(inside.all()):
        return value
    ends = torch.cat([he.edges, he.edges.flip(0)], dim=1)
    ends = ends[:, inside[ends[0]]]
    both = torch.stack([torch.ones_like(value), value], dim=1)[ends[0]]
    count, near = sum_at(ends[1], both, pos.size(0)).unbind(dim=1)
    return torch.where(inside, value, near / count.clamp(min=1))


def shape_operator(pos: Tensor, face: Tensor) -> Tensor:
    r"""How the normal turns along the surface, as a symmetric matrix in space.

    On each triangle the symmetric form ``S`` in its plane is fitted to :math:`S\, e = \Delta n` on the three edges,
    with normals taken at the vertices; a vertex has the mean of its triangles, weighted by area and turned into its
    tangent plane by the smallest rotation between the normals. So ``S v`` is the change of the normal along the
    tangent ``v``; ``S n = 0``; on a sphere of radius R it is 1/R in every tangent direction.

    Args:
        pos: Vertices ``[N, 3]``.
        face: Corners of the triangles ``[3, F]``, consistently oriented.

    Returns:
        ``[N, 3, 3]``, float64; zero at vertices of no triangle, and of triangles without area only.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, NaN.

    Source: Rusinkiewicz (2004), Estimating curvatures and their derivatives on triangle meshes
    """
    pos = read_pos(pos)
    face = read_face(face, pos.size(0))
    corner, normal = pos.double()[face], vertex_normals(pos, face)
    side = corner.roll(-1, dims=0) - corner
    e1, area = _first_axis(side)
    e2 = torch.linalg.cross(face_normals(pos, face), e1)
    plane = torch.stack([e1, e2], dim=1)  # [F, 2, 3]
    turn = normal[face].roll(-1, dims=0) - normal[face]
    form = _fit(_within(plane, side), _within(plane, turn))
    at = face.flatten()
    carry = _carry(face_normals(pos, face).repeat(3, 1), normal[at], plane.repeat(3, 1, 1))
    u, v = carry.unbind(dim=1)
    a, b, c = (entry.repeat(3)[:, None] for entry in form)
    tensor = (a * u + b * v)[:, :, None] * u[:, None, :] + (b * u + c * v)[:, :, None] * v[:, None, :]
    weight = area.repeat(3)
    total = sum_at(at, weight[:, None, None] * tensor, pos.size(0))
    return _per_area(total.flatten(1), sum_at(at, weight, pos.size(0))[:, None]).view(-1, 3, 3)


def principal_curvatures(pos: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
    """Largest and smallest curvature at each vertex, and the directions in which they are reached.

    Those of :func:`shape_operator`: positive where the surface bends away from its normal, as a sphere does.

    Args:
        pos: Vertices ``[N, 3]``.
        face: Corners of the triangles ``[3, F]``, consistently oriented.

    Returns:
        Curvatures ``[N, 2]``, the larger first, and unit tangents ``[N, 2, 3]`` of either sign, orthogonal to each
        other and to the normal; any such pair where the curvatures are equal. Float64.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, NaN.
    """
    normal = vertex_normals(pos, face)
    e1 = _any_orthogonal(normal)
    tangent = torch.stack([e1, torch.linalg.cross(normal, e1)], dim=1)
    form = torch.einsum("nak,nkl,nbl->nab", tangent, shape_operator(pos, face), tangent)
    middle, half = (form[:, 0, 0] + form[:, 1, 1]) / 2, (form[:, 0, 0] - form[:, 1, 1]) / 2
    radius, angle = torch.hypot(half, form[:, 0, 1]), torch.atan2(form[:, 0, 1], half) / 2
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    first = cos * tangent[:, 0] + sin * tangent[:, 1]
    second = cos * tangent[:, 1] - sin * tangent[:, 0]
    return torch.stack([middle + radius, middle - radius], dim=1), torch.stack([first, second], dim=1)


def _first_axis(side: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vector along the longest side of each triangle ``[F, 3]``, and the areas."""
    longest = side.square().sum(dim=2).argmax(dim=0)
    axis = side[longest, torch.arange(side.size(1), device=side.device)]
    size = axis.norm(dim=1, keepdim=True)
    area = torch.linalg.cross(side[0], side[1]).norm(dim=1) / 2
    return axis / torch.where(size > 0, size, torch.ones_like(size)), area


def _within(plane: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """First and second coordinates, each ``[3, F]``, of vectors ``[3, F, 3]`` in planes ``[F, 2, 3]``."""
    return (v * plane[:, 0]).sum(dim=2), (v * plane[:, 1]).sum(dim=2)


def _fit(side: tuple[Tensor, Tensor], turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Entries 11, 12, 22 of the symmetric ``S`` with ``S side = turn`` on three sides, by least squares.

    With P the sum of side side^T and R that of turn side^T and its transpose, the condition is S P + P S = R. In two
    dimensions S = (det(P) R + adj(P) R adj(P)) / (2 tr(P) det(P)).

    Args:
        side: First and second coordinates of the three sides, each ``[3, F]``.
        turn: The same of the changes of the normal.
    """
    (x, y), (s, t) = side, turn
    p, q, o = (x * x).sum(dim=0), (x * y).sum(dim=0), (y * y).sum(dim=0)
    a, b, c = 2 * (s * x).sum(dim=0), (s * y + t * x).sum(dim=0), 2 * (t * y).sum(dim=0)
    trace, det = p + o, p * o - q * q
    good = det > 1e-14 * trace.square()  # three sides in a line say nothing across it
    share = torch.where(good, 1 / torch.where(good, 2 * trace * det, 1.0), 0.0)
    return (
        share * (det * a + o * o * a - 2 * o * q * b + q * q * c),
        share * (det * b - o * q * a + (o * p + q * q) * b - p * q * c),
        share * (det * c + q * q * a - 2 * p * q * b + p * p * c),
    )


def _carry(source: Tensor, target: Tensor, plane: Tensor) -> Tensor:
    """Axes ``plane [F, 2, 3]`` turned by the smallest rotation from one normal to another."""
    half = source + target
    size = half.square().sum(dim=1, keepdim=True)
    flat = size < 1e-12  # opposite normals: leave the axes alone
    half = half * (2 / torch.where(flat, torch.ones_like(size), size))
    moved = plane - torch.einsum("fak,fk->fa", plane, target)[:, :, None] * half[:, None, :]
    return torch.where(flat[:, :, None], plane, moved)


def _any_orthogonal(normal: Tensor) -> Tensor:
    """A unit vector orthogonal to each normal ``[N, 3]``."""
    axis = torch.eye(3, dtype=normal.dtype, device=normal.device)[normal.abs().argmin(dim=1)]
    axis = axis - (axis * normal).sum(dim=1, keepdim=True) * normal
    return axis / axis.norm(dim=1, keepdim=True)


def _per_area(value: Tensor, area: Tensor) -> Tensor:
    """``value / area``, zero where there is no area."""
    some = area > 0
    return torch.where(some, value / torch.where(some, area, torch.ones_like(area)), 0.0)
