"""Circular correlations on rings, row by row of latitude, and the mixing of channels, in the Fourier domain.

Real and imaginary parts of a spectrum are two planes, so that all products are of real matrices. The spectrum of a
filter that is even along the rings is real: it takes each plane to itself. That of an odd filter is imaginary and takes
each plane to the other. So filters with a parity, or sorted into such ones, cost half of what complex products do.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from geomeq.ops._product import product
from geomeq.ops._ring_plan import RingPlan
from geomeq.ops._scratch import scratch

_CHUNK = 2**22  # bytes of filtered channels at a time: small enough for a cache, large enough for two cores
_ROWS = 2**19  # bytes of rows that are transformed at a time: the result is still hot when it is transposed
_SMALL = 400  # multiplications: torch does smaller products of a batch in a loop of its own, ten times slower
_SIGNS = (-1, 1)  # of the imaginary part of a spectrum in the plane it goes to


class Bound(NamedTuple):
    """A plan and its tensors: spectra of the filters, and rows of the windows (or none)."""

    plan: RingPlan
    spectra: Tensor
    listed: Tensor


def _row_blocks(rows: int, bytes_per_row: int) -> Iterator[slice]:
    step = max(1, _ROWS // max(bytes_per_row, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def to_spectrum(x: Tensor, plan: RingPlan, out: Tensor | None = None, name: str = "spectrum") -> Tensor:
    """Rows ``[R, n, C]`` to planes ``[2, length, C]``, frequency-major and padded with zero rows.

    Written to ``out``, or to scratch memory of that name.
    """
    rows, columns, channels = x.shape
    frequencies, padded = plan.frequencies, plan.padded_in
    out = scratch(name, x, 2, plan.length, channels) if out is None else out
    end = plan.front + frequencies * padded
    out[:, : plan.front], out[:, end:] = 0, 0
    body = out[:, plan.front : end].view(2, frequencies, padded, channels)
    body[:, :, rows:] = 0
    for block in _row_blocks(rows, columns * channels * x.element_size()):
        z = torch.view_as_real(torch.fft.rfft(x[block], dim=1))
        body[:, :, block].copy_(z.permute(3, 1, 0, 2))
    return out


def put(z: Tensor, first: int, last: int, y: Tensor) -> None:
    """Writes planes ``[2, m, padded rows, O]`` of some frequencies into the complex spectrum of rows, ``[R, M, O]``."""
    rows = z.size(0)
    torch.complex(y[0, :, :rows], y[1, :, :rows], out=z[:, first:last].transpose(0, 1))


def from_spectrum(z: Tensor, out: Tensor) -> None:
    """The inverse transform of ``[R, M, O]`` into rows ``[R, n, O]``."""
    for block in _row_blocks(z.size(0), z[0].numel() * z.element_size()):
        out[block] = torch.fft.irfft(z[block], n=out.size(1), dim=1)


def _chunks(plan: RingPlan, width: int, itemsize: int) -> Iterator[tuple[int, int]]:
    step = max(1, _CHUNK // max(1, plan.padded_out * 2 * width * itemsize))
    for m in range(0, plan.frequencies, step):
        yield m, min(m + step, plan.frequencies)


def _windows(plan: RingPlan, index: Tensor, plane: Tensor, first: int, last: int) -> Tensor:
    """The rows that each block reads, ``[m * blocks, window, C]``, a view where rows follow evenly."""
    channels = plane.size(-1)
    begin = plan.front + first * plan.padded_in
    if plan.step:
        flat = plane[begin + plan.start :]
        size = ((last - first) * plan.blocks, plan.window, channels)
        return flat.as_strided(size, (plan.step * channels, channels, 1), flat.storage_offset())
    body = plane[begin : begin + (last - first) * plan.padded_in]
    return body.view(last - first, plan.padded_in, channels).index_select(1, index).view(-1, plan.window, channels)


class Sums(NamedTuple):
    """Filtered channels of frequencies ``first`` to ``last``.

    ``plain`` ``[2, m * padded rows, K * C]``, and of odd filters that stand apart ``crossed`` of the same form: there,
    plane 0 belongs into the real part with a minus, plane 1 into the imaginary part.
    """

    first: int
    last: int
    plain: Tensor | None
    crossed: Tensor | None


def filtered(bound: Bound, spectrum: Tensor) -> Iterator[Sums]:
    """All filters on all channels, a few frequencies at a time, in memory that the next step writes again."""
    plan, channels = bound.plan, spectrum.size(-1)
    taps, split = plan.even + plan.odd, plan.block * plan.even
    widths = plan.even, plan.odd * plan.apart
    together = plan.apart and plan.window * plan.block * min(widths) * channels < _SMALL
    memory: list[Tensor | None] = []
    for first, last in _chunks(plan, sum(widths) * channels, spectrum.element_size()):
        count, rows = (last - first) * plan.blocks, (last - first) * plan.padded_out
        if not memory:
            names = zip(("plain", "crossed"), widths, strict=True)
            memory = [scratch(name, spectrum, 2, rows, n * channels) if n else None for name, n in names]
        plain, crossed = (None if m is None else m[:, :rows] for m in memory)
        matrices = bound.spectra[first:last].view(count, plan.block * taps, plan.window)
        for i in (0, 1):
            plane = _windows(plan, bound.listed, spectrum[i], first, last)
            to = None if crossed is None else crossed[1 - i].view(count, -1, channels)
            own = None if plain is None else plain[i].view(count, -1, channels)
            if own is not None and to is not None and together:
                both = scratch("both", spectrum, count, plan.block * taps, channels)
                torch.bmm(matrices, plane, out=both)
                own.copy_(both[:, :split])
                to.copy_(both[:, split:])
                continue
            if own is not None:
                torch.bmm(matrices[:, :split], plane, out=own)
            if to is not None:
                torch.bmm(matrices[:, split:], plane, out=to)
            elif plan.odd and own is not None:
                other = _windows(plan, bound.listed, spectrum[1 - i], first, last)
                own.baddbmm_(matrices[:, split:], other, alpha=_SIGNS[i])
        yield Sums(first, last, plain, crossed)


def mix(sums: Tensor, weight: Tensor) -> Tensor:
    """Channels of ``[R, K * C]`` to ``[R, O]`` by ``[G, O / G, K, C / G]``."""
    groups, outputs, taps, _ = weight.shape
    if groups == 1:
        return product(sums, weight.reshape(outputs, -1).t())
    sums = sums.view(sums.size(0), taps, groups, -1)
    return torch.einsum("rkgc,gokc->rgo", sums, weight).reshape(sums.size(0), -1).contiguous()


def _mix_planes(plan: RingPlan, sums: Sums, weight: Tensor) -> Tensor:
    """Both planes of filtered channels to those of the output, ``[2, m, padded rows, O]``."""
    out = None
    if sums.plain is not None:
        out = mix(sums.plain.flatten(0, 1), weight[:, :, : plan.even].contiguous()).view(2, sums.plain.size(1), -1)
    if sums.crossed is not None:
        part = weight[:, :, -plan.odd :].contiguous()
        crossed = [mix(plane, sign * part) for plane, sign in zip(sums.crossed, _SIGNS, strict=True)]
        out = torch.stack(crossed) if out is None else out
        if sums.plain is not None:
            for plane, more in zip(out, crossed, strict=True):
                plane.add_(more)
    assert out is not None
    return out.view(2, sums.last - sums.first, plan.padded_out, -1)


def correlate(sums: Tensor, x: Tensor, groups: int, taps: int) -> Tensor:
    """``[R, K * O]`` against ``[R, C]``: ``[G, C / G, K, O / G]``."""
    if groups == 1:
        return product(x.t(), sums).reshape(1, x.size(1), taps, -1)
    return torch.einsum("rkgo,rgc->gcko", sums.view(sums.size(0), taps, groups, -1), x.view(x.size(0), groups, -1))


def convolve(bound: Bound, spectrum: Tensor, weight: Tensor, out: Tensor) -> None:
    """Filters, then channels: the padded spectrum of the input to rows ``[R_out, n, O]``.

    Args:
        bound: One band.
        spectrum: From ``to_spectrum``.
        weight: ``[G, O / G, K, C / G]``, contiguous.
        out: Where the rows go.
    """
    z = _empty_spectrum(bound.plan, out)
    for sums in filtered(bound, spectrum):
        put(z, sums.first, sums.last, _mix_planes(bound.plan, sums, weight))
    from_spectrum(z, out)


def _empty_spectrum(plan: RingPlan, rows: Tensor) -> Tensor:
    kind = torch.complex128 if rows.dtype == torch.float64 else torch.complex64
    return scratch("out", rows, rows.size(0), plan.frequencies, rows.size(2), dtype=kind)


def convolve_back(
    bound: Bound, grad: Tensor, x: Tensor | None, weight: Tensor, out: Tensor | None, total: Tensor | None
) -> None:
    """Both gradients from one pass over the filtered gradient.

    Args:
        bound: One band of the backward direction.
        grad: Padded spectrum of the gradient.
        x: Spectrum of the input in the rows of this band and to full blocks, ``[2, M, padded, C]``.
        weight: Backward, ``[G, C / G, K, O / G]``, contiguous.
        out: Where the gradient of the input goes, ``[R, n, C]``.
        total: To which the gradient of the weight is added, in the form of ``weight``.
    """
    z = None if out is None else _empty_spectrum(bound.plan, out)
    for sums in filtered(bound, grad):
        if z is not None:
            put(z, sums.first, sums.last, _mix_planes(bound.plan, sums, weight))
        if x is not None and total is not None:
            _add_products(bound.plan, total, sums, x[:, sums.first : sums.last])
    if z is not None and out is not None:
        from_spectrum(z, out)


def _add_products(plan: RingPlan, total: Tensor, sums: Sums, x: Tensor) -> None:
    """Adds sums over columns, by Parseval: frequencies 0 and n / 2 stand for themselves, all others for two.

    The former have no imaginary part.
    """
    groups, channels, columns = total.size(0), x.size(-1), plan.columns
    rows = x.size(2)
    for i, sign in enumerate(_SIGNS):
        plane = x[i].reshape(-1, channels)
        if sums.plain is not None:
            part = total[:, :, : plan.even]
            part.add_(correlate(sums.plain[i], plane, groups, plan.even), alpha=2 / columns)
        if sums.crossed is not None:
            part = total[:, :, -plan.odd :]
            part.add_(correlate(sums.crossed[i], plane, groups, plan.odd), alpha=2 * sign / columns)
    for m in {0, columns // 2 if columns % 2 == 0 else 0}:
        if sums.first <= m < sums.last and sums.plain is not None:
            once = sums.plain[0, (m - sums.first) * rows : (m - sums.first + 1) * rows]
            part = total[:, :, : plan.even]
            part.sub_(correlate(once, x[0, m - sums.first], groups, plan.even), alpha=1 / columns)
