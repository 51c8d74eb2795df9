"""From the entries of one meridian to the spectra with which blocks of rows are multiplied."""

from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 4  # rows of the output that share one window of rows of the input, where spectra are stored block by block
_STORED = 192 * 2**20  # bytes of stored blocks in one direction; larger grids keep the bare spectra
_DENSE = 32 * 2**20  # bytes of filters on all columns at once, while spectra are made


class RingPlan(NamedTuple):
    """How one direction is cut into blocks: ``blocks * block`` rows out, ``window`` rows in for each block.

    Block ``b`` reads the rows ``start + b * step`` onwards if ``step > 0`` (zero rows stand outside); otherwise rows
    are listed one by one.
    """

    rows_in: int
    rows_out: int
    columns: int
    block: int
    blocks: int
    window: int
    start: int
    step: int
    stored: int

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


class RingEntriesTable(NamedTuple):
    """Rows out, rows in, column in minus column out, coefficients: ``[M]``, ``[M]``, ``[M]``, ``[M, K]``."""

    row_out: Tensor
    row_in: Tensor
    shift: Tensor
    coef: Tensor

    def transposed(self) -> "RingEntriesTable":
        """The adjoint: reads where this writes."""
        return RingEntriesTable(self.row_in, self.row_out, -self.shift, self.coef)


def make_plan(table: RingEntriesTable, rows_in: int, rows_out: int, columns: int, itemsize: int) -> RingPlan:
    """Blocks and windows for a table of entries."""
    low, high = _reach(table, rows_in, rows_out)
    frequencies, taps = columns // 2 + 1, table.coef.size(1)
    block = min(_BLOCK, rows_out)
    plan = _cut(low, high, block, rows_in, rows_out, columns, 1)
    numbers = frequencies * plan.blocks * plan.block * 4 * taps * plan.window
    if numbers * itemsize <= _STORED:
        return plan
    return _cut(low, high, 1, rows_in, rows_out, columns, 0)


def _reach(table: RingEntriesTable, rows_in: int, rows_out: int) -> tuple[Tensor, Tensor]:
    """First and last row in that each row out reads; rows that read nothing repeat those before them."""
    low = torch.full((rows_out,), rows_in).scatter_reduce_(0, table.row_out, table.row_in, "amin")
    high = torch.full((rows_out,), -1).scatter_reduce_(0, table.row_out, table.row_in, "amax")
    full = (high >= 0).nonzero().flatten()
    near = full[(torch.searchsorted(full, torch.arange(rows_out), right=True) - 1).clamp(min=0)]
    return low[near], high[near]


def _cut(low: Tensor, high: Tensor, block: int, rows_in: int, rows_out: int, columns: int, stored: int) -> RingPlan:
    blocks = -(-rows_out // block)
    of = torch.arange(rows_out) // block
    first = torch.full((blocks,), rows_in).scatter_reduce_(0, of, low, "amin")
    last = torch.full((blocks,), -1).scatter_reduce_(0, of, high, "amax")
    window = int((last - first).max()) + 1
    if rows_in % rows_out == 0:
        step = block * (rows_in // rows_out)
        ahead = first - step * torch.arange(blocks)
        start = int(ahead.min())
        even = int((last - step * torch.arange(blocks)).max()) - start + 1
        if even <= window + window // 2 + 1:
            return RingPlan(rows_in, rows_out, columns, block, blocks, even, start, step, stored)
    return RingPlan(rows_in, rows_out, columns, block, blocks, min(window, rows_in), 0, 0, stored)


def window_rows(plan: RingPlan, table: RingEntriesTable) -> tuple[Tensor, Tensor]:
    """First row of each window ``[blocks]``, and all rows of all windows if they do not follow each other evenly."""
    index = torch.arange(plan.blocks)
    if plan.step:
        return plan.start + plan.step * index, index[:0]
    low, _ = _reach(table, plan.rows_in, plan.rows_out)
    of = torch.arange(plan.rows_out) // plan.block
    first = torch.full((plan.blocks,), plan.rows_in).scatter_reduce_(0, of, low, "amin")
    first = first.clamp(max=plan.rows_in - plan.window)
    return first, (first[:, None] + torch.arange(plan.window)).flatten()


def make_spectra(plan: RingPlan, table: RingEntriesTable, first: Tensor, dtype: torch.dtype) -> Tensor:
    """Spectra of the filters, conjugated, as :func:`_apply_spectra` multiplies with them.

    Returns:
        Stored: real matrices ``[M, blocks, block, 2, K, window, 2]``, from (row, real or imaginary) to (row, real or
        imaginary, filter). Bare (blocks of one row): ``[M, rows, 2, K, window]``, real and imaginary parts.
    """
    taps, columns, frequencies = table.coef.size(1), plan.columns, plan.frequencies
    shape = (plan.blocks, plan.block, 2, taps, plan.window) + ((2,) if plan.stored else ())
    out = torch.empty(frequencies, *shape, dtype=dtype)
    order = table.row_out.argsort(stable=True)
    row_out, row_in, shift, coef = (t[order] for t in table)
    local = row_in - first[row_out // plan.block]
    place = row_out * plan.window + local
    step = max(1, _DENSE // (8 * plan.block * plan.window * taps * columns))
    for b in range(0, plan.blocks, step):
        blocks = slice(b, min(b + step, plan.blocks))
        rows = (blocks.stop - b) * plan.block
        start, stop = torch.searchsorted(row_out, torch.tensor([b * plan.block, blocks.stop * plan.block])).tolist()
        dense = coef.new_zeros(rows * plan.window * columns, taps)
        at = (place[start:stop] - b * plan.block * plan.window) * columns + shift[start:stop] % columns
        dense.index_add_(0, at, coef[start:stop])
        _fill(out[:, blocks], torch.fft.rfft(dense.view(-1, plan.block, plan.window, columns, taps), dim=3), plan)
    return out if plan.stored else out.squeeze(2)


def _fill(out: Tensor, spectrum: Tensor, plan: RingPlan) -> None:
    """Writes conjugate spectra ``[blocks, block, window, M, K]``."""
    real, imag = (part.permute(3, 0, 1, 4, 2) for part in (spectrum.real, -spectrum.imag))
    if not plan.stored:
        out[:, :, :, 0], out[:, :, :, 1] = real, imag
        return
    out[:, :, :, 0, :, :, 0] = out[:, :, :, 1, :, :, 1] = real
    out[:, :, :, 1, :, :, 0], out[:, :, :, 0, :, :, 1] = imag, -imag
