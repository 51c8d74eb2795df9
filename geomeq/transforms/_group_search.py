r"""Graphs on any sample of a group: candidates from a tree, exact distances, and proof that none was missed.

Where the places of two elements lie (points of the plane, of space, of the sphere) bounds their distance from below:
the chord between the places is at most the length of the spatial part :math:`c_S` of the logarithm, and
:math:`c^T R c \ge \lambda\, |c_S|^2` with the smallest eigenvalue of the Schur complement of R. So all pairs within a
squared distance :math:`r^2` have places within :math:`r / \sqrt\lambda`, which a KD-tree finds; k nearest neighbours
are certain once the k-th is nearer than that bound allows for what was not looked at. Groups without such a bound are
searched entirely.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from ..groups import S2, SE2, SE3, SO2, SO3, Rn, quaternion_from_rotation
from ..groups.group import GroupSample
from ._group_grid import Edges, Index, Mask
from ._group_metric import Metric
from ._group_table import TIE, Array, Growing

CHUNK = 200_000  # pairs whose logarithms are held at once

# Places of elements, and the local axes whose part of the logarithm is at least the chord between places.
PLACES: list[tuple[type, Callable[[Tensor], Tensor], slice]] = [
    (SE2, lambda a: a[..., :2], slice(0, 2)),  # the arc of a circle is longer than its chord
    (SE3, lambda a: a[..., :3, 3], slice(0, 3)),  # so is that of a screw
    (SO3, lambda a: a[..., :, 2], slice(0, 2)),  # turning by c moves e_z along an arc of length |(c1, c2)|
    (S2, lambda a: a, slice(0, 2)),
    (SO2, lambda a: torch.stack([torch.cos(a), torch.sin(a)], dim=-1), slice(0, 1)),
    (Rn, lambda a: a, slice(0, None)),
]


class Steps:
    """Logarithms ``log(g_i^-1 g_j u)`` for pairs of nodes and all elements u of the symmetry."""

    def __init__(self, group: Any, element: Tensor) -> None:
        self.group, self.element = group, element
        self.is_group = hasattr(group, "compose")
        self.symmetry = group.symmetry if self.is_group else None
        self.count = 1 if self.symmetry is None else len(self.symmetry)
        self._packed = self._pack()

    def _pack(self) -> list[Tensor]:
        turned = [self.element] if self.symmetry is None else [self._turned(u) for u in self.symmetry]
        if type(self.group) is SO3:
            return [quaternion_from_rotation(a) for a in turned]
        return turned

    def _turned(self, u: Tensor) -> Tensor:
        return self.group.compose(self.element, u.expand_as(self.element))

    def logs(self, i: Index, j: Index, u: int) -> Array:
        """``[P, dim]``, as seen from ``i``."""
        a, b = self._packed[0][torch.from_numpy(i)], self._packed[u][torch.from_numpy(j)]
        if type(self.group) is SO3:
            return _rotation_logs(a.numpy().T, b.numpy().T)
        return self.group.local_log(a, b).numpy()

    def reverse(self, i: Index, j: Index, u: Index, log: Array) -> Array:
        """The logarithms as seen from ``j``: ``-Ad_u log`` on a group, computed anew on a space."""
        if not self.is_group:
            return self.logs(j, i, 0)
        adjoint = self.group.adjoint(self.group.symmetry).numpy()
        whole = np.round(adjoint)
        adjoint = np.where(np.abs(adjoint - whole) < 1e-12, whole, adjoint)
        return -(adjoint[u] @ log[..., None])[..., 0] + 0.0


def _rotation_logs(a: Array, b: Array) -> Array:
    """Rotation vectors of ``a^-1 b`` for quaternions ``[4, P]``; several times faster than by matrices."""
    (aw, ax, ay, az), (bw, bx, by, bz) = a, b
    w = aw * bw + ax * bx + ay * by + az * bz
    x = aw * bx - ax * bw - ay * bz + az * by
    y = aw * by - ay * bw - az * bx + ax * bz
    z = aw * bz - az * bw - ax * by + ay * bx
    sine = np.sqrt(x * x + y * y + z * z)
    angle = 2 * np.arctan2(sine, np.abs(w))
    scale = np.divide(angle, sine, out=np.full_like(sine, 2.0), where=sine > 1e-150)
    scale = np.where(w < 0, -scale, scale)
    return np.stack([scale * x, scale * y, scale * z], axis=-1)


class Search:
    """Exact distances on one sample.

    Args:
        group: The group or space.
        sample: Its elements.
        metric: The metric, perhaps with the price of turning still open.
    """

    def __init__(self, group: Any, sample: GroupSample, metric: Metric) -> None:
        self.sample, self.metric = sample, metric
        self.steps = Steps(group, sample.element)
        self.num_nodes = len(sample.element)
        self.num_places, self.tree, self.bound = self._places(group)

    def _places(self, group: Any) -> tuple[int, cKDTree | None, float]:
        """Number of places (each with all orientations), a tree over them, and lambda."""
        found = next(((place, axes) for kind, place, axes in PLACES if isinstance(group, kind)), None)
        if found is None:
            return self.sample.num_spatial, None, 0.0
        place, axes = found
        points = place(self.sample.element)
        for u in group.symmetry if self.steps.is_group else ():
            if float((place(self.steps._turned(u)) - points).abs().max()) > 1e-12:
                return self.sample.num_spatial, None, 0.0
        inverse = np.linalg.inv(self.metric.at(1.0))  # of its spatial block, xi plays no part
        bound = 1 / float(np.linalg.eigvalsh(inverse[axes, axes])[-1])
        over = points.unflatten(0, (self.sample.num_orientations, self.sample.num_spatial))
        if float((over - over[:1]).abs().max()) > 1e-12:
            return self.num_nodes, cKDTree(points.numpy()), bound
        return self.sample.num_spatial, cKDTree(over[0].numpy()), bound

    @property
    def per_place(self) -> int:
        """Nodes at each place."""
        return self.num_nodes // self.num_places

    # --- neighbours of given vertices

    def table(self, rows: Index, size: int) -> "NodeTable":
        """Distances from the vertices ``rows`` to those at the ``size`` nearest places."""
        size = min(size, self.num_places)
        place = rows % self.num_places
        if self.tree is None or size == self.num_places:
            near = np.broadcast_to(np.arange(self.num_places), (len(rows), self.num_places))
            chord = np.full(len(rows), np.inf)
        else:
            distance, near = self.tree.query(self.tree.data[place], k=[*range(1, size + 1)])
            chord = distance[:, -1]
        orientation = np.arange(self.per_place) * self.num_places
        nodes = (orientation[:, None] + near[:, None, :]).reshape(len(rows), -1)
        # places that tie with the last may have been left out, and coordinates are rounded
        return NodeTable(self, rows, nodes, self.bound * np.maximum(chord - 1e-12, 0) ** 2 if self.tree else chord)

    def typical(self, count: int = 120) -> Index:
        """Vertices spread evenly over the sample."""
        return np.unique(np.linspace(0, self.num_nodes - 1, min(count, self.num_nodes)).round().astype(np.int64))

    def growing(self, rows: Index, k: int) -> "Growing[NodeTable]":
        """Distances from the vertices, looking further whenever needed."""
        return Growing(lambda size: self.table(rows, size), max(8, k))

    # --- all pairs

    def within(self, square: float) -> Iterator[tuple[Index, Index]]:
        """Candidate pairs ``i < j`` in chunks: all those within the squared distance, and others."""
        if self.tree is None:
            yield from self._all_pairs()
            return
        radius = math.sqrt(square / self.bound) * (1 + 1e-9) + 1e-12
        pairs = self.tree.query_pairs(radius, output_type="ndarray")
        own = np.arange(self.num_places)
        pairs = np.concatenate([pairs, np.stack([own, own], axis=1)])
        orientation = np.arange(self.per_place) * self.num_places
        for part in np.array_split(pairs, max(1, len(pairs) * self.per_place**2 // CHUNK)):
            i = (part[:, 0, None, None] + orientation[:, None]).repeat(self.per_place, axis=2).ravel()
            j = (part[:, 1, None, None] + orientation[None, :]).repeat(self.per_place, axis=1).ravel()
            different = (part[:, 0] != part[:, 1]).repeat(self.per_place**2) | (i < j)
            i, j = i[different], j[different]
            yield np.minimum(i, j), np.maximum(i, j)

    def _all_pairs(self) -> Iterator[tuple[Index, Index]]:
        rows = max(1, CHUNK // self.num_nodes)
        for start in range(0, self.num_nodes, rows):
            i, j = np.nonzero(np.arange(start, min(start + rows, self.num_nodes))[:, None] < np.arange(self.num_nodes))
            yield i + start, j

    def measure(self, i: Index, j: Index, xi: float) -> tuple[Array, Array, Index]:
        """Logarithm, squared distance and element of the symmetry of each pair; ties go to the first element."""
        metric = self.metric.at(xi)
        logs = [self.steps.logs(i, j, u) for u in range(self.steps.count)]
        squares = [_quadratic(log, metric) for log in logs]
        log, square, which = logs[0], squares[0], np.zeros(len(i), dtype=np.int64)
        for u in range(1, len(logs)):
            better = squares[u] < square * (1 - TIE)
            log = np.where(better[:, None], logs[u], log)
            square, which = np.where(better, squares[u], square), np.where(better, u, which)
        return log, square, which

    def edges(self, pairs: Iterator[tuple[Index, Index]], xi: float, square: float) -> Edges:
        """Both directions of all pairs within the squared radius, sorted."""
        parts = []
        for i, j in pairs:
            log, sqdist, which = self.measure(i, j, xi)
            near = sqdist <= square * (1 + TIE)
            parts.append((i[near], j[near], log[near], sqdist[near], which[near]))
        i, j, log, sqdist, which = (np.concatenate(part) for part in zip(*parts, strict=True))
        back = self.steps.reverse(i, j, which, log)
        target, source = np.concatenate([i, j]), np.concatenate([j, i])
        log, sqdist = np.concatenate([log, back]), np.concatenate([sqdist, sqdist])
        order = np.argsort(target * self.num_nodes + source)
        return Edges(source[order], target[order], log[order], sqdist[order])

    def _nearest(self, rows: Index, k: int, xi: float, keep_ties: bool) -> Iterator[Index]:
        """Pairs ``[2, P]`` of the vertices and their nearest; those that are not certain are looked at again."""
        size = max(8, k)
        while len(rows):
            table = self.table(rows, size)
            sqdist = table.sqdist(xi)
            available = int(np.isfinite(sqdist).sum(axis=1).min())
            if available >= k:
                kth = np.partition(sqdist, k - 1, axis=1)[:, k - 1]
                certain = (kth * (1 + 2 * TIE) < table.bounds) | np.isinf(table.bounds)
                if keep_ties:
                    i, m = np.nonzero(certain[:, None] & (sqdist <= kth[:, None] * (1 + TIE)))
                else:
                    i = np.repeat(np.flatnonzero(certain), k)
                    m = np.lexsort((table.nodes, sqdist), axis=1)[certain, :k].ravel()
                yield np.stack([rows[i], table.nodes[i, m]])
                rows = rows[~certain]
            elif np.isinf(table.bounds).any():
                raise ValueError(f"k must be at most {available}, the number of other vertices, got {k}")
            size *= 2

    def nearest_pairs(self, k: int, xi: float, keep_ties: bool) -> Iterator[tuple[Index, Index]]:
        """Pairs ``i < j`` of which one is among the k nearest neighbours of the other."""
        found = []
        rows = max(1, CHUNK // (self.per_place * 2 * max(8, k)))
        for part in np.array_split(np.arange(self.num_nodes), max(1, self.num_nodes // rows)):
            found += list(self._nearest(part, k, xi, keep_ties))
        i, j = np.concatenate(found, axis=1)
        key = np.unique(np.minimum(i, j) * self.num_nodes + np.maximum(i, j))
        for chunk in np.array_split(key, max(1, len(key) // CHUNK)):
            yield chunk // self.num_nodes, chunk % self.num_nodes


def _quadratic(log: Array, metric: Array) -> Array:
    """``c^T R c``, exactly the same for ``c`` and ``-c``."""
    if np.count_nonzero(metric - np.diag(np.diag(metric))) == 0:
        return (log * log) @ np.diag(metric)
    root = np.linalg.cholesky(metric)
    return np.square(log @ root).sum(axis=-1)


@dataclass
class NodeTable:
    """Squared distances from some vertices to candidates."""

    search: Search
    rows: Index
    nodes: Index  # [L, M]
    bounds: Array  # [L], squared distances which no vertex left out falls below

    def __post_init__(self) -> None:
        steps, metric = self.search.steps, self.search.metric
        shape = (steps.count, *self.nodes.shape)
        self.base, self.turn = np.empty(shape), np.empty(shape)
        i, j = np.repeat(self.rows, self.nodes.shape[1]), self.nodes.ravel()
        for u in range(steps.count):
            log = steps.logs(i, j, u)
            open_price = bool(metric.turn.any())
            part = np.einsum("pd,de,pe->p", log, metric.base, log) if open_price else _quadratic(log, metric.base)
            self.base[u] = part.reshape(self.nodes.shape)
            self.turn[u] = np.einsum("pd,de,pe->p", log, metric.turn, log).reshape(self.nodes.shape)
        self.base[:, self.nodes == self.rows[:, None]] = np.inf

    @property
    def same(self) -> Mask:
        """Whether the orientation is the same, ``[L, M]``."""
        spatial = self.search.sample.num_spatial
        return (self.nodes // spatial) == (self.rows // spatial)[:, None]

    def sqdist(self, xi: float) -> Array:
        """``[L, M]``."""
        return (self.base + xi**2 * self.turn).min(axis=0)

    def balance(self) -> float:
        """The price at which the shortest turn costs as much as the shortest step without one."""
        same = np.broadcast_to(self.same, self.nodes.shape)
        here = (self.nodes % self.search.num_places) == (self.rows % self.search.num_places)[:, None]
        step = np.median(np.where(same, self.base.min(axis=0), np.inf).min(axis=1))
        turns = self.turn[0][here & ~same]
        return float(np.sqrt(step / turns.min())) if turns.size and np.isfinite(step) and turns.min() > 0 else 1.0

    def reach(self, xi: float) -> float:
        """The bound of what was left out, whatever the price of turning."""
        return float(self.bounds.min())


def components(edges: Edges, num_nodes: int) -> NDArray[np.int32]:
    """Number of the connected component of each node."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    ptr = np.searchsorted(edges.target, np.arange(num_nodes + 1))
    matrix = csr_array((np.ones(len(edges.source), dtype=np.int8), edges.source, ptr), shape=(num_nodes, num_nodes))
    return connected_components(matrix, directed=True, connection="strong")[1]
