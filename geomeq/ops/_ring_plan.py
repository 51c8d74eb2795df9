"""From the entries of one meridian to the spectra with which blocks of rows are multiplied."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_BAND = 2**17  # nodes of the output that are worked on at a time, all channels: temporaries stay small and hot
_BLOCK = 4  # rows of the output that share one window of rows of the input
_STORED = 80 * 2**20  # bytes of spectra in one direction; on larger grids every row has a window of its own
_DENSE = 2**22  # bytes of filters on all columns at once, while spectra are made


class RingPlan(NamedTuple):
    """How a band of rows of the output is cut: ``blocks * block`` rows out, ``window`` rows in for each block.

    Rows of the band are counted from ``first_in`` and ``first_out``. Block ``b`` reads the rows ``start + b * step``
    onwards if ``step > 0`` (zero rows stand outside); otherwise rows are listed one by one. ``even`` and ``odd`` are
    the numbers of filters with such parts; if they stand ``apart``, no filter has both, and even ones come first.
    """

    first_in: int
    first_out: int
    rows_in: int
    rows_out: int
    columns: int
    block: int
    blocks: int
    window: int
    start: int
    step: int
    even: int
    odd: int
    apart: int

    @property
    def padded_out(self) -> int:
        """Rows out, to full blocks."""
        return self.block * self.blocks

    @property
    def padded_in(self) -> int:
        """Rows in that are kept apart in memory for each frequency, so that windows are a view."""
        return max(self.step * self.blocks, self.rows_in)

    @property
    def frequencies(self) -> int:
        """Of a real row."""
        return self.columns // 2 + 1

    @property
    def front(self) -> int:
        """Rows before the first frequency."""
        return max(-self.start, 0)

    @property
    def length(self) -> int:
        """Rows of all frequencies, with those before and behind."""
        return self.front + self.frequencies * self.padded_in + self.window + max(self.start, 0)


class RingTable(NamedTuple):
    """Rows out (sorted), rows in, column in minus column out, coefficients: ``[M]``, ``[M]``, ``[M]``, ``[M, K]``."""

    row_out: Tensor
    row_in: Tensor
    shift: Tensor
    coef: Tensor

    def transposed(self) -> "RingTable":
        """The adjoint: reads where this writes."""
        return RingTable(self.row_in, self.row_out, -self.shift, self.coef).sorted()

    def sorted(self) -> "RingTable":
        """By rows out."""
        order = self.row_out.argsort(stable=True)
        return RingTable(*(t[order] for t in self))

    def rows(self, first: int, last: int) -> "RingTable":
        """The entries of some rows out, rows counted from ``first``."""
        start, stop = torch.searchsorted(self.row_out, torch.tensor([first, last])).tolist()
        part = RingTable(*(t[start:stop] for t in self))
        return part._replace(row_out=part.row_out - first)


class Band(NamedTuple):
    """One band, its entries (rows counted within it), the first row of each window, and all rows of all windows."""

    plan: RingPlan
    table: RingTable
    first: Tensor
    listed: Tensor


def make_bands(
    table: RingTable, rows_in: int, rows_out: int, columns: int, itemsize: int, even: int | None, store: bool = True
) -> Iterator[Band]:
    """Cuts a convolution into bands of rows.

    The first ``even`` filters are even along the rings and the others odd, or all are neither if it is ``None``.
    ``store`` allows several rows of the output to share a window.
    """
    taps = table.coef.size(1)
    kinds = (taps, taps, 0) if even is None else (even, taps - even, 1)
    height = max(4 * _BLOCK, _BAND // columns // _BLOCK * _BLOCK)
    ratio = rows_in // rows_out if rows_in % rows_out == 0 else 0
    cuts = [(a, min(a + height, rows_out), columns, ratio) for a in range(0, rows_out, height)]
    bands = [_band(table, *cut, _BLOCK, kinds) for cut in cuts]
    numbers = sum(p.plan.frequencies * p.plan.padded_out * sum(kinds[:2]) * p.plan.window for p in bands)
    if store and numbers * itemsize <= _STORED:
        yield from bands
        return
    for cut in cuts:
        yield _band(table, *cut, 1, kinds)


def _band(
    table: RingTable, first_out: int, last_out: int, columns: int, ratio: int, block: int, kinds: tuple[int, int, int]
) -> Band:
    """The rows ``first_out`` to ``last_out``, of which ``block`` share a window."""
    part, rows_out = table.rows(first_out, last_out), last_out - first_out
    first_in = int(part.row_in.min()) if part.row_in.numel() else 0
    rows_in = int(part.row_in.max()) + 1 - first_in if part.row_in.numel() else 1
    part = part._replace(row_in=part.row_in - first_in)
    low, high = _reach(part, rows_in, rows_out)
    size = min(block, rows_out)
    blocks = -(-rows_out // size)
    of = torch.arange(rows_out) // size
    first = torch.full((blocks,), rows_in).scatter_reduce_(0, of, low, "amin")
    last = torch.full((blocks,), -1).scatter_reduce_(0, of, high, "amax")
    window = int((last - first).max()) + 1
    head = (first_in, first_out, rows_in, rows_out, columns, size, blocks)
    at = size * ratio * torch.arange(blocks)
    start = int((first - at).min())
    even = int((last - at).max()) - start + 1
    if ratio and even <= window + window // 2 + 1:
        step = size * ratio
        blocks = max(blocks, -(-rows_in // step))  # frequencies are then a whole number of steps apart
        plan = RingPlan(*head[:-1], blocks, even, start, step, *kinds)
        return Band(plan, part, start + step * torch.arange(blocks), first[:0])
    first = first.clamp(max=rows_in - window)
    index = (first[:, None] + torch.arange(window)).flatten()
    return Band(RingPlan(*head, window, 0, 0, *kinds), part, first, index)


def _reach(table: RingTable, rows_in: int, rows_out: int) -> tuple[Tensor, Tensor]:
    """First and last row in that each row out reads; rows that read nothing repeat those before them."""
    low = torch.full((rows_out,), rows_in).scatter_reduce_(0, table.row_out, table.row_in, "amin")
    high = torch.full((rows_out,), -1).scatter_reduce_(0, table.row_out, table.row_in, "amax")
    full = (high >= 0).nonzero().flatten()
    if not full.numel():
        return torch.zeros_like(low), torch.zeros_like(high)
    near = full[(torch.searchsorted(full, torch.arange(rows_out), right=True) - 1).clamp(min=0)]
    return low[near], high[near]


def make_spectra(band: Band, dtype: torch.dtype) -> Tensor:
    """Conjugate spectra of the filters: real parts of those with even parts, imaginary parts of those with odd ones.

    Returns:
        Matrices from the rows of a window to (row, even filter) and then (row, odd filter):
        ``[M, blocks, block * (even + odd), window]``.
    """
    plan, table, first, _listed = band
    taps, columns = table.coef.size(1), plan.columns
    out = torch.empty(plan.frequencies, plan.blocks, plan.block * (plan.even + plan.odd), plan.window, dtype=dtype)
    place = table.row_out * plan.window + table.row_in - first[table.row_out // plan.block]
    step = max(1, _DENSE // (8 * plan.block * plan.window * taps * columns))
    for b in range(0, plan.blocks, step):
        rows = range(b * plan.block, min(b + step, plan.blocks) * plan.block)
        start, stop = torch.searchsorted(table.row_out, torch.tensor([rows.start, rows.stop])).tolist()
        dense = table.coef.new_zeros(taps, len(rows) * plan.window * columns)
        at = (place[start:stop] - rows.start * plan.window) * columns + table.shift[start:stop] % columns
        dense.index_add_(1, at, table.coef[start:stop].t())
        spectrum = torch.fft.rfft(dense.view(taps, -1, plan.block, plan.window, columns)).permute(4, 1, 2, 0, 3)
        part = out[:, b : b + step]
        part[:, :, : plan.block * plan.even] = spectrum.real[:, :, :, : plan.even].flatten(2, 3)
        part[:, :, plan.block * plan.even :] = -spectrum.imag[:, :, :, taps - plan.odd :].flatten(2, 3)
    return out
