"""Areas and normals at vertices."""

import torch
from torch import Tensor

from ._lengths import corner_angles, cotangents, edge_lengths, face_areas
from ._read import read_face, read_length, read_pos

_TINY = 1e-12  # a sum of unit normals shorter than this has no direction


def sum_at(index: Tensor, values: Tensor, num: int) -> Tensor:
    """Sums ``values [H, ...]`` over equal ``index [H]``, giving ``[num, ...]``."""
    return values.new_zeros(num, *values.shape[1:]).index_add_(0, index, values)


def vertex_area(face: Tensor, length: Tensor, num_vertices: int, kind: str = "barycentric") -> Tensor:
    """Area that belongs to each vertex; all together are the area of the mesh.

    Args:
        face: Corners of the triangles ``[3, F]``.
        length: Of the half-edges, ``[3 F]``.
        num_vertices: Number of vertices.
        kind: ``"barycentric"``: a third of each triangle. ``"mixed"``: the part of each triangle nearest to the vertex
            (its Voronoi cell), and where the triangle is obtuse a half or quarters of it; better for curvatures.

    Returns:
        Areas, float64, ``[N]``; zero at vertices of no triangle.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, an unknown ``kind``; ``"mixed"``: a triangle without area.
    """
    face = read_face(face, num_vertices)
    length = read_length(length, face.size(1))
    if kind == "barycentric":
        share = (face_areas(length) / 3)[:, None].expand(-1, 3)
    elif kind == "mixed":
        share = _mixed_shares(length)
    else:
        raise ValueError(f"kind must be 'barycentric' or 'mixed', got {kind!r}")
    return sum_at(face.t().reshape(-1), share.reshape(-1), num_vertices)


def _mixed_shares(length: Tensor) -> Tensor:
    """Share of each corner in its triangle, ``[F, 3]``.

    Source: Meyer et al. (2003), Discrete differential-geometry operators for triangulated 2-manifolds
    """
    area = face_areas(length)[:, None]
    side, cot = length.view(-1, 3), cotangents(length).view(-1, 3)
    wedge = side.square() * cot / 8  # of the half-edge, at each of its ends
    voronoi = wedge + wedge.roll(1, dims=1)
    obtuse = cot.roll(-1, dims=1) < 0  # cot belongs to the corner opposite to the half-edge
    some = obtuse.any(dim=1, keepdim=True)
    return torch.where(some, torch.where(obtuse, area / 2, area / 4), voronoi)


def face_normals(pos: Tensor, face: Tensor) -> Tensor:
    """Unit normals of the triangles, counter-clockwise seen from their tip.

    Args:
        pos: Vertices ``[N, 3]``.
        face: Corners of the triangles ``[3, F]``.

    Returns:
        Normals, float64, ``[F, 3]``; zero for a triangle without area.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, NaN.
    """
    return _unit(_area_vectors(pos, face))


def vertex_normals(pos: Tensor, face: Tensor) -> Tensor:
    """Unit normals of the vertices: those of the faces, weighted by their angles at the vertex.

    They do not change when a triangle is cut in two. Where they cancel (norm below 1e-12) the faces are weighted by
    their areas instead; where that cancels too, or there is no face, the normal is (0, 0, 1).

    Args:
        pos: Vertices ``[N, 3]``.
        face: Corners of the triangles ``[3, F]``, consistently oriented.

    Returns:
        Normals, float64, ``[N, 3]``.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, NaN.

    Example:
        >>> from geomeq.groups import icosphere
        >>> s = icosphere(3)
        >>> float((vertex_normals(s.pos, s.face) * s.pos).sum(dim=1).min()) > 0.999
        True

    Source: Thuermer and Wuethrich (1998), Computing vertex normals from polygonal facets
    """
    pos = read_pos(pos)
    face = read_face(face, pos.size(0))
    corner = face.t().reshape(-1)
    vector = _area_vectors(pos, face)
    normal = _unit(vector)
    angle = corner_angles(edge_lengths(pos, face))
    total = sum_at(corner, angle[:, None] * normal.repeat_interleave(3, dim=0), pos.size(0))
    size = total.norm(dim=1)
    lost = (size < _TINY).nonzero().flatten()
    if lost.numel() == 0:
        return total / size[:, None]
    area = vector.norm(dim=1, keepdim=True)
    second = sum_at(corner, torch.cat([vector, area], dim=1).repeat_interleave(3, dim=0), pos.size(0))[lost]
    found = second[:, :3].norm(dim=1) > _TINY * second[:, 3]
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, device=pos.device)
    total = total.index_copy(0, lost, torch.where(found[:, None], second[:, :3], up))
    return total / total.norm(dim=1, keepdim=True)


def _unit(vector: Tensor) -> Tensor:
    """Vectors of length one; zero stays zero."""
    size = vector.norm(dim=1, keepdim=True)
    return torch.where(size > 0, vector / torch.where(size > 0, size, torch.ones_like(size)), 0.0)


def _area_vectors(pos: Tensor, face: Tensor) -> Tensor:
    """Normals as long as twice the area, ``[F, 3]``."""
    pos = read_pos(pos)
    a, b, c = pos.double()[read_face(face, pos.size(0))]
    return torch.linalg.cross(b - a, c - a)
