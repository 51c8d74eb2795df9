"""Farthest point sampling."""

import math

import torch
from torch import Tensor

from ._points import Points, read_points, read_tolerance


def farthest_points(
    pos: Tensor,
    num_or_ratio: int | float,
    batch: Tensor | None = None,
    *,
    start: str = "first",
    rtol: float | None = None,
) -> Tensor:
    """Chooses points one after the other, each as far as possible from those chosen before.

    Deterministic. Among points that tie (within a relative ``rtol``) the lowest index is chosen, so turning the points
    does not change the choice.

    Args:
        pos: Positions, float32 or float64, any dimension, ``[N, d]``.
        num_or_ratio: An ``int``: points per graph (a smaller graph gives all it has). A ``float`` in (0, 1]: the part
            of each graph's points, rounded up.
        batch: Graph of each point, in any order, ``[N]``.
        start: Where each graph begins: at its ``"first"`` point, or at its ``"outermost"``, the one farthest from the
            mean of its points, which does not depend on the order of the points either (ties aside).
        rtol: Relative tolerance of ties; default :func:`geomeq.neighbors.tie_tolerance`.

    Returns:
        Indices of the chosen points ``[M]``, graph by graph, each in the order of choice.

    Raises:
        TypeError: If ``pos`` is neither float32 nor float64.
        ValueError: For a wrong shape, NaN, a count below 1, a ratio outside (0, 1], or an unknown ``start``.

    Example:
        >>> farthest_points(torch.tensor([[0.0], [1.0], [5.0], [3.0]]), 3)
        tensor([0, 2, 3])
    """
    if start not in ("first", "outermost"):
        raise ValueError(f"start must be 'first' or 'outermost', got {start!r}")
    points = read_points(pos, batch)
    slack = (1 + read_tolerance(rtol, pos)) ** 2
    if points.num == 0:
        _share(1, num_or_ratio)
        return torch.empty(0, dtype=torch.long, device=pos.device)
    if points.batch is None:
        groups = [torch.arange(points.num, device=pos.device)]
    else:
        order = torch.sort(points.batch, stable=True).indices
        groups = list(order.split(torch.unique(points.batch, return_counts=True)[1].tolist()))
    return torch.cat(_choose_by_size(points, groups, num_or_ratio, start, slack))


def _share(size: int, num_or_ratio: int | float) -> int:
    """How many of ``size`` points to choose."""
    if isinstance(num_or_ratio, bool) or not isinstance(num_or_ratio, int | float):
        raise TypeError(f"num_or_ratio must be an int (points) or a float (ratio), got {num_or_ratio!r}")
    if isinstance(num_or_ratio, int):
        if num_or_ratio < 1:
            raise ValueError(f"num_or_ratio must be at least 1 point, got {num_or_ratio}")
        return min(num_or_ratio, size)
    if not 0 < num_or_ratio <= 1:
        raise ValueError(f"a ratio must lie in (0, 1], got {num_or_ratio}; for a number of points pass an int")
    return min(size, math.ceil(size * num_or_ratio - 1e-9))


def _choose_by_size(
    points: Points, groups: list[Tensor], num_or_ratio: int | float, start: str, slack: float
) -> list[Tensor]:
    """Chooses in all graphs of one size at once: many small molecules cost as few steps as one."""
    by_size: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        by_size.setdefault(group.numel(), []).append(number)
    chosen: list[Tensor] = [torch.empty(0)] * len(groups)
    for size, numbers in by_size.items():
        index = torch.stack([groups[n] for n in numbers])
        places = _choose(points.columns[:, index], _share(size, num_or_ratio), start, slack)
        for n, row in zip(numbers, index.gather(1, places), strict=True):
            chosen[n] = row
    return chosen


def _choose(columns: Tensor, count: int, start: str, slack: float) -> Tensor:
    """Places ``[B, count]`` chosen among the points ``columns [d, B, n]``."""
    if start == "first":
        now = torch.zeros(columns.size(1), dtype=torch.long, device=columns.device)
    else:
        now = _first_largest((columns - columns.mean(dim=2, keepdim=True)).square().sum(0), slack)
    nearest = torch.full(columns.shape[1:], torch.inf, dtype=columns.dtype, device=columns.device)
    distance, step = torch.empty_like(nearest), torch.empty_like(nearest)
    places = [now]
    for _ in range(count - 1):
        distance.zero_()
        for column in columns:  # in place: as fast as memory allows
            torch.sub(column, column.gather(1, now[:, None]), out=step)
            distance += step.square_()
        torch.minimum(nearest, distance, out=nearest)
        nearest.scatter_(1, now[:, None], -1.0)  # chosen: never again, not even among duplicates
        now = _first_largest(nearest, slack)
        places.append(now)
    return torch.stack(places, dim=1)


def _first_largest(values: Tensor, slack: float) -> Tensor:
    """Lowest index of each row whose value ties with the largest."""
    least = values.amax(dim=1, keepdim=True) / slack
    return (values >= least).view(torch.uint8).argmax(dim=1)
