"""Half-edges: who runs beside whom on a triangle mesh."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._read import read_simple_face


@dataclass(frozen=True)
class HalfEdges:
    """The sides of all triangles, each seen from its own triangle.

    Half-edge ``h = 3 f + c`` runs from ``face[c, f]`` to ``face[(c + 1) % 3, f]``, with triangle ``f`` on its left.
    All indices are int64.

    Attributes:
        source: Where a half-edge starts, ``[H]``.
        target: Where it ends, ``[H]``.
        next: The half-edge after it in its triangle, ``[H]``.
        prev: The half-edge before it in its triangle, ``[H]``.
        twin: The half-edge that runs back in the neighbouring triangle, ``[H]``; -1 where there is none: at a
            boundary, where more than two triangles meet, and where two triangles name the edge in the same direction.
        face: Its triangle, ``[H]``.
        edge: Number of its undirected edge, ``[H]``.
        edges: Ends ``i < j`` of every undirected edge, in lexicographic order, ``[2, num_edges]``.
        edge_count: Number of triangles at every edge, ``[num_edges]``.
        num_vertices: Number of vertices, ``N``, isolated ones included.
    """

    source: Tensor
    target: Tensor
    next: Tensor
    prev: Tensor
    twin: Tensor
    face: Tensor
    edge: Tensor
    edges: Tensor
    edge_count: Tensor
    num_vertices: int

    @property
    def num_half_edges(self) -> int:
        """``H``, three times the number of triangles."""
        return self.source.numel()

    @property
    def num_edges(self) -> int:
        """Number of undirected edges."""
        return self.edge_count.numel()

    @property
    def num_faces(self) -> int:
        """Number of triangles."""
        return self.source.numel() // 3

    @property
    def boundary_edge(self) -> Tensor:
        """Edges of a single triangle, bool ``[num_edges]``."""
        return self.edge_count == 1

    @property
    def nonmanifold_edge(self) -> Tensor:
        """Edges of more than two triangles, bool ``[num_edges]``."""
        return self.edge_count > 2

    @property
    def inconsistent_edge(self) -> Tensor:
        """Edges of two triangles that both run along it in the same direction, bool ``[num_edges]``."""
        lone = torch.zeros_like(self.edge_count, dtype=torch.bool)
        lone[self.edge[self.twin < 0]] = True
        return lone & (self.edge_count == 2)

    @property
    def boundary_half_edge(self) -> Tensor:
        """Half-edges whose edge belongs to a single triangle, bool ``[H]``."""
        return self.boundary_edge[self.edge]

    @property
    def boundary_vertex(self) -> Tensor:
        """Vertices on an edge of a single triangle, bool ``[N]``."""
        at = torch.zeros(self.num_vertices, dtype=torch.bool, device=self.source.device)
        at[self.edges[:, self.boundary_edge].flatten()] = True
        return at

    @property
    def isolated_vertex(self) -> Tensor:
        """Vertices of no triangle, bool ``[N]``."""
        alone = torch.ones(self.num_vertices, dtype=torch.bool, device=self.source.device)
        alone[self.source] = False
        return alone

    @property
    def is_oriented_manifold(self) -> bool:
        """Whether every edge has one triangle, or two that run along it in opposite directions.

        Vertices at which several sheets touch (bow ties) are not looked for; :func:`geomeq.meshes.inspect` does.
        """
        return bool((self.twin[~self.boundary_half_edge] >= 0).all())


def half_edges(face: Tensor, num_vertices: int) -> HalfEdges:
    """Builds the half-edges of a triangle mesh, in time of one sort.

    Args:
        face: Corners of the triangles, ``[3, F]``, integers.
        num_vertices: Number of vertices.

    Returns:
        The half-edges, on the device of ``face``.

    Raises:
        TypeError: If ``face`` holds no integers.
        ValueError: For another shape, a vertex out of range, or a face that names a vertex twice.

    Example:
        >>> he = half_edges(torch.tensor([[0, 0], [1, 2], [2, 3]]), num_vertices=4)  # two triangles on edge 0-2
        >>> he.twin.tolist(), he.num_edges
        ([-1, -1, 3, 2, -1, -1], 5)
    """
    face = read_simple_face(face, num_vertices)
    corner = torch.arange(3 * face.size(1), device=face.device).view(-1, 3)
    source = face.t().reshape(-1)
    target = face.roll(-1, dims=0).t().reshape(-1)
    low, high = torch.minimum(source, target), torch.maximum(source, target)
    order, sorted_key = _sort(low * num_vertices + high)
    start = torch.ones_like(sorted_key, dtype=torch.bool)
    start[1:] = sorted_key[1:] != sorted_key[:-1]
    first = start.nonzero().flatten()
    edge = torch.empty_like(source)
    edge[order] = start.cumsum(0) - 1
    edge_count = torch.diff(first, append=first.new_tensor([sorted_key.numel()]))
    key = sorted_key[first]
    return HalfEdges(
        source=source,
        target=target,
        next=corner.roll(-1, dims=1).reshape(-1),
        prev=corner.roll(1, dims=1).reshape(-1),
        twin=_twins(source, order, first[edge_count == 2]),
        face=corner.reshape(-1) // 3,
        edge=edge,
        edges=torch.stack([key // max(num_vertices, 1), key % max(num_vertices, 1)]),
        edge_count=edge_count,
        num_vertices=num_vertices,
    )


def _twins(source: Tensor, order: Tensor, first: Tensor) -> Tensor:
    """Twins, given the sorted half-edges and the place where each edge of two triangles begins in that order."""
    a, b = order[first], order[first + 1]
    opposite = source[a] != source[b]
    a, b = a[opposite], b[opposite]
    twin = torch.full_like(source, -1)
    twin[a], twin[b] = b, a
    return twin


def _sort(key: Tensor) -> tuple[Tensor, Tensor]:
    """The stable order of non-negative integers, and the sorted integers."""
    if key.device.type != "cpu":
        ordered = torch.sort(key, stable=True)
        return ordered.indices, ordered.values
    bits = key.numel().bit_length()
    if key.numel() and int(key.amax()).bit_length() + bits <= 62:
        packed = (key << bits | torch.arange(key.numel())).numpy()
        packed.sort()  # numpy sorts integers an order of magnitude faster than anything gives their order
        both = torch.from_numpy(packed)
        return both & ((1 << bits) - 1), both >> bits
    order = torch.from_numpy(np.argsort(key.numpy(), kind="stable"))
    return order, key[order]
