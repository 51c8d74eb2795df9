"""Rows moved to other places: a gather whose gradient is a gather as well."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from geomeq._checks import check_shape
from geomeq.ops._functorch import transforms_functions


class RowMap:
    r"""A sparse map between rows that is nearly a selection: :math:`y_m = x_{s(m)} + \sum_e w_e x_{j_e}`.

    Halos of images on faces, changes of the order of pixels, and sources with some rows of means appended are such
    maps. The gradient of ``index_select`` adds row by row, in case one was selected twice; here it is known beforehand
    which are, so that the gradient is a selection of the same cost as the forward pass and a few additions.

    It is geometry and never changes: copies share it.

    Args:
        index: Source of each row, ``[M]``; -1 for none.
        num_sources: Number of rows of ``x``.
        rows: Rows of further entries, ``[Q]``, repeats allowed.
        sources: Their sources, ``[Q]``.
        weight: Their weights, ``[Q]``; by default 1.

    Raises:
        ValueError: If a shape is wrong or an index names a row that is not there.

    Example:
        >>> RowMap(torch.tensor([2, 2, -1]), num_sources=3)(torch.tensor([[[1.0], [2.0], [3.0]]])).flatten()
        tensor([3., 3., 0.])
    """

    def __init__(
        self,
        index: Tensor,
        num_sources: int,
        rows: Tensor | None = None,
        sources: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        none = index.new_zeros(0)
        rows, sources = (none if rows is None else rows), (none if sources is None else sources)
        check_shape("index", index, "M")
        check_shape("sources", sources, len(rows), hint="one for each of rows")
        if weight is not None:
            check_shape("weight", weight, len(rows), hint="one for each of rows")
        for name, values, size in (("index", index, num_sources), ("sources", sources, num_sources)):
            if values.numel() and int(values.max()) >= num_sources:
                raise ValueError(f"{name} names row {int(values.max())}, but there are only {size}")
        self.size = num_sources, len(index)
        self.there = _half(index, rows, sources, weight)
        self.back = _reversed(index, num_sources, rows, sources, weight)

    def __call__(self, x: Tensor) -> Tensor:
        """``[B, num_sources, C]`` to ``[B, M, C]``."""
        return _apply(x, self.there, self.back)

    def transposed(self, y: Tensor) -> Tensor:
        """The transpose: ``[B, M, C]`` to ``[B, num_sources, C]``."""
        return _apply(y, self.back, self.there)

    def to(self, device: torch.device) -> Self:
        """A copy on another device."""
        new = object.__new__(type(self))
        new.size = self.size
        new.there, new.back = ([t.to(device) for t in half] for half in (self.there, self.back))
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def _half(index: Tensor, rows: Tensor, sources: Tensor, weight: Tensor | None) -> list[Tensor]:
    """Sources (any where there is none), rows without one, further entries; no weights where all are 1."""
    empty = (index < 0).nonzero()[:, 0]
    weight = torch.zeros(0, dtype=torch.float64) if weight is None else weight
    return [index.clamp(min=0).int(), empty, rows, sources, weight]


def _reversed(index: Tensor, num_sources: int, rows: Tensor, sources: Tensor, weight: Tensor | None) -> list[Tensor]:
    """The same for the transpose: of the rows that one source goes to, the first is selected, the others are added."""
    there = (index >= 0).nonzero()[:, 0]
    back = torch.full((num_sources,), -1)
    back[index[there].flip(0)] = there.flip(0)  # the first wins
    more = there[back[index[there]] != there]
    if weight is not None:
        weight = torch.cat([torch.ones(len(more), dtype=weight.dtype), weight])
    return _half(back, torch.cat([index[more], sources]), torch.cat([more, rows]), weight)


def _further(x: Tensor, sources: Tensor, weight: Tensor) -> Tensor:
    some = x.index_select(1, sources)
    return some * weight.to(x.dtype)[:, None] if weight.size(0) else some


def _apply(x: Tensor, there: list[Tensor], back: list[Tensor]) -> Tensor:
    if not transforms_functions():
        return map_rows(x, there, back)
    index, empty, rows, sources, weight = there
    out = x.index_select(1, index).index_fill(1, empty, 0)
    return out.index_add(1, rows, _further(x, sources, weight))


@torch.library.custom_op("geomeq::map_rows", mutates_args=())
def map_rows(x: Tensor, there: Sequence[Tensor], back: Sequence[Tensor]) -> Tensor:
    """Selects rows, empties some, adds a few.

    Args:
        x: ``[B, N, C]``.
        there: ``RowMap.there``.
        back: ``RowMap.back``.

    Returns:
        ``[B, M, C]``.
    """
    index, empty, rows, sources, weight = there
    if x.device.type == "cpu":
        out, x = x.new_empty(x.size(0), index.numel(), x.size(2)), x.contiguous()
        for one, row in zip(out, x, strict=True):  # a batch at once takes a slow way
            torch.index_select(row, 0, index, out=one)
    else:
        out = x.index_select(1, index)
    if empty.numel():
        out.index_fill_(1, empty, 0)
    if rows.numel():
        out.index_add_(1, rows, _further(x, sources, weight))
    return out


@map_rows.register_fake
def _(x: Tensor, there: Sequence[Tensor], back: Sequence[Tensor]) -> Tensor:
    return x.new_empty(x.size(0), there[0].size(0), x.size(2))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, there, back = inputs
    ctx.save_for_backward(*there, *back)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    maps = ctx.saved_tensors
    return map_rows(grad, maps[5:], maps[:5]), [None] * 5, [None] * 5


map_rows.register_autograd(_backward, setup_context=_save)
