"""The k nearest neighbours, with a rule for ties that rotations respect."""

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ._pairs import CHUNK, SLACK, choose_search, graph_ranges, grid_ranges, iterate_pairs, lifted
from ._points import Points, read_points, read_query, read_tolerance, sort_edges, squared_distance

Found = tuple[Tensor, Tensor, Tensor]  # source j, target i, squared distance


def knn_edges(
    pos: Tensor,
    k: int,
    batch: Tensor | None = None,
    *,
    ties: str = "keep",
    loop: bool = False,
    query: Tensor | None = None,
    query_batch: Tensor | None = None,
    rtol: float | None = None,
) -> Tensor:
    """Edges from the ``k`` nearest points ``j`` of each point ``i`` to it.

    Distances within a relative ``rtol`` of the k-th smallest tie with it. What happens to them does not depend on
    directions, so turning the points never changes the edges:

    - ``ties="keep"``: all of them are neighbours; a point may have more than ``k``. Also independent of the order of
      the points.
    - ``ties="index"``: the lowest indices among them fill the ``k`` places; exactly ``k`` each.

    A graph with fewer than ``k`` other points connects all it has.

    Args:
        pos: Positions of the sources, float32 or float64, any dimension, ``[N, d]``.
        k: Number of neighbours, at least 1.
        batch: Graph of each point, in any order, ``[N]``.
        ties: ``"keep"`` or ``"index"``.
        loop: Whether a point is a neighbour of itself (then one of the ``k``).
        query: Other points as targets, ``[M, d]``; the edges then lead from ``pos`` to ``query``.
        query_batch: Graph of each query point, ``[M]``.
        rtol: Relative tolerance of ties; default :func:`geomeq.neighbors.tie_tolerance`.

    Returns:
        ``edge_index [2, E]``: source and target, sorted by target and then source.

    Raises:
        TypeError: If ``pos`` is neither float32 nor float64, or ``k`` is no integer.
        ValueError: For a wrong shape, NaN, ``k < 1``, an unknown ``ties``, or a batch on one side only.

    Example:
        >>> knn_edges(torch.tensor([[0.0], [1.0], [3.0]]), k=1)
        tensor([[1, 0, 1],
                [0, 1, 2]])
    """
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"k must be an integer, got {k!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if ties not in ("keep", "index"):
        raise ValueError(f"ties must be 'keep' or 'index', got {ties!r}")
    source = read_points(pos, batch)
    target = read_query(pos, source, query, query_batch, loop)
    return sort_edges(*nearest_pairs(source, target, k, read_tolerance(rtol, pos, query), ties, loop))


def nearest_pairs(
    source: Points, target: Points | None, k: int, rtol: float, ties: str, loop: bool, search: str = "auto"
) -> tuple[Tensor, Tensor]:
    """The pairs of :func:`knn_edges`, in no particular order."""
    other = source if target is None else target
    exclude_self = target is None and not loop
    empty = torch.empty(0, dtype=torch.long, device=source.device)
    if source.num == 0 or other.num == 0:
        return empty, empty.clone()
    if search == "auto":
        search = choose_search(source, target)
    if search == "tree":
        parts = _tree_nearest(source, other, k, rtol, ties, exclude_self)
    else:
        finder = _all_candidates if search == "dense" else _grid_candidates
        parts = [_select(found, other.num, k, rtol, ties) for found in finder(source, other, k, rtol, exclude_self)]
    if not parts:
        return empty, empty.clone()
    return torch.cat([j for j, _ in parts]), torch.cat([i for _, i in parts])


def _select(found: Found, num_targets: int, k: int, rtol: float, ties: str) -> tuple[Tensor, Tensor]:
    """Applies the rule for ties to candidates that hold, for each target, all points up to the k-th and its ties."""
    j, i, d2 = found
    order = torch.sort(d2).indices
    order = order[torch.sort(i[order], stable=True).indices]
    j, i, d2 = j[order], i[order], d2[order]
    count = torch.bincount(i, minlength=num_targets)
    first = count.cumsum(0) - count
    kth = torch.zeros(num_targets, dtype=torch.float64, device=j.device)
    some = count > 0
    kth[some] = d2[(first + count.clamp(max=k) - 1)[some]]
    limit = kth[i]
    keep = d2 <= limit * (1 + rtol) ** 2
    if ties == "index":
        j, i, d2, limit = j[keep], i[keep], d2[keep], limit[keep]
        # nearer points first, then those that tie with the k-th, by index
        tied = d2 * (1 + rtol) ** 2 >= limit
        order = torch.sort(j + (tied.long() << 32)).indices
        order = order[torch.sort(i[order], stable=True).indices]
        j, i = j[order], i[order]
        count = torch.bincount(i, minlength=num_targets)
        keep = torch.arange(i.numel(), device=i.device) - (count.cumsum(0) - count)[i] < k
    return j[keep], i[keep]


def _all_candidates(source: Points, target: Points, k: int, rtol: float, exclude_self: bool) -> list[Found]:
    ranges = graph_ranges(source, target)
    parts = []
    for j, i in ranges.chunks(CHUNK):
        if exclude_self:
            other = j != i
            j, i = j[other], i[other]
        parts.append((j, i, squared_distance(source, j, target, i)))
    return parts


def _tree_nearest(
    source: Points, target: Points, k: int, rtol: float, ties: str, exclude_self: bool
) -> list[tuple[Tensor, Tensor]]:
    """Asks the tree for a few more than ``k``, and again for more where ties reach to the end of the list."""
    diagonal = _diagonal(source, target)
    spacing = 2 * diagonal if diagonal > 0 else 1.0  # graphs farther apart than any two points of one graph
    tree = cKDTree(lifted(source, spacing).numpy())
    places = lifted(target, spacing).numpy()
    graph, target_graph = source.graph(), target.graph()
    parts: list[tuple[Tensor, Tensor]] = []
    open_targets = torch.arange(target.num)
    ask = k + 2  # itself, and one to see that the ties end
    while open_targets.numel():
        ask = min(ask, source.num)
        unfinished = []
        for rows in open_targets.split(max(1, CHUNK // 4 // ask)):
            j = torch.from_numpy(tree.query(places[rows.numpy()], k=ask)[1]).reshape(-1)
            i = rows.repeat_interleave(ask)
            d2 = squared_distance(source, j, target, i)
            if source.batch is not None:
                d2.masked_fill_(graph[j] != target_graph[i], torch.inf)
            farthest = d2.view(-1, ask).amax(dim=1)
            if exclude_self:
                d2.masked_fill_(j == i, torch.inf)
            d2 = d2.view(-1, ask)
            kth = d2.kthvalue(k, dim=1).values if k <= ask else torch.full((rows.numel(),), torch.inf)
            limit = kth * (1 + rtol) ** 2
            done = (farthest > limit * SLACK) | torch.isinf(farthest) | (ask == source.num)
            unfinished.append(rows[~done])
            keep = (d2 <= limit[:, None]) & torch.isfinite(d2) & done[:, None]
            if ties == "index":  # few rows hold ties: only those take the longer way
                crowded = keep & (keep.sum(dim=1) > k)[:, None]
                keep &= ~crowded
                some = crowded.flatten()
                parts.append(_select((j[some], i[some], d2.flatten()[some]), target.num, k, rtol, ties))
            parts.append((j[keep.flatten()], i[keep.flatten()]))
        open_targets = torch.cat(unfinished)
        ask *= 2
    return parts


def _grid_candidates(source: Points, target: Points, k: int, rtol: float, exclude_self: bool) -> list[Found]:
    """Searches within a radius, then twice that radius for targets that found too few; pure torch, for CUDA."""
    graph, target_graph = source.graph(), target.graph()
    size = torch.bincount(graph, minlength=int(target_graph.amax()) + 1)
    need = (size[target_graph] - int(exclude_self)).clamp(max=k)
    done = need <= 0
    diagonal, radius = _diagonal(source, target), _starting_radius(source, target, k)
    parts: list[Found] = []
    while not bool(done.all()):
        open_targets = torch.nonzero(~done).flatten()
        some = target.take(open_targets)
        if radius >= diagonal:
            reach, ranges = 2 * diagonal + 1e-140, graph_ranges(source, some)
        else:
            reach, ranges = radius, grid_ranges(source, some, radius)
        for (j, row), d2 in iterate_pairs(source, some, ranges, reach):
            i = open_targets[row]
            if exclude_self:
                other = j != i
                j, i, d2 = j[other], i[other], d2[other]
            # only neighbours clearly inside prove that whatever ties with the k-th was found too
            clear = d2 * (1 + rtol) ** 2 * SLACK <= reach * reach
            enough = torch.bincount(i[clear], minlength=target.num) >= need
            use = enough[i] & ~done[i]
            parts.append((j[use], i[use], d2[use]))
            done |= enough
        radius *= 2
    return parts


def _diagonal(source: Points, target: Points) -> float:
    """Longest diagonal of the box around all points: no two are farther apart."""
    both = torch.cat([source.columns, target.columns], dim=1)
    return float((both.amax(dim=1) - both.amin(dim=1)).norm())


def _starting_radius(source: Points, target: Points, k: int, samples: int = 32) -> float:
    """A low quartile of the distance to the k-th neighbour, from a few targets spread over the list."""
    picks = torch.linspace(0, target.num - 1, min(samples, target.num), device=source.device).long()
    graph, target_graph, radii = source.graph(), target.graph(), []
    for i in picks:
        d2 = squared_distance(source, torch.arange(source.num, device=i.device), target, i.expand(source.num))
        d2 = d2[graph == target_graph[i]]
        if d2.numel():
            radii.append(float(d2.kthvalue(min(k + 1, d2.numel())).values) ** 0.5)
    positive = sorted(r for r in radii if r > 0)
    return positive[len(positive) // 4] if positive else _diagonal(source, target) / 64 + 1e-140
