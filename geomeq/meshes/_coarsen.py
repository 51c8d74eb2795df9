"""Coarser meshes, and which coarse vertex stands for each fine one."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor
from torch_geometric.data import Data

from ..neighbors import farthest_points
from ..neighbors._farthest import _share
from ._connect import vertex_parts
from ._half_edges import HalfEdges, half_edges
from ._quadric import decimate
from ._read import degenerate, read_mesh, read_pos, read_simple_face
from ._report import repeated_faces

METHODS = ("farthest", "quadric")


@dataclass(frozen=True)
class Coarsening:
    """A coarse mesh and how the fine one lies over it.

    Attributes:
        mesh: ``pos`` ``[M, 3]`` and ``face`` ``[3, F']`` of the coarse mesh.
        pool_index: Coarse vertex that stands for each fine one, ``[N]``; every coarse vertex stands for some.
        centre: Fine vertex at, or nearest to, each coarse one among those it stands for, ``[M]``.
    """

    mesh: Data
    pool_index: Tensor
    centre: Tensor


def coarsen(data: Data, num_or_ratio: int | float, method: str = "farthest") -> Coarsening:
    """Builds a coarser mesh.

    ``"farthest"`` keeps vertices as they are: those that farthest point sampling chooses (by distances in space), and
    one of every part that got none. Each fine vertex belongs to the chosen one that is nearest along edges, so that no
    cluster jumps across a thin part. Coarse triangles join clusters that meet in a fine triangle; where a cluster is
    no disk, as on a tube thinner than the spacing, they may leave gaps or meet more than two at an edge.

    ``"quadric"`` collapses edges where that moves the surface least, and places the remaining vertices anew: the
    better surface, at vertices that are no longer those of the fine mesh. Its topology stays, holes and handles
    included; triangles are not turned over, and vertices of no triangle or on a non-manifold edge are left alone.

    Args:
        data: Holds ``pos`` ``[N, 3]`` and ``face`` ``[3, F]``.
        num_or_ratio: An ``int``: vertices to keep. A ``float`` in (0, 1]: the part of the vertices, rounded up. There
            are more if the mesh has more parts, or its topology needs more.
        method: ``"farthest"`` or ``"quadric"``.

    Returns:
        The coarse mesh with the map to it.

    Raises:
        TypeError: For a wrong dtype or count.
        ValueError: For a missing attribute, a wrong shape, NaN, a face that names a vertex twice, no vertices, a count
            or ratio out of range, an unknown method.

    Example:
        >>> from geomeq.groups import icosphere
        >>> s = icosphere(3)
        >>> coarse = coarsen(Data(pos=s.pos, face=s.face), 0.25)
        >>> coarse.mesh.pos.size(0), coarse.pool_index.shape, torch.equal(coarse.mesh.pos, s.pos[coarse.centre])
        (161, torch.Size([642]), True)

    Source of "quadric": Garland and Heckbert (1997), https://doi.org/10.1145/258734.258849
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    pos, face = read_mesh(data)
    pos, face = read_pos(pos).detach(), read_simple_face(face, pos.size(0))
    if pos.size(0) == 0:
        raise ValueError("the mesh must have a vertex, got none")
    if method == "quadric":
        return _quadric(pos, face, num_or_ratio)
    he = half_edges(face, pos.size(0))
    centre = _one_per_part(farthest_points(pos, num_or_ratio), vertex_parts(he))
    pool_index = nearest_along_edges(pos, he, centre)
    return Coarsening(Data(pos=pos[centre], face=_joined(face, pool_index)), pool_index, centre)


def nearest_along_edges(pos: Tensor, he: HalfEdges, centre: Tensor) -> Tensor:
    """Number ``[N]`` of the centre nearest to each vertex along edges; each part of the mesh must have one."""
    i, j = (ends.cpu().numpy() for ends in he.edges)
    length = (pos.double()[he.edges[0]] - pos.double()[he.edges[1]]).norm(dim=1).cpu().numpy()
    length = np.maximum(length, 1e-300)  # a zero would be no edge at all
    graph = csr_matrix((length, (i, j)), shape=(he.num_vertices, he.num_vertices))
    chosen = centre.cpu().numpy()
    _, _, source = dijkstra(graph, directed=False, indices=chosen, min_only=True, return_predecessors=True)
    number = np.full(he.num_vertices, -1)
    number[chosen] = np.arange(chosen.size)
    return torch.from_numpy(number[source]).to(pos.device)


def _one_per_part(chosen: Tensor, part: Tensor) -> Tensor:
    """The chosen vertices and the first vertex of every part without one."""
    count = int(part.amax()) + 1
    first = torch.full((count,), part.numel(), dtype=torch.int64, device=part.device)
    first.scatter_reduce_(0, part, torch.arange(part.numel(), device=part.device), "amin")
    missing = torch.ones(count, dtype=torch.bool, device=part.device)
    missing[part[chosen]] = False
    return torch.cat([chosen, first[missing]])


def _joined(face: Tensor, pool_index: Tensor) -> Tensor:
    """Triangles between the clusters that meet in a triangle."""
    coarse = pool_index[face]
    coarse = coarse[:, ~degenerate(coarse)]
    return coarse[:, ~repeated_faces(coarse)]


def _quadric(pos: Tensor, face: Tensor, num_or_ratio: int | float) -> Coarsening:
    place, coarse, pool_index = decimate(pos, face, _share(pos.size(0), num_or_ratio))
    centre = _nearest_member(pos.double(), place, pool_index)
    return Coarsening(Data(pos=place.to(pos.dtype), face=coarse), pool_index, centre)


def _nearest_member(pos: Tensor, placed: Tensor, pool_index: Tensor) -> Tensor:
    """Of the fine vertices of each coarse one, the nearest to it (the first of several)."""
    away = (pos - placed[pool_index]).square().sum(dim=1)
    least = torch.full((len(placed),), torch.inf, dtype=away.dtype, device=pos.device)
    least.scatter_reduce_(0, pool_index, away, "amin")
    nearest = (away == least[pool_index]).nonzero().flatten().flip(0)
    centre = torch.empty(len(placed), dtype=torch.int64, device=pos.device)
    centre[pool_index[nearest]] = nearest
    return centre
