"""Convolutions on grids of rings by Fourier transforms along the rings: filters that differ from row to row."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from geomeq._checks import check_finite, check_shape
from geomeq.ops._functorch import transforms_functions
from geomeq.ops._ring_kernel import Bound, convolve, convolve_back, to_spectrum
from geomeq.ops._ring_parity import parities
from geomeq.ops._ring_plan import RingPlan, RingTable, make_bands, make_spectra

Grid = tuple[int, int]
_KEPT = 24 * 2**20  # bytes of input beyond which transforming it again is cheaper than memory taken anew
_PER_BAND = ("spectra", "index")


class RingFilters(nn.Module):
    r"""Filters of a convolution between two grids of rings, given on one meridian.

    A grid has ``rows`` of latitude with ``columns`` equally spaced nodes each, numbered row by row. A filter depends
    on the row of its middle and on the row of the node it reads, but on the *difference* of longitudes only, so that
    those of the middles in column 0 stand for all. For each frequency along the rings, what is left is a banded
    product over rows, small and dense; it is stored here as real matrices. Filters that are even or odd along the
    rings, or mirror images of one another, take half the memory and half the time of others.

    Columns of the input are a multiple of those of the output (or equal). For the other way round take the filters of
    the reverse and :func:`ring_conv_transpose`.

    ``.to(dtype)`` computes the spectra anew from the entries in float64, and ``.to(device)`` moves them. Nothing is
    part of a ``state_dict``: filters are geometry.

    Args:
        row_out: Row of the middle, which lies in column 0, ``[M]`` integers.
        row_in: Row of the node that is read, ``[M]`` integers.
        offset: Column of that node, ``[M]`` integers, taken modulo the columns of the input.
        coef: Coefficients of ``K`` filters, ``[M, K]``. Equal entries add up.
        size_in: Rows and columns of the input.
        size_out: Rows and columns of the output.
        dtype: Of the signals.
        store: Whether some rows of the output share a window of rows of the input, where that takes less than 80 MiB.
            It is faster, and small filters take up to two thirds more memory.

    Raises:
        TypeError: If indices are not integers.
        ValueError: If a shape is wrong, a row does not exist, the columns do not go together, or nothing is given.

    Example:
        >>> shift = RingFilters(*torch.tensor([[0, 1], [0, 1], [1, 1]]), torch.ones(2, 1), (2, 4), (2, 4))
        >>> ring_conv(torch.arange(8.0)[:, None], shift, torch.ones(1, 1, 1)).flatten().round()
        tensor([1., 2., 3., 0., 5., 6., 7., 4.])
    """

    turn: Tensor | None

    def __init__(
        self,
        row_out: Tensor,
        row_in: Tensor,
        offset: Tensor,
        coef: Tensor,
        size_in: Grid,
        size_out: Grid,
        dtype: torch.dtype = torch.float32,
        store: bool = True,
    ) -> None:
        super().__init__()
        self.size_in, self.size_out = (int(size_in[0]), int(size_in[1])), (int(size_out[0]), int(size_out[1]))
        _check_entries(row_out, row_in, offset, coef, self.size_in, self.size_out)
        self.num_filters, self.store = coef.size(1), store
        self.ratio = self.size_in[1] // self.size_out[1]
        offset = offset.long().cpu() % self.size_in[1]
        # every ratio-th column of the input is a row of its own: rows of both sides then have the same columns
        row_in = row_in.long().cpu() * self.ratio + offset % self.ratio
        shift = offset.div(self.ratio, rounding_mode="floor")
        table = RingTable(row_out.long().cpu(), row_in, shift, coef.detach().double().cpu()).sorted()
        self._turn, self._even = parities(table, self.size_out[1])
        self._table = table if self._turn is None else table._replace(coef=table.coef @ self._turn.t())
        self._compute(dtype, torch.device("cpu"))

    def _compute(self, dtype: torch.dtype, device: torch.device) -> None:
        rows_in, rows_out, columns = self.size_in[0] * self.ratio, *self.size_out
        itemsize = torch.empty((), dtype=dtype).element_size()
        self.plans: dict[str, list[RingPlan]] = {"there": [], "back": []}
        turn = None if self._turn is None else self._turn.to(device, dtype)
        self.register_buffer("turn", turn, persistent=False)
        for way, table, sizes in (
            ("there", self._table, (rows_in, rows_out)),
            ("back", self._table.transposed(), (rows_out, rows_in)),
        ):
            for i, band in enumerate(make_bands(table, *sizes, columns, itemsize, self._even, self.store)):
                self.plans[way].append(band.plan)
                for name, tensor in zip(_PER_BAND, (make_spectra(band, dtype), band.listed), strict=True):
                    self.register_buffer(f"{way}_{name}_{i}", tensor.to(device), persistent=False)

    def tensors(self, reverse: bool = False) -> list[Tensor]:
        """Spectra and window rows, band by band, of this direction and then of the other, as the kernels take them."""
        ways = ("back", "there") if reverse else ("there", "back")
        names = [f"{way}_{name}_{i}" for way in ways for i in range(len(self.plans[way])) for name in _PER_BAND]
        return [getattr(self, name) for name in names]

    def layout(self, reverse: bool = False) -> list[int]:
        """Number of bands and all plans as numbers, in the order of :meth:`tensors`."""
        ways = ("back", "there") if reverse else ("there", "back")
        return [len(self.plans[ways[0]]), *(n for way in ways for plan in self.plans[way] for n in plan)]

    @property
    def dtype(self) -> torch.dtype:
        """Of the signals these filters go with."""
        return self.there_spectra_0.dtype  # type: ignore[union-attr, return-value]

    @property
    def device(self) -> torch.device:
        """Where the signals have to be."""
        return self.there_spectra_0.device  # type: ignore[union-attr, return-value]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.dtype != before and self.dtype not in (torch.float16, torch.bfloat16):
            self._compute(self.dtype, self.device)  # digits that a cast cannot bring back
        return self

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"size_in={self.size_in}, size_out={self.size_out}, num_filters={self.num_filters}"


def _check_entries(
    row_out: Tensor, row_in: Tensor, offset: Tensor, coef: Tensor, size_in: Grid, size_out: Grid
) -> None:
    check_shape("coef", coef, "M", "K")
    for name, index, rows in (("row_out", row_out, size_out[0]), ("row_in", row_in, size_in[0]), ("offset", offset, 0)):
        check_shape(name, index, coef.size(0))
        if index.dtype.is_floating_point or index.dtype.is_complex or index.dtype == torch.bool:
            raise TypeError(f"{name} must hold integers (torch.long), got {index.dtype}")
        if rows and index.numel() and not 0 <= int(index.min()) <= int(index.max()) < rows:
            raise ValueError(
                f"{name} names rows {int(index.min())} to {int(index.max())}, but there are only rows 0 to {rows - 1}"
            )
    if min(*size_in, *size_out) < 1:
        raise ValueError(f"grids have at least one row and one column, got {size_in} and {size_out}")
    if size_in[1] % size_out[1] != 0:
        raise ValueError(
            f"columns of the input must be a multiple of those of the output, got {size_in[1]} and {size_out[1]}; for "
            "the other way round build the filters of the reverse and call ring_conv_transpose()"
        )
    if coef.numel() == 0:
        raise ValueError(f"coef holds no entry, its shape is {list(coef.shape)}; are the caps empty?")
    check_finite("coef", coef, hint="clean the filters")


def ring_conv(x: Tensor, filters: RingFilters, weight: Tensor, recompute: bool = False) -> Tensor:
    r"""Filters on a grid of rings and the mixing of channels.

    .. math:: y_{io} = \sum_{c,k} W_{ock} \sum_j \Psi_{kij} \, x_{jc}

    Rows are transformed once (real fast Fourier transform), filtered and mixed frequency by frequency, and
    transformed back once per output channel. No tensor of nodes x filters x channels is built, neither forward nor
    backward, where the gradients of ``x`` and ``weight`` come from one filtered gradient. Any number of columns
    works; those with small prime factors are fastest. On a CPU some work space (tens of megabytes at most) is kept from
    call to call.

    Not-a-number: a NaN reaches at least the whole of every row in whose windows it lies.

    Args:
        x: ``[N_in, C]`` or ``[B, N_in, C]``, nodes row by row.
        filters: Of the two grids.
        weight: ``[C_out, C / groups, K]``; the number of groups follows from its shape.
        recompute: Whether to keep only ``x`` for the backward pass, and transform it again there. Large signals are
            not kept twice in any case.

    Returns:
        ``[N_out, C_out]`` or ``[B, N_out, C_out]``.

    Raises:
        TypeError: If a dtype does not go with the filters.
        ValueError: If a shape or device does not.
    """
    return _apply(x, filters, weight, recompute, False)


def ring_conv_transpose(x: Tensor, filters: RingFilters, weight: Tensor, recompute: bool = False) -> Tensor:
    r"""The same filters the other way: from the grid of their middles to the grid that they read.

    .. math:: y_{jo} = \sum_{c,k} W_{ock} \sum_i \Psi_{kij} \, x_{ic}

    With ``weight.transpose(0, 1)`` it is the adjoint of :func:`ring_conv`.

    Args:
        x: ``[N_out, C]`` or ``[B, N_out, C]``, on the output grid of the filters.
        filters: Of the two grids.
        weight: ``[C_out, C / groups, K]``.
        recompute: As for :func:`ring_conv`.

    Returns:
        ``[N_in, C_out]`` or ``[B, N_in, C_out]``, on the input grid of the filters.

    Raises:
        TypeError: If a dtype does not go with the filters.
        ValueError: If a shape or device does not.
    """
    return _apply(x, filters, weight, recompute, True)


def _apply(x: Tensor, filters: RingFilters, weight: Tensor, recompute: bool, reverse: bool) -> Tensor:
    batched = x.dim() == 3
    size_from, size_to = (filters.size_out, filters.size_in) if reverse else (filters.size_in, filters.size_out)
    groups = _check_call(x, filters, weight, size_from)
    columns, ratio = filters.size_out[1], filters.ratio
    dtype = filters.dtype
    rows = x.to(dtype).reshape(x.size(0) if batched else 1, *size_from, x.size(-1))
    if ratio > 1 and not reverse:  # [B, R, n, ratio, C] -> [B, (R, ratio), n, C]
        rows = rows.unflatten(2, (columns, ratio)).transpose(2, 3).flatten(1, 2)
    weight = weight.to(dtype) if filters.turn is None else weight.to(dtype) @ filters.turn.t()
    matrix = weight.unflatten(0, (groups, -1)).transpose(2, 3)  # [G, O / G, K, C / G]
    call = _formula if transforms_functions() else _operator
    y = call(rows, matrix, filters.tensors(reverse), filters.layout(reverse), recompute)
    if ratio > 1 and reverse:
        y = y.unflatten(1, (-1, ratio)).transpose(2, 3).flatten(2, 3)
    y = y.reshape(-1, size_to[0] * size_to[1], y.size(-1)).to(x.dtype)
    return y if batched else y.squeeze(0)


def _check_call(x: Tensor, filters: RingFilters, weight: Tensor, size: Grid) -> int:
    """Raises unless all go together; the number of groups."""
    hint = f"the filters read a grid of {size[0]} rows and {size[1]} columns"
    check_shape("x", x, "...", size[0] * size[1], "C", hint=hint)
    if x.dim() not in (2, 3):
        raise ValueError(f"x must have shape [N, C] or [B, N, C], got {list(x.shape)}")
    check_shape("weight", weight, "C_out", "C / groups", filters.num_filters)
    for name, tensor in (("x", x), ("weight", weight)):
        if not tensor.dtype.is_floating_point:
            raise TypeError(f"{name} must be floating point, got {tensor.dtype}; call .float() on it")
        if tensor.device != filters.device:
            raise ValueError(f"{name} must lie on the device of the filters, {filters.device}, got {tensor.device}")
    if x.dtype == torch.float64 and filters.dtype != torch.float64:
        raise TypeError(f"x must have the dtype of the filters, {filters.dtype}, got {x.dtype}; call filters.double()")
    channels, part = x.size(-1), weight.size(1)
    if part == 0 or channels % part or weight.size(0) % max(channels // part, 1):
        raise ValueError(
            f"weight of shape {list(weight.shape)} does not go with {channels} channels: weight.size(1) times a "
            "number of groups that divides weight.size(0) must give them"
        )
    return channels // part


def _split(layout: Sequence[int], tensors: Sequence[Tensor]) -> tuple[list[Bound], list[Bound]]:
    """The bands of this direction and of the other."""
    width, per_band = len(RingPlan._fields), len(_PER_BAND)
    plans = [RingPlan(*layout[i : i + width]) for i in range(1, len(layout), width)]
    bands = [Bound(plan, *tensors[i * per_band : (i + 1) * per_band]) for i, plan in enumerate(plans)]
    return bands[: layout[0]], bands[layout[0] :]


def _operator(x: Tensor, weight: Tensor, tensors: Sequence[Tensor], layout: Sequence[int], recompute: bool) -> Tensor:
    small = x.numel() * x.element_size() <= _KEPT
    keep = small and not recompute and torch.is_grad_enabled() and weight.requires_grad
    return ring_mix(x.contiguous(), weight.contiguous(), tensors, layout, keep)[0]


@torch.library.custom_op("geomeq::ring_mix", mutates_args=())
def ring_mix(
    x: Tensor, weight: Tensor, tensors: Sequence[Tensor], layout: Sequence[int], keep: bool
) -> tuple[Tensor, Tensor]:
    """``x`` ``[B, R_in, n, C]`` to ``[B, R_out, n, O]`` by ``weight`` ``[G, O / G, K, C / G]``.

    The second result is the spectra of ``x``, band after band, for the backward pass if ``keep``, else empty; it has no
    gradient.
    """
    bands, _ = _split(layout, tensors)
    y = _rows_out(x, weight, bands)
    kept = x.new_empty(x.size(0), 2, sum(band.plan.length for band in bands) if keep else 0, x.size(3))
    for item in range(x.size(0)):
        at = 0
        for band in bands:
            plan = band.plan
            room = kept[item, :, at : at + plan.length] if keep else None
            spectrum = to_spectrum(x[item, plan.first_in : plan.first_in + plan.rows_in], plan, room)
            convolve(band, spectrum, weight, y[item, plan.first_out : plan.first_out + plan.rows_out])
            at += plan.length
    return y, kept


def _rows_out(x: Tensor, weight: Tensor, bands: Sequence[Bound]) -> Tensor:
    rows = sum(band.plan.rows_out for band in bands)
    return x.new_empty(x.size(0), rows, x.size(2), weight.size(0) * weight.size(1))


@torch.library.custom_op("geomeq::ring_mix_backward", mutates_args=())
def ring_mix_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    kept: Tensor,
    tensors: Sequence[Tensor],
    layout: Sequence[int],
    wants: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """Gradients of ``ring_mix`` for ``x`` and ``weight``, from one pass; empty where not wanted."""
    there, back = _split(layout, tensors)
    turned, grad = weight.transpose(1, 3).contiguous(), grad.contiguous()
    of_x = torch.empty_like(x) if wants[0] else x.new_empty(0)
    total = torch.zeros_like(turned) if wants[1] else None
    for item in range(x.size(0)):
        for band in back:
            plan = band.plan
            padded = to_spectrum(grad[item, plan.first_in : plan.first_in + plan.rows_in], plan)
            saved = kept[item] if kept.size(2) else None
            own = _spectrum_of_rows(x[item], saved, plan, there) if wants[1] else None
            out = of_x[item, plan.first_out : plan.first_out + plan.rows_out] if wants[0] else None
            convolve_back(band, padded, own, turned, out, total)
    return of_x, weight.new_empty(0) if total is None else total.transpose(1, 3).contiguous()


def _spectrum_of_rows(x: Tensor, kept: Tensor | None, plan: RingPlan, bands: Sequence[Bound]) -> Tensor:
    """The spectrum ``[2, M, padded, C]`` of the rows of ``x`` that a band writes, from what was kept if it is in there.

    What stands in the rows that only fill the last block does not matter, as long as they hold numbers.
    """
    at, first, last, channels = 0, plan.first_out, plan.first_out + plan.rows_out, x.size(2)
    for there in (band.plan for band in bands) if kept is not None else ():
        begin = at + there.front + first - there.first_in
        end = begin + (there.frequencies - 1) * there.padded_in + plan.padded_out
        at += there.length
        if kept is not None and there.first_in <= first and last <= there.first_in + there.rows_in and end <= at:
            size = (2, there.frequencies, plan.padded_out, channels)
            strides = (kept.stride(0), there.padded_in * channels, channels, 1)
            return kept.as_strided(size, strides, kept.storage_offset() + begin * channels)
    padded = plan.padded_out
    plain = RingPlan(0, 0, last - first, last - first, x.size(1), 1, padded, 0, 0, 1, 0, 0, 1)
    return to_spectrum(x[first:last], plain, name="own").unflatten(1, (plain.frequencies, padded))


@ring_mix.register_fake
def _(x: Tensor, weight: Tensor, tensors: Sequence[Tensor], layout: Sequence[int], keep: bool) -> tuple[Tensor, Tensor]:
    bands, _ = _split(layout, tensors)
    length = sum(band.plan.length for band in bands) if keep else 0
    return _rows_out(x, weight, bands), x.new_empty(x.size(0), 2, length, x.size(3))


@ring_mix_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    kept: Tensor,
    tensors: Sequence[Tensor],
    layout: Sequence[int],
    wants: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if wants[0] else (0,)), weight.new_empty(weight.shape if wants[1] else (0,))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, tensors, ctx.layout, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, output[1], *tensors)


def _mix_backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Any, ...]:
    x, weight, spectrum, *tensors = ctx.saved_tensors
    wants = list(ctx.needs_input_grad[:2])
    if grad is None or not any(wants):
        return None, None, [None] * len(tensors), None, None
    found = ring_mix_backward(grad, x, weight, spectrum, tensors, ctx.layout, wants)
    of_x, of_weight = (g if wanted else None for g, wanted in zip(found, wants, strict=True))
    return of_x, of_weight, [None] * len(tensors), None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad, x, weight, _, tensors, ctx.layout, ctx.wants = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad, x, weight, *tensors)


def _mix_backward_backward(ctx: Any, toward_x: Tensor | None, toward_weight: Tensor | None) -> tuple[Any, ...]:
    """``grad_x`` is linear in (grad, weight) and ``grad_weight`` in (grad, x): the same two operators again."""
    grad, x, weight, *tensors = ctx.saved_tensors
    of_grad = of_x = of_weight = None
    none = x.new_empty(x.size(0), 2, 0, x.size(3))
    if toward_x is not None and ctx.wants[0]:
        toward_x = toward_x.contiguous()
        of_grad = ring_mix(toward_x, weight, tensors, ctx.layout, False)[0]
        of_weight = ring_mix_backward(grad, toward_x, weight, none, tensors, ctx.layout, [False, True])[1]
    if toward_weight is not None and ctx.wants[1]:
        toward_weight = toward_weight.contiguous()
        more = ring_mix(x, toward_weight, tensors, ctx.layout, False)[0]
        of_grad = more if of_grad is None else of_grad + more
        of_x = ring_mix_backward(grad, x, toward_weight, none, tensors, ctx.layout, [True, False])[0]
    return of_grad, of_x, of_weight, None, [None] * len(tensors), None, None


ring_mix.register_autograd(_mix_backward, setup_context=_save)
ring_mix_backward.register_autograd(_mix_backward_backward, setup_context=_save_backward)


def _formula(x: Tensor, weight: Tensor, tensors: Sequence[Tensor], layout: Sequence[int], recompute: bool) -> Tensor:
    """The same in operations that every function transform knows; it builds filtered channels as a whole."""
    bands, _ = _split(layout, tensors)
    spectrum = torch.fft.rfft(x, dim=2)
    mixed = torch.cat([_formula_band(spectrum, weight, band) for band in bands], dim=1)
    return torch.fft.irfft(mixed, n=x.size(2), dim=2)


def _formula_band(x: Tensor, weight: Tensor, band: Bound) -> Tensor:
    """Spectra ``[B, R_in, M, C]`` to those of the band, ``[B, R, M, O]``."""
    plan, index = band.plan, band.listed
    x = x[:, plan.first_in : plan.first_in + plan.rows_in]
    if plan.step:
        steps = torch.arange(plan.blocks, device=x.device) * plan.step + plan.start + plan.front
        index = (steps[:, None] + torch.arange(plan.window, device=x.device)).flatten()
        behind = max(0, plan.start + plan.step * plan.blocks + plan.window - plan.rows_in)
        x = torch.nn.functional.pad(x, (0, 0, 0, 0, plan.front, behind))
    rows = x.index_select(1, index).unflatten(1, (plan.blocks, plan.window))  # [B, blocks, window, M, C]
    parts = band.spectra.split([plan.block * plan.even, plan.block * plan.odd], dim=2)
    even, odd = (part.unflatten(2, (plan.block, -1)) for part in parts)  # [M, blocks, block, K, window]
    if plan.apart:
        filters = torch.cat([torch.complex(even, 0 * even), torch.complex(0 * odd, odd)], dim=3)
    else:
        filters = torch.complex(even, odd)
    sums = torch.einsum("mbtkw,nbwmc->nbtmkc", filters, rows)
    sums = sums.flatten(1, 2)[:, : plan.rows_out].unflatten(-1, (weight.size(0), -1))
    return torch.einsum("nrmkgc,gokc->nrmgo", sums, weight.to(sums.dtype)).flatten(3)


for _name in (ring_mix, ring_mix_backward):
    for _device in ("cpu", "cuda"):  # under autocast the products inside would be cast down
        _name.register_autocast(_device, torch.float32)
