"""A mesh made ready for intrinsic geometry: oriented, healthy lengths, optionally Delaunay."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ._clean import repeated_faces
from ._flips import flip_to_delaunay
from ._half_edges import HalfEdges, half_edges
from ._lengths import edge_lengths, mollify
from ._log_map import sorted_pairs
from ._orient import orient
from ._read import degenerate, read_face, read_pos
from ._vertices import vertex_area


@dataclass(frozen=True)
class Surface:
    """An intrinsic triangulation of a mesh, and what was done to get it.

    Attributes:
        face: Corners of the triangles that were kept, neighbours agreeing about the outside, ``[3, F]``.
        half_edges: Of the intrinsic triangulation; the same triangles unless edges were flipped.
        length: Of its half-edges, ``[H]``.
        area: Of every vertex, before lengths were changed, ``[N]``.
        two_sided: Whether all neighbours agree.
        removed: Number of triangles removed, since they name a vertex twice or repeat another.
        turned: Number of triangles turned over.
        flipped: Number of edges flipped.
        mollified: Length added to every edge.
    """

    face: Tensor
    half_edges: HalfEdges
    length: Tensor
    area: Tensor
    two_sided: bool
    removed: int = 0
    turned: int = 0
    flipped: int = 0
    mollified: float = 0.0


def surface(pos: Tensor, face: Tensor, *, mollified: bool = True, delaunay: bool = False) -> Surface:
    """Orients a mesh, and gives it lengths that triangles can have.

    Args:
        pos: Vertices ``[N, 3]``.
        face: Corners of the triangles ``[3, F]``.
        mollified: Whether to lengthen all edges by the little that leaves no triangle flat,
            see :func:`geomeq.meshes.mollify`.
        delaunay: Whether to flip edges until the triangulation is intrinsic Delaunay,
            see :func:`geomeq.meshes.flip_to_delaunay`.

    Returns:
        The surface; also of meshes that are no manifold.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, NaN.
    """
    pos = read_pos(pos)
    given = read_face(face, pos.size(0))
    kept = given[:, ~degenerate(given)]
    kept = kept[:, ~repeated_faces(kept)]
    face, two_sided = orient(kept, pos)
    turned = int((face != kept).any(dim=0).sum())
    length = edge_lengths(pos, face)
    area = vertex_area(face, length, pos.size(0))
    added, flips = 0.0, 0
    if mollified:
        length, added = mollify(length)
    he = half_edges(face, pos.size(0))
    if delaunay and he.is_oriented_manifold:
        flat, length, flips = flip_to_delaunay(face, length)
        he = half_edges(flat, pos.size(0)) if flips else he
    return Surface(face, he, length, area, two_sided, given.size(1) - face.size(1), turned, flips, added)


def both_ways(edges: Tensor, num_vertices: int) -> Tensor:
    """Pairs in both directions, each once, without loops, sorted by target, then by source, ``[2, E]``."""
    source, target = torch.cat([edges, edges.flip(0)], dim=1)
    apart = source != target
    edge_index = torch.stack([source[apart], target[apart]])
    edge_index = edge_index[:, sorted_pairs(edge_index[0], edge_index[1], num_vertices)]
    fresh = torch.ones(edge_index.size(1), dtype=torch.bool)
    fresh[1:] = (edge_index[:, 1:] != edge_index[:, :-1]).any(dim=0)
    return edge_index[:, fresh]


def ring_pairs(edge_index: Tensor, num_vertices: int, rings: int) -> Tensor:
    """All pairs at most ``rings`` edges apart, without loops, sorted by target, then by source.

    Args:
        edge_index: Pairs in both directions, ``[2, E]``.
        num_vertices: Number of vertices.
        rings: At least 1.

    Returns:
        ``[2, E']``.
    """
    if rings == 1:
        return edge_index
    source, target = edge_index.numpy()
    step = csr_array((np.ones(source.size, dtype=np.int8), (target, source)), shape=(num_vertices, num_vertices))
    reach = step
    for _ in range(rings - 1):
        reach = (reach + reach @ step).astype(bool).astype(np.int8)
    target, source = reach.nonzero()
    return both_ways(torch.from_numpy(np.stack([source, target])).long(), num_vertices)
