"""Log maps beyond one ring, by unfolding the shortest paths from every vertex."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree
from torch import Tensor

from ..groups import wrap_angle
from ._log_map import LogMap, reverse_pairs, sorted_pairs

_STRETCH = 1.5  # shortest paths along edges are at most about so much longer than geodesics
_CHUNK = 64  # centres that are expanded together: enough to hide Python, few enough to stay near each other
_TURNED = 1e-6  # unit numbers whose sum is shorter cancel: they have no mean direction
_TIE = 1e-6  # paths whose lengths differ by a smaller part are equally long
_SHORT = 1e-10  # edges are at least so long, as a part of the mean: a path must grow with every step


class Ring:
    """One ring in the form that path searches read: lengths in rows, steps as complex numbers.

    Args:
        log: Both directions of every pair, sorted by target, then by source.
        num_vertices: Number of vertices, ``N``.
    """

    def __init__(self, log: LogMap, num_vertices: int) -> None:
        source, target = (row.numpy() for row in log.edge_index)
        self.num, self.log = num_vertices, log
        length, angle = log.polar.double().numpy().T
        # where all vertices coincide every edge counts as 1: an edge without a length would be none to the search
        self.length = np.maximum(length, (_SHORT * length.mean() if length.size else 0.0) or 1.0)
        self.ptr = np.concatenate([[0], np.bincount(target, minlength=num_vertices).cumsum()])
        back = reverse_pairs(log.edge_index, num_vertices).numpy()
        # of the pair (source j, target k): where j sees k, and the turn from k's frame into j's
        self.step = (length * np.exp(1j * angle))[back]
        self.turn = np.exp(1j * log.transport.double().numpy())[back]
        number = np.arange(source.size) + 1  # zero means "no edge" in a sparse matrix
        self.number = csr_array((number, source, self.ptr), shape=(num_vertices, num_vertices))
        self.weight = csr_array((self.length, source, self.ptr), shape=(num_vertices, num_vertices))


def path_log(
    log: LogMap,
    num_vertices: int,
    *,
    rings: int | None = None,
    radius: float | None = None,
    nodes: Tensor | None = None,
    pos: Tensor | None = None,
) -> LogMap:
    r"""Polar coordinates and transport of all vertices within some rings or a radius.

    From every centre ``i`` the shortest paths along edges are followed, and steps added up in the plane of ``i``:

    .. math:: \log_i k = \log_i j + R(g_{ij}) \log_j k, \qquad g_{ik} = g_{ij} + g_{jk}

    where ``j`` is a predecessor of ``k``; the mean over the two best predecessors, and those that tie with the second,
    is taken (of directions for the transport, never of angles). Neighbours by an edge keep the values of that edge. On
    flat pieces the result is exact. Last, both directions of a pair are reconciled: equal lengths, opposite transports.

    Args:
        log: One ring, as from :func:`geomeq.meshes.one_ring`.
        num_vertices: Number of vertices, ``N``.
        rings: Pairs at most so many edges apart.
        radius: Pairs at most so far apart. Both may be given; at least one must.
        nodes: Only pairs between these, ``[M]`` without repetition; all, if left out.
        pos: Positions ``[N, 3]``; makes the search faster, the result does not depend on them.

    Returns:
        The log map, float64. Vertices keep their numbers.

    Raises:
        ValueError: If neither ``rings`` nor ``radius`` is given, or one is not positive.

    Source: after Melvaer and Reimers (2012), Geodesic polar coordinates on polygonal meshes,
        https://doi.org/10.1111/j.1467-8659.2012.03187.x
    """
    if rings is None and radius is None:
        raise ValueError("path_log needs rings or radius")
    if (rings is not None and rings < 1) or (radius is not None and not radius > 0):
        raise ValueError(f"rings and radius must be positive, got {rings} and {radius}")
    ring = Ring(log, num_vertices)
    wanted = None
    if nodes is not None:
        wanted = np.zeros(num_vertices, dtype=bool)
        wanted[nodes.numpy()] = True
    found = [_expand(ring, centres, rings, radius, wanted) for centres in _chunks(ring, nodes, pos)]
    if not found:
        return log.take(torch.zeros(0, dtype=torch.long))
    target, source, step, turn = (np.concatenate(column) for column in zip(*found, strict=True))
    result = reconcile(np.stack([source, target]), step, turn, num_vertices)
    return result if radius is None else result.take(result.polar[:, 0] <= radius * (1 + 1e-9))


def _chunks(ring: Ring, nodes: Tensor | None, pos: Tensor | None) -> Iterator[np.ndarray]:
    """Centres in groups of vertices near each other."""
    centres = np.arange(ring.num) if nodes is None else np.sort(nodes.numpy())
    centres = centres[np.diff(ring.ptr)[centres] > 0]
    if pos is not None and centres.size > _CHUNK:
        centres = centres[cKDTree(pos.double().numpy()[centres]).indices]
    for begin in range(0, centres.size, _CHUNK):
        yield centres[begin : begin + _CHUNK]


def _expand(
    ring: Ring, centres: np.ndarray, rings: int | None, radius: float | None, wanted: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centre, vertex, place and turn of all pairs from these centres."""
    around, limit = _surroundings(ring, centres, rings, radius)
    number = ring.number[around][:, around].tocsr()
    edge = number.data - 1
    graph = csr_array((ring.length[edge], number.indices, number.indptr), shape=number.shape)
    own = np.searchsorted(around, centres)
    distance = dijkstra(graph, indices=own, limit=limit)
    paths = _Paths(ring, distance, number.indptr, number.indices, edge)
    step, turn = paths.unfold()
    row, vertex = paths.row, paths.vertex
    keep = vertex != own[row]
    if rings is not None:
        hops = dijkstra(graph, indices=own, limit=rings, unweighted=True)
        keep &= np.isfinite(hops[row, vertex])
    if wanted is not None:
        keep &= wanted[around[vertex]]
    return centres[row[keep]], around[vertex[keep]], step[keep], turn[keep]


def _surroundings(ring: Ring, centres: np.ndarray, rings: int | None, radius: float | None) -> tuple[np.ndarray, float]:
    """Vertices that a path of interest can visit, sorted, and the length of the longest such path."""
    limit = np.inf if radius is None else _STRETCH * radius
    if rings is not None:
        hops = dijkstra(ring.number, indices=centres, limit=rings, unweighted=True, min_only=True)
        around = np.flatnonzero(np.isfinite(hops))
        limit = min(limit, rings * float(ring.weight[around].max()))
    reach = dijkstra(ring.weight, indices=centres, limit=limit, min_only=True)
    return np.flatnonzero(np.isfinite(reach)), limit


class _Paths:
    """The best predecessors of every vertex on the way from every centre, and the steps along them.

    These are the best two, and whoever ties with the second: else rounding would choose on symmetric meshes.

    Args:
        ring: Steps and turns.
        distance: From each centre (row) to each vertex, ``inf`` where out of reach, ``[C, M]``.
        ptr: Where the edges of each target begin, ``[M + 1]``.
        source: Source of each edge, ``[E]``.
        edge: Number in ``ring`` of each edge, ``[E]``.
        owner: Paths stay among vertices of the same owner, ``[M]``.
    """

    def __init__(
        self,
        ring: Ring,
        distance: np.ndarray,
        ptr: np.ndarray,
        source: np.ndarray,
        edge: np.ndarray,
        owner: np.ndarray | None = None,
    ) -> None:
        self.ring = ring
        self.row, self.vertex = np.nonzero(np.isfinite(distance))
        pairs = self.row.size
        number = np.full(distance.shape, pairs)
        number[self.row, self.vertex] = np.arange(pairs)
        count = np.diff(ptr)[self.vertex]
        pair = np.repeat(np.arange(pairs), count)
        local = ptr[self.vertex][pair] + np.arange(pair.size) - (count.cumsum() - count)[pair]
        before, here = distance[self.row[pair], source[local]], distance[self.row, self.vertex][pair]
        usable = _comes_before(before, here, ring.length[edge[local]])
        if owner is not None:
            usable &= owner[source[local]] == owner[self.vertex[pair]]
        pair, local, before = pair[usable], local[usable], before[usable]
        pair, local, place = _best(pair, local, before, before + ring.length[edge[local]])
        shape = (int(place.max(initial=-1)) + 1, pairs)
        self.before = np.full(shape, pairs)  # number of the pair that ends at the predecessor; ``pairs``: none
        self.edge = np.zeros(shape, dtype=np.int64)
        self.before[place, pair] = number[self.row[pair], source[local]]
        self.edge[place, pair] = edge[local]

    def unfold(self) -> tuple[np.ndarray, np.ndarray]:
        """Place and turn of every pair as complex numbers, one generation of paths after the other."""
        pairs = self.row.size
        step, turn = np.zeros(pairs + 1, dtype=complex), np.ones(pairs + 1, dtype=complex)
        done = np.append((self.before == pairs).all(axis=0), True)  # the centres
        left = np.flatnonzero(~done)
        while left.size:
            ready = done[self.before[:, left]].all(axis=0)
            now, left = left[ready], left[~ready]
            at, edge = self.before[:, now], self.edge[:, now]
            real = at < pairs
            step[now] = np.where(real, step[at] + turn[at] * self.ring.step[edge], 0).sum(axis=0) / real.sum(axis=0)
            turns = np.where(real, turn[at] * self.ring.turn[edge], 0)
            total = turns.sum(axis=0)
            size = np.abs(total)
            turn[now] = np.where(size > _TURNED, total / np.where(size > _TURNED, size, 1.0), turns[0])
            done[now] = True
        return step[:pairs], turn[:pairs]


def _comes_before(before: np.ndarray, here: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Whether a neighbour at distance ``before`` is a predecessor of a vertex at ``here``: clearly nearer, or next to
    it on the shortest path.
    """
    return (before < here * (1 - _TIE)) | ((before < here) & (before + length <= here))


def _best(
    pair: np.ndarray, local: np.ndarray, before: np.ndarray, length: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each pair the best two predecessors and those that tie with the second: pair, edge, and place among them.

    A neighbour of the centre has that as its only predecessor: the edge itself is a geodesic.
    """
    length = np.where(before == 0, -1.0, length)
    order = np.lexsort((length, pair))
    pair, local, length = pair[order], local[order], length[order]
    start = np.flatnonzero(np.diff(pair, prepend=-1))
    size = np.diff(np.append(start, pair.size))
    place = np.arange(pair.size) - np.repeat(start, size)
    best, second = length[start], length[start + np.minimum(size - 1, 1)] if pair.size else length
    most = np.where(best < 0, -1.0, second * (1 + _TIE))
    kept = length <= np.repeat(most, size)
    return pair[kept], local[kept], place[kept]


def reconcile(edges: np.ndarray, step: np.ndarray, turn: np.ndarray, num_vertices: int) -> LogMap:
    """Sorted pairs that exist in both directions, with equal lengths and opposite transports.

    Args:
        edges: Source and target, in any order, ``[2, E]``.
        step: Place of the source in the frame of the target, complex ``[E]``.
        turn: ``e^{i g}`` of the transport ``g``, complex ``[E]``.
        num_vertices: Number of vertices.

    Returns:
        Lengths are the means over both directions, transports the mean directions.
    """
    source, target = edges
    both = np.isin(source * num_vertices + target, target * num_vertices + source, assume_unique=True)
    edge_index = torch.from_numpy(edges[:, both])
    order = sorted_pairs(edge_index[0], edge_index[1], num_vertices)
    edge_index, step, turn = edge_index[:, order], step[both][order.numpy()], turn[both][order.numpy()]
    reverse = reverse_pairs(edge_index, num_vertices).numpy()
    length = (np.abs(step) + np.abs(step[reverse])) / 2
    total = turn + turn[reverse].conj()
    turn = np.where(np.abs(total) > _TURNED, total, turn)
    polar = torch.from_numpy(np.stack([length, np.angle(step)], axis=1))
    polar[:, 1] = wrap_angle(polar[:, 1])
    return LogMap(edge_index, polar, wrap_angle(torch.from_numpy(np.angle(turn))))


def nearest_nodes(log: LogMap, num_vertices: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Assigns every vertex to the nearest of some nodes along the surface, with the transport to it.

    Distances are those of shortest paths along edges; transports are those of :func:`path_log`.

    Args:
        log: One ring, as from :func:`geomeq.meshes.one_ring`, or any graph in that form.
        num_vertices: Number of vertices, ``N``.
        nodes: The nodes to choose from, ``[M]``.

    Returns:
        Place in ``nodes`` of the nearest one ``[N]`` (the first of those that tie), -1 out of reach of all; the
        transport that turns components in the frame of the vertex into components in that of its node, radians,
        ``[N]``; the distance, ``[N]``.
    """
    ring = Ring(log, num_vertices)
    distance = dijkstra(ring.weight, indices=nodes.numpy(), min_only=True)
    sources = log.edge_index[0].numpy()
    place = np.full(num_vertices, nodes.numel())
    place[nodes.numpy()] = np.arange(nodes.numel())
    place = _hand_down(place, distance, ring, log.edge_index.numpy())
    paths = _Paths(ring, distance[None], ring.ptr, sources, np.arange(sources.size), place)
    turn = np.ones(num_vertices, dtype=complex)
    turn[paths.vertex] = paths.unfold()[1]
    index = torch.from_numpy(np.where(place < nodes.numel(), place, -1))
    return index, wrap_angle(torch.from_numpy(np.angle(turn))), torch.from_numpy(distance)


def _hand_down(place: np.ndarray, distance: np.ndarray, ring: Ring, edges: np.ndarray) -> np.ndarray:
    """The lowest place that reaches each vertex along some shortest path, ``[N]``."""
    source, target = edges
    before, here = distance[source], distance[target]
    tight = np.isfinite(here) & _comes_before(before, here, ring.length)
    tight &= before + ring.length <= here * (1 + _TIE)
    source, target = source[tight], target[tight]
    while True:
        lower = place.copy()
        np.minimum.at(lower, target, place[source])
        if (lower == place).all():
            return place
        place = lower
