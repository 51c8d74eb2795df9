"""All pairs of points within a radius, by whichever search suits the device and the sizes.

Each search first collects candidates, a superset, and then decides by :func:`squared_distance`. So all of them return
the same pairs, bit for bit:

- ``tree``: scipy's KD-tree. Graphs of a batch are set apart by one more coordinate, which is equal within a graph and
  hence adds an exact zero to each distance: nothing is shifted, no digit is lost.
- ``dense``: every pair of each graph, for small graphs.
- ``grid``: cells as wide as the radius, sorted by one integer key; pure torch, for CUDA.
"""

import itertools
import math
from collections.abc import Iterator

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ._points import Points, squared_distance

SLACK = 1 + 1e-9  # candidates reach this much farther than the decision, to be safe from rounding
CHUNK = 1 << 24  # candidate pairs held at once, a few hundred MB
_DENSE_PAIRS_PER_POINT = 256  # on CUDA, below this, testing all pairs costs less than sorting into cells


def pairs_within(source: Points, target: Points | None, radius: float, search: str = "auto") -> tuple[Tensor, Tensor]:
    """Pairs (source j, target i) with distance at most ``radius``, in no particular order.

    Args:
        source: Points that send.
        target: Points that receive; ``None`` for the same points, each then without itself.
        radius: Largest distance, inclusive.
        search: ``"auto"``, ``"tree"``, ``"dense"`` or ``"grid"``.

    Returns:
        Indices ``j [P]`` and ``i [P]``.
    """
    num_targets = source.num if target is None else target.num
    if source.num == 0 or num_targets == 0:
        empty = torch.empty(0, dtype=torch.long, device=source.device)
        return empty, empty.clone()
    if search == "auto":
        search = choose_search(source, target)
    if search == "tree":
        return _tree_pairs(source, target, radius)
    ranges = graph_ranges(source, target) if search == "dense" else grid_ranges(source, target, radius)
    found = [pair for pair, _ in iterate_pairs(source, target, ranges, radius)]
    return torch.cat([j for j, _ in found]), torch.cat([i for _, i in found])


def choose_search(source: Points, target: Points | None) -> str:
    """The search to use for these points."""
    if source.device.type == "cpu":
        return "tree"  # faster than the others from two points to a million
    num_targets = source.num if target is None else target.num
    return "dense" if count_pairs(source, target) <= _DENSE_PAIRS_PER_POINT * num_targets else "grid"


def count_pairs(source: Points, target: Points | None) -> int:
    """Number of (source, target) pairs that share a graph."""
    other = source if target is None else target
    if source.batch is None or other.batch is None:
        return source.num * other.num
    size = int(torch.maximum(source.batch.amax(), other.batch.amax())) + 1
    if size > 4 * (source.num + other.num):  # sparse graph numbers: do not allocate a slot for each
        return source.num * other.num
    counts = torch.bincount(source.batch, minlength=size).double()
    return int(counts @ torch.bincount(other.batch, minlength=size).double())


def lifted(points: Points, spacing: float) -> Tensor:
    """Positions ``[N, d]``, or ``[N, d + 1]`` with the graphs of a batch ``spacing`` apart."""
    if points.batch is None:
        return points.columns.t().contiguous()
    return torch.cat([points.columns, (points.batch * spacing)[None]]).t().contiguous()


def _tree_pairs(source: Points, target: Points | None, radius: float) -> tuple[Tensor, Tensor]:
    reach = radius * SLACK
    tree = cKDTree(lifted(source, 3 * radius).numpy())
    if target is None:
        half = torch.from_numpy(tree.query_pairs(reach, output_type="ndarray")).long()
        j, i = half[:, 0].contiguous(), half[:, 1].contiguous()
        inside = squared_distance(source, j, source, i) <= radius * radius
        if not bool(inside.all()):
            j, i = j[inside], i[inside]
        return torch.cat([j, i]), torch.cat([i, j])
    found = tree.sparse_distance_matrix(cKDTree(lifted(target, 3 * radius).numpy()), reach, output_type="ndarray")
    j, i = torch.from_numpy(found["i"].astype("int64")), torch.from_numpy(found["j"].astype("int64"))
    inside = squared_distance(source, j, target, i) <= radius * radius
    return j[inside], i[inside]


class Ranges:
    """Candidates of each target as ranges of an ordering of the sources.

    Args:
        order: Source at each place of the ordering, ``[S]``.
        start: First place of each range, ``[T, R]``.
        count: Length of each range, ``[T, R]``.
    """

    def __init__(self, order: Tensor, start: Tensor, count: Tensor) -> None:
        self.order, self.start, self.count = order, start, count

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Candidate sources and targets, at most about ``size`` pairs at a time and whole targets at once."""
        ends = self.count.sum(dim=1).cumsum(0)
        total = int(ends[-1])
        marks = torch.arange(size, total + size, size, device=ends.device)
        stops = torch.unique(torch.searchsorted(ends, marks, right=True).clamp_(max=ends.numel())).tolist()
        begin = 0
        for stop in [*(s for s in stops if s > 0), ends.numel()]:
            if stop > begin:
                yield self._expand(begin, stop)
                begin = stop

    def _expand(self, begin: int, stop: int) -> tuple[Tensor, Tensor]:
        count, start = self.count[begin:stop].reshape(-1), self.start[begin:stop].reshape(-1)
        row = torch.repeat_interleave(count)
        first = count.cumsum(0) - count
        place = torch.arange(row.numel(), device=row.device) + (start - first)[row]
        return self.order[place], row.div_(self.count.size(1), rounding_mode="floor") + begin


def iterate_pairs(
    source: Points, target: Points | None, ranges: Ranges, radius: float
) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
    """Pairs within ``radius`` and their squared distances, chunk by chunk."""
    other = source if target is None else target
    for j, i in ranges.chunks(CHUNK):
        d2 = squared_distance(source, j, other, i)
        keep = d2 <= radius * radius
        if target is None:  # a point is not its own neighbour
            keep &= j != i
        yield (j[keep], i[keep]), d2[keep]


def _same_numbers(source: Points, target: Points | None) -> tuple[Tensor, Tensor, int]:
    """Graphs of both sets renumbered 0..G-1, and G."""
    other = source if target is None else target
    if source.batch is None or other.batch is None:
        return source.graph(), other.graph(), 1
    names, renumbered = torch.unique(torch.cat([source.batch, other.batch]), return_inverse=True)
    graph = renumbered[: source.num]
    return graph, graph if target is None else renumbered[source.num :], names.numel()


def graph_ranges(source: Points, target: Points | None) -> Ranges:
    """Candidates of a target: every source of its graph."""
    graph, target_graph, num_graphs = _same_numbers(source, target)
    if num_graphs == 1:
        order = torch.arange(source.num, device=source.device)
    else:
        order = torch.sort(graph, stable=True).indices
    size = torch.bincount(graph, minlength=num_graphs)
    start = size.cumsum(0) - size
    return Ranges(order, start[target_graph, None], size[target_graph, None])


def grid_ranges(source: Points, target: Points | None, radius: float) -> Ranges:
    """Cells at least ``radius`` wide along up to three axes; neighbours along the last are one range."""
    other = source if target is None else target
    graph, target_graph, num_graphs = _same_numbers(source, target)
    axes = min(source.dim, 3)
    both = torch.cat([source.columns[:axes], other.columns[:axes]], dim=1)
    low = both.amin(dim=1, keepdim=True)
    extents = (both.amax(dim=1, keepdim=True) - low).flatten().tolist()
    # wider by the rounding of the division below, so that near points are never two cells apart
    width = radius * SLACK + 8 * torch.finfo(torch.float64).eps * max(extents)
    while num_graphs * math.prod(e / width + 4 for e in extents) > 2.0**61:
        width *= 2
    sizes = [int(e / width) + 4 for e in extents]
    keys = _cell_keys(source, graph, low, width, sizes)
    ordered, order = torch.sort(keys, stable=True)
    base = keys if target is None else _cell_keys(other, target_graph, low, width, sizes)
    starts, ends = [], []
    for offset in itertools.product((-1, 0, 1), repeat=axes - 1):
        step = 0
        for o, size in zip(offset, sizes, strict=False):
            step = step * size + o
        middle = base + step * sizes[-1]
        starts.append(torch.searchsorted(ordered, middle - 1))
        ends.append(torch.searchsorted(ordered, middle + 1, right=True))
    start = torch.stack(starts, dim=1)
    return Ranges(order, start, torch.stack(ends, dim=1) - start)


def _cell_keys(points: Points, graph: Tensor, low: Tensor, width: float, sizes: list[int]) -> Tensor:
    key = graph
    for column, start, size in zip(points.columns, low.flatten(), sizes, strict=False):
        key = key * size + (((column - start) / width).floor_().long() + 1)  # a free cell at both ends
    return key
