"""Quadric decimation in rounds of edge collapses that do not touch each other."""

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from ._connect import touching_vertices
from ._half_edges import HalfEdges, half_edges

_ROUND = 1e-3  # pull of each vertex to where it was, next to that of its planes: keeps triangles round where it is flat
_RIM = 10.0  # weight of the planes that hold the boundary in place
_TURN = 0.2  # least cosine between a triangle's normal before and after


def decimate(pos: Tensor, face: Tensor, num: int) -> tuple[Tensor, Tensor, Tensor]:
    """Collapses edges until ``num`` vertices are left, or nothing can be collapsed without changing the topology.

    Each vertex carries the sum of the squared distances to planes: of the triangles it stands for, weighted by their
    areas, and upright ones along the boundary. In every round the cheapest edges that are apart from each other
    collapse, each to the point where the sum is least.

    Args:
        pos: Vertices ``[N, 3]``.
        face: Corners of the triangles ``[3, F]``.
        num: Number of vertices to keep, isolated ones included.

    Returns:
        Positions (float64, ``[M, 3]``), triangles ``[3, F']``, and the new number of each vertex, ``[N]``.
    """
    state = _Collapsing(pos.detach().cpu().double().numpy(), face.cpu().numpy())
    while state.left > num and state.collapse(state.left - num):
        pass
    kept, number = np.unique(state.owner, return_inverse=True)
    new = np.full(len(state.pos), -1)
    new[kept] = np.arange(kept.size)
    where = state.pos[kept] * state.scale + state.middle
    results = (where, new[state.face], number.reshape(-1))
    first, second, third = (torch.from_numpy(np.ascontiguousarray(x)).to(pos.device) for x in results)
    return first, second, third


class _Collapsing:
    """A mesh in the middle of its decimation; vertices keep their numbers."""

    def __init__(self, pos: np.ndarray, face: np.ndarray) -> None:
        self.middle = pos.mean(axis=0)
        self.scale = max(float(np.ptp(pos, axis=0).max()), 1e-300)
        self.pos, self.face = (pos - self.middle) / self.scale, face
        self.owner = np.arange(len(pos))
        self.left = len(pos)
        he = half_edges(torch.from_numpy(face), len(pos))
        self.quadric = _quadrics(self.pos, face, he)
        self.frozen = touching_vertices(he)  # a collapse makes no new defects
        self.frozen[he.edges[:, he.nonmanifold_edge].flatten()] = True

    def collapse(self, most: int) -> int:
        """Collapses up to ``most`` edges; their number."""
        he = half_edges(torch.from_numpy(self.face), len(self.pos))
        edges = _free_edges(he, self.frozen)
        place, cost = _best_places(self.quadric[edges[0]] + self.quadric[edges[1]])
        for share in (4, 1):  # first among the cheapest quarter, then among all
            some = _cheapest(cost, max(64, cost.size // share))
            some = some[_keeps_topology(he, edges[:, some])]
            some = some[self._keeps_sides(edges[:, some], place[some])]
            chosen = some[_apart(he, edges[:, some], cost[some])][:most]
            if chosen.size:
                self._merge(edges[:, chosen], place[chosen])
                return chosen.size
        return 0

    def _keeps_sides(self, edges: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Whether no triangle would turn over."""
        good = np.ones(edges.shape[1], dtype=bool)
        order = np.argsort(self.face.reshape(-1), kind="stable")
        first = np.searchsorted(self.face.reshape(-1)[order], np.arange(len(self.pos) + 1))
        for moved, other in (edges, edges[::-1]):
            count = first[moved + 1] - first[moved]
            edge = np.repeat(np.arange(moved.size), count)
            spot = order[np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + first[moved][edge]]
            corner, triangle = spot // self.face.shape[1], spot % self.face.shape[1]
            stays = ~(self.face[:, triangle] == other[edge]).any(axis=0)
            edge, corner, triangle = edge[stays], corner[stays], triangle[stays]
            a = self.pos[self.face[(corner + 1) % 3, triangle]]
            b = self.pos[self.face[(corner + 2) % 3, triangle]]
            old, new = (np.cross(a - apex, b - apex) for apex in (self.pos[moved][edge], place[edge]))
            size = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
            good[edge[(old * new).sum(axis=1) < _TURN * size]] = False
        return good

    def _merge(self, edges: np.ndarray, place: np.ndarray) -> None:
        kept, gone = edges
        self.pos[kept] = place
        self.quadric[kept] += self.quadric[gone]
        new = np.arange(len(self.pos))
        new[gone] = kept
        self.owner = new[self.owner]
        self.face = new[self.face]
        self.face = self.face[:, (self.face != np.roll(self.face, -1, axis=0)).all(axis=0)]
        self.left -= gone.size


def _quadrics(pos: np.ndarray, face: np.ndarray, he: HalfEdges) -> np.ndarray:
    """Symmetric ``[N, 4, 4]`` whose form at (p, 1) is the weighted sum of squared distances to planes."""
    a, b, c = pos[face]
    vector = np.cross(b - a, c - a)
    size = np.linalg.norm(vector, axis=1)
    normal = vector / np.where(size > 0, size, 1)[:, None]
    rim = he.boundary_half_edge.numpy()
    start, end = he.source.numpy()[rim], he.target.numpy()[rim]
    along = pos[end] - pos[start]
    upright = np.cross(along, normal[he.face.numpy()[rim]])  # as long as the edge
    length = np.linalg.norm(along, axis=1)
    upright /= np.where(length > 0, length, 1)[:, None]
    out = np.zeros((len(pos), 4, 4))
    planes = _planes(normal, a, size / 2)
    for corner in face:
        np.add.at(out, corner, planes)
    planes = _planes(upright, pos[start], _RIM * length**2)
    for corner in (start, end):
        np.add.at(out, corner, planes)
    pull = _ROUND * (out[:, 0, 0] + out[:, 1, 1] + out[:, 2, 2]) + 1e-30
    out[:, [0, 1, 2], [0, 1, 2]] += pull[:, None]
    out[:, :3, 3] -= pull[:, None] * pos
    out[:, 3, :3] -= pull[:, None] * pos
    out[:, 3, 3] += pull * (pos**2).sum(axis=1)
    return out


def _planes(normal: np.ndarray, point: np.ndarray, weight: np.ndarray) -> np.ndarray:
    plane = np.concatenate([normal, -(normal * point).sum(axis=1, keepdims=True)], axis=1)
    return weight[:, None, None] * plane[:, :, None] * plane[:, None, :]


def _best_places(quadric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each form is least, ``[E, 3]``, and its value there, by Cramer's rule."""
    x, y, z = quadric[:, 0, :3], quadric[:, 1, :3], quadric[:, 2, :3]
    yz = np.cross(y, z)
    right = -quadric[:, :3, 3]
    det = (x * yz).sum(axis=1)
    place = (right[:, :1] * yz + right[:, 1:2] * np.cross(z, x) + right[:, 2:] * np.cross(x, y)) / det[:, None]
    cost = quadric[:, 3, 3] - (right * place).sum(axis=1)
    return place, np.maximum(cost, 0)


def _free_edges(he: HalfEdges, frozen: Tensor) -> np.ndarray:
    """Edges ``[2, E]`` that lie on no defect and do not cut through between two boundary vertices."""
    at_rim = he.boundary_vertex[he.edges]
    free = ~frozen[he.edges].any(dim=0) & (he.boundary_edge | ~at_rim.all(dim=0))
    return he.edges[:, free].numpy()


def _cheapest(cost: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` cheapest, cheapest first."""
    if count < cost.size:
        some = np.argpartition(cost, count)[:count]
        return some[np.lexsort((some, cost[some]))]
    return np.argsort(cost, kind="stable")


def _keeps_topology(he: HalfEdges, edges: np.ndarray) -> np.ndarray:
    """The link condition: the ends have no common neighbours but the tips of the edge's own triangles.

    And these are not all the triangles there are: a single triangle or a tetrahedron cannot get smaller.
    """
    i, j = he.edges.numpy()
    ones = np.ones(2 * i.size, dtype=np.int32)
    near = csr_matrix((ones, (np.concatenate([i, j]), np.concatenate([j, i]))), shape=(he.num_vertices,) * 2)
    common = np.asarray(near[edges[0]].multiply(near[edges[1]]).sum(axis=1)).reshape(-1)
    rim = np.zeros(he.num_vertices, dtype=bool)
    rim[he.boundary_vertex.numpy()] = True
    outer = rim[edges].all(axis=0)  # inner edges between two boundary vertices have been left out
    count = np.bincount(he.source.numpy(), minlength=he.num_vertices)[edges]
    least = (count == np.where(outer, 1, 3)).all(axis=0)
    return (common == np.where(outer, 1, 2)) & ~least


def _apart(he: HalfEdges, edges: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Numbers, cheapest first, of edges that are the cheapest of all at their ends and at the neighbours of these."""
    rank = np.empty(cost.size)
    order = np.lexsort((np.arange(cost.size), cost))
    rank[order] = np.arange(cost.size)
    best = np.full(he.num_vertices, np.inf)
    np.minimum.at(best, edges[0], rank)
    np.minimum.at(best, edges[1], rank)
    around, (i, j) = best.copy(), he.edges.numpy()
    np.minimum.at(around, i, best[j])
    np.minimum.at(around, j, best[i])
    return order[(around[edges[0]] == rank)[order] & (around[edges[1]] == rank)[order]]
