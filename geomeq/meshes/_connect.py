"""What hangs together: fans around vertices, parts of a mesh, its Euler characteristic."""

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ._half_edges import HalfEdges, half_edges
from ._read import degenerate, read_face


def labels(a: Tensor, b: Tensor, num: int) -> Tensor:
    """Number of the connected part of each of ``num`` nodes, given pairs ``(a, b)``; numbered by first appearance."""
    pairs = (np.ones(a.numel(), dtype=np.int8), (a.cpu().numpy(), b.cpu().numpy()))
    _, label = connected_components(coo_matrix(pairs, shape=(num, num)), directed=False)
    return torch.from_numpy(label.astype(np.int64)).to(a.device)


def beside(he: HalfEdges, every: bool = False) -> tuple[Tensor, Tensor]:
    """Pairs of half-edges on one edge of exactly two triangles, in either direction.

    Args:
        he: The half-edges.
        every: Whether to add edges of more triangles, each linked to the one after it.
    """
    order = torch.sort(he.edge, stable=True).indices
    a, b = order[:-1], order[1:]
    same = he.edge[a] == he.edge[b]
    if not every:
        same &= he.edge_count[he.edge[a]] == 2
    return a[same], b[same]


def fans(he: HalfEdges, every: bool = False) -> Tensor:
    """Number of the fan of each corner: corners of one vertex that follow each other across edges, ``[H]``.

    Corner ``h`` is the one at the source of half-edge ``h``. A vertex with more than one fan is where sheets touch.

    Args:
        he: The half-edges.
        every: Whether a fan goes on across edges of more than two triangles.
    """
    a, b = beside(he, every)
    opposite = he.source[a] != he.source[b]
    at_source, at_target = torch.where(opposite, he.next[b], b), torch.where(opposite, b, he.next[b])
    return labels(torch.cat([a, he.next[a]]), torch.cat([at_source, at_target]), he.num_half_edges)


def vertex_parts(he: HalfEdges) -> Tensor:
    """Number of the connected part of each vertex, ``[N]``; an isolated vertex is a part."""
    return labels(he.edges[0], he.edges[1], he.num_vertices)


def euler_characteristic(face: Tensor) -> int:
    """Vertices minus edges plus faces, counting only vertices of some face.

    2 for a sphere, 0 for a torus, 1 for a disk; two less for every handle, one less for every hole.

    Args:
        face: Corners of the triangles ``[3, F]``; a face that names a vertex twice is left out.

    Raises:
        TypeError: If ``face`` holds no integers.
        ValueError: For another shape or negative numbers.

    Example:
        >>> from geomeq.groups import icosphere
        >>> euler_characteristic(icosphere(2).face)
        2
    """
    face = read_face(face)
    face = face[:, ~degenerate(face)]
    return characteristic(half_edges(face, int(face.amax()) + 1 if face.numel() else 0))


def characteristic(he: HalfEdges) -> int:
    """Euler characteristic, isolated vertices left out."""
    return int((~he.isolated_vertex).sum()) - he.num_edges + he.num_faces


def boundary_loops(he: HalfEdges) -> int:
    """Number of closed curves that the boundary consists of."""
    edge = he.boundary_half_edge.nonzero().flatten()
    if edge.numel() == 0:
        return 0
    fan = fans(he)
    near, end = torch.unique(torch.stack([fan[edge], fan[he.next[edge]]]), return_inverse=True)
    return int(labels(end[0], end[1], near.numel()).amax()) + 1


def touching_vertices(he: HalfEdges) -> Tensor:
    """Vertices where sheets meet that share no edge there (bow ties), bool ``[N]``."""
    fan = fans(he, every=True)
    several = torch.zeros(he.num_vertices, dtype=torch.bool, device=fan.device)
    lowest = torch.full((he.num_vertices,), he.num_half_edges, dtype=torch.int64, device=fan.device)
    lowest.scatter_reduce_(0, he.source, fan, "amin")
    several[he.source[fan != lowest[he.source]]] = True
    return several
