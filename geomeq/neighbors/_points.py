"""Checked positions in float64, and the one formula for their squared distances."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import check_finite, check_shape

_LARGEST = 1e150  # the square of a larger coordinate overflows float64


def tie_tolerance(dtype: torch.dtype) -> float:
    """Relative difference below which two distances count as equal.

    Args:
        dtype: Of the positions: ``torch.float32`` or ``torch.float64``.

    Returns:
        1e-9 for float64 and 1e-6 for float32: far above the rounding of a rotation, far below any real difference.

    Raises:
        TypeError: For another dtype.

    Example:
        >>> tie_tolerance(torch.float64)
        1e-09
    """
    if dtype == torch.float64:
        return 1e-9
    if dtype == torch.float32:
        return 1e-6
    raise TypeError(f"positions must be float32 or float64, got {dtype}; convert them with .float() or .double()")


@dataclass
class Points:
    """Positions as float64 columns ``[d, N]``, with the graph of each point (``None``: one graph)."""

    columns: Tensor
    batch: Tensor | None

    @property
    def num(self) -> int:
        """Number of points."""
        return self.columns.size(1)

    @property
    def dim(self) -> int:
        """Dimension of the space."""
        return self.columns.size(0)

    @property
    def device(self) -> torch.device:
        """Where the coordinates lie."""
        return self.columns.device

    def graph(self) -> Tensor:
        """Graph of each point, ``[N]``; zeros for a single graph."""
        if self.batch is None:
            return torch.zeros(self.num, dtype=torch.long, device=self.device)
        return self.batch

    def take(self, index: Tensor) -> "Points":
        """The points at ``index``, in that order."""
        return Points(self.columns[:, index], None if self.batch is None else self.batch[index])


def read_points(pos: Tensor, batch: Tensor | None, name: str = "pos", batch_name: str = "batch") -> Points:
    """Checks positions ``[N, d]`` and batch ``[N]`` and copies them to float64 columns.

    Raises:
        TypeError: If ``pos`` is not float32 or float64, or ``batch`` holds no integers.
        ValueError: For another shape, NaN, infinite or huge coordinates, negative graph numbers, mixed devices.
    """
    check_shape(name, pos, "N", "d")
    tie_tolerance(pos.dtype)
    if pos.size(1) == 0:
        raise ValueError(f"{name} must have at least one coordinate per point, got shape {list(pos.shape)}")
    columns = pos.detach().to(torch.float64).t().contiguous()
    if columns.numel() and not float(columns.abs().amax()) < _LARGEST:  # NaN fails the comparison too
        check_finite(name, pos, hint="remove or repair these points first")
        raise ValueError(f"{name} has coordinates beyond {_LARGEST:g}, their squares overflow; use a larger unit")
    if batch is None:
        return Points(columns, None)
    check_shape(batch_name, batch, pos.size(0))
    if batch.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{batch_name} must hold integers (torch.long), got {batch.dtype}")
    if batch.device != pos.device:
        raise ValueError(f"{batch_name} is on {batch.device} but {name} on {pos.device}; move one of them")
    batch = batch.long()
    if batch.numel() and int(batch.amin()) < 0:
        raise ValueError(f"{batch_name} must hold graph numbers from 0, got {int(batch.amin())}")
    return Points(columns, batch)


def read_query(
    pos: Tensor, source: Points, query: Tensor | None, query_batch: Tensor | None, loop: bool
) -> Points | None:
    """Checks the optional second set of points; ``None`` if the points are compared with themselves.

    Raises:
        ValueError: If dimension or device differ, if only one side has a batch, or if ``loop`` is asked for.
    """
    if query is None:
        if query_batch is not None:
            raise ValueError("query_batch was given without query; give both, or only batch")
        return None
    target = read_points(query, query_batch, "query", "query_batch")
    if query.device != pos.device:
        raise ValueError(f"query is on {query.device} but pos on {pos.device}; move one of them")
    if target.dim != source.dim:
        raise ValueError(f"query must have {source.dim} coordinates per point as pos has, got {target.dim}")
    if (query_batch is None) != (source.batch is None):
        given, missing = ("batch", "query_batch") if query_batch is None else ("query_batch", "batch")
        raise ValueError(f"{given} was given without {missing}; give both or neither")
    if loop:
        raise ValueError(
            "loop=True connects a point with itself, which has no meaning for another set of points (query)"
        )
    return target


def read_tolerance(rtol: float | None, *tensors: Tensor | None) -> float:
    """The tolerance to use: ``rtol`` if given, else the coarsest default among the tensors' dtypes."""
    if rtol is None:
        return max(tie_tolerance(t.dtype) for t in tensors if t is not None)
    if not 0 <= rtol < 0.1:
        raise ValueError(f"rtol must be a small non-negative number, got {rtol}; leave it out for the default")
    return float(rtol)


def read_cutoff(cutoff: float, rtol: float) -> float:
    """The largest distance that counts as inside: ``cutoff * (1 + rtol)``.

    Raises:
        ValueError: If ``cutoff`` is not a positive number whose square is a normal float.
    """
    cutoff = float(cutoff)
    if not (math.isfinite(cutoff) and 1e-150 < cutoff < _LARGEST):
        raise ValueError(f"cutoff must be a positive, finite length, got {cutoff}")
    return cutoff * (1 + rtol)


def squared_distance(source: Points, j: Tensor, target: Points, i: Tensor) -> Tensor:
    """Squared distances of the pairs ``(j, i)``, ``[P]``.

    Coordinates are added one after the other in separate operations, so the result has the same bits on every device
    and does not change when the two points swap roles.
    """
    total = torch.zeros(j.numel(), dtype=torch.float64, device=source.device)
    for a, b in zip(source.columns, target.columns, strict=True):
        step = a[j] - b[i]
        total += step.square_()
    return total


def sort_rows(columns: list[Tensor], sizes: list[int]) -> list[Tensor]:
    """Sorts rows of non-negative integers, first column first.

    Args:
        columns: Each ``[P]``.
        sizes: A bound for each column: its entries are smaller.
    """
    bits = [max(int(size) - 1, 0).bit_length() for size in sizes]
    if columns[0].numel() == 0:
        return columns
    if sum(bits) > 62:  # too wide for one key: sort the rest, then stably by the first column
        rest = _argsort_rows(columns)
        return [column[rest] for column in columns]
    key = columns[0]
    for column, width in zip(columns[1:], bits[1:], strict=True):
        key = (key << width) | column
    if key.device.type == "cpu":
        ordered = key.numpy().copy() if key is columns[0] else key.numpy()
        ordered.sort()  # numpy's integer sort is several times faster than torch's on one core
        key = torch.from_numpy(ordered)
    else:
        key = key.sort().values
    result = []
    for width in reversed(bits[1:]):
        result.append(key & ((1 << width) - 1))
        key = key >> width
    return [key, *reversed(result)]


def _argsort_rows(columns: list[Tensor]) -> Tensor:
    order = torch.arange(columns[0].numel(), device=columns[0].device)
    for column in reversed(columns):
        order = order[torch.sort(column[order], stable=True).indices]
    return order


def sort_edges(j: Tensor, i: Tensor) -> Tensor:
    """Edges ``[2, E]`` from sources and targets, sorted by target and then source."""
    i, j = sort_rows([i, j], [1 << 31, 1 << 31])
    return torch.stack([j, i])
