"""Circular correlations on rings, row by row of latitude, and the mixing of channels, in the Fourier domain.

Channels are transformed in pairs, as the two parts of complex numbers: every transposition then moves half as many,
twice as long elements. With :math:`z = x_1 + i x_2` and transform :math:`Z`, the real parts of both spectra are
:math:`Z(m) + Z(n - m)` as a pair, up to a factor of two, and their imaginary parts :math:`i (Z(n - m) - Z(m))`. So they
come out as rows of channels, ready for real matrix products. The way back needs no such trick: both parts are written
side by side, as the real inverse transform reads them.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from geomeq.ops._ring_plan import RingPlan
from geomeq.ops._scratch import scratch

_CHUNK = 2**22  # bytes of filtered channels at a time: small enough for a cache, large enough for two cores
_ROWS = 2**21  # bytes of rows that are transformed at a time
# no public name of torch, and not in every build of it
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _pairs(x: Tensor) -> Tensor:
    """Neighbouring channels as complex numbers, a view: ``[..., 2 C]`` to ``[..., C]``."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def _row_blocks(rows: int, bytes_per_row: int) -> Iterator[slice]:
    step = max(1, _ROWS // max(bytes_per_row, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def to_spectrum(x: Tensor, plan: RingPlan, out: Tensor | None = None, name: str = "spectrum") -> Tensor:
    """Rows ``[R, n, C]`` to ``[length, 2, C]``, frequency-major: twice the spectrum, padded with zero rows.

    Written to ``out``, or to scratch memory of that name. Real and imaginary parts lie in rows of their own, so that
    every product after it is one of real matrices.
    """
    rows, columns, channels = x.shape
    frequencies, padded = plan.frequencies, plan.padded_in
    out = scratch(name, x, plan.length, 2, channels) if out is None else out
    end = plan.front + frequencies * padded
    out[: plan.front], out[end:] = 0, 0
    body = out[plan.front : end].view(frequencies, padded, 2, channels)
    body[:, rows:] = 0
    for block in _row_blocks(rows, columns * channels * x.element_size()):
        into, part = body[:, block], x[block]
        if channels % 2:
            into, part = x.new_empty(*into.shape[:-1], channels + 1), F.pad(part, (0, 1))
        z = torch.fft.fft(_pairs(part), dim=1).contiguous()  # contiguous again: [rows, n, C / 2]
        mirror = z[:, columns - frequencies + 1 :].flip(1)
        real, imag = (_pairs(into[:, :, plane]).transpose(0, 1) for plane in (0, 1))
        torch.mul(z[:, 0], 2, out=real[:, 0])
        imag[:, 0] = 0
        torch.add(z[:, 1:frequencies], mirror, out=real[:, 1:])
        torch.sub(mirror, z[:, 1:frequencies], out=imag[:, 1:])
        imag.mul_(1j)
        if channels % 2:
            body[:, block] = into[..., :channels]
    return out


def put(z: Tensor, first: int, last: int, y: Tensor) -> None:
    """Writes the spectrum ``[m, padded rows, 2, O]`` of some frequencies into that of rows, ``[R, M, O]``, complex."""
    rows = z.size(0)
    torch.complex(y[:, :rows, 0], y[:, :rows, 1], out=z[:, first:last].transpose(0, 1))


def from_spectrum(z: Tensor, out: Tensor) -> None:
    """The inverse transform of ``[R, M, O]`` into rows ``[R, n, O]``."""
    for block in _row_blocks(z.size(0), z[0].numel() * z.element_size()):
        out[block] = torch.fft.irfft(z[block], n=out.size(1), dim=1)


def _chunks(plan: RingPlan, width: int, itemsize: int) -> Iterator[tuple[int, int]]:
    step = max(1, _CHUNK // max(1, plan.padded_out * 2 * width * itemsize))
    for m in range(0, plan.frequencies, step):
        yield m, min(m + step, plan.frequencies)


def _matrices(plan: RingPlan, spectra: Tensor, first: int, last: int, buffer: Tensor | None) -> tuple[Tensor, Tensor]:
    """Real matrices of some frequencies, ``[m * blocks, block * 2 * K, window * 2]``, and the memory to use again."""
    part = spectra[first:last]
    if plan.stored:
        _, _, block, _, taps, window, _ = spectra.shape
        return part.view(-1, block * 2 * taps, window * 2), part
    taps, window = spectra.shape[3:]
    if buffer is None or buffer.size(0) < last - first:
        buffer = scratch("matrices", spectra, last - first, spectra.size(1), 2, taps, window, 2)
    use = buffer[: last - first]
    use[:, :, 0, :, :, 0], use[:, :, 1, :, :, 1] = part[:, :, 0], part[:, :, 0]
    use[:, :, 1, :, :, 0] = part[:, :, 1]
    torch.neg(part[:, :, 1], out=use[:, :, 0, :, :, 1])
    return use.view(-1, 2 * taps, window * 2), buffer


def _windows(plan: RingPlan, index: Tensor, spectrum: Tensor, first: int, last: int) -> Tensor:
    """The rows that each block reads, ``[m * blocks, window * 2, C]``, a view where rows follow evenly."""
    channels = spectrum.size(-1)
    begin = plan.front + first * plan.padded_in
    if plan.step:
        flat = spectrum[begin + plan.start :]
        size = ((last - first) * plan.blocks, plan.window * 2, channels)
        return flat.as_strided(size, (plan.step * 2 * channels, channels, 1), flat.storage_offset())
    body = spectrum[begin : begin + (last - first) * plan.padded_in]
    rows = body.view(last - first, plan.padded_in, 2 * channels).index_select(1, index)
    return rows.view(-1, plan.window * 2, channels)


def filtered(
    plan: RingPlan, spectra: Tensor, index: Tensor, spectrum: Tensor, taps: int
) -> Iterator[tuple[int, int, Tensor]]:
    """All filters on all channels, a few frequencies at a time.

    Yields:
        First and last frequency, and ``[m, padded rows, 2, K * C]`` in memory that the next step writes again.
    """
    channels = spectrum.size(-1)
    memory = buffer = None
    for first, last in _chunks(plan, taps * channels, spectrum.element_size()):
        matrices, buffer = _matrices(plan, spectra, first, last, buffer)
        if memory is None:
            memory = scratch("sums", spectrum, matrices.size(0), matrices.size(1), channels)
        out = memory[: matrices.size(0)]
        torch.bmm(matrices, _windows(plan, index, spectrum, first, last), out=out)
        yield first, last, out.view(last - first, plan.padded_out, 2, taps * channels)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight.T``; by oneDNN where it is there, which is twice as fast as MKL on some processors."""
    if _ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu":
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")  # type: ignore[no-any-return]
    return F.linear(x, weight)


def mix(sums: Tensor, weight: Tensor, taps: int) -> Tensor:
    """Channels of ``[R, K * C]`` to ``[R, O]`` by ``[G, O / G, K, C / G]``."""
    groups, outputs = weight.size(0), weight.size(1)
    if groups == 1:
        return linear(sums, weight.view(outputs, -1))
    sums = sums.view(sums.size(0), taps, groups, -1)
    return torch.einsum("rkgc,gokc->rgo", sums, weight).reshape(sums.size(0), -1).contiguous()


def correlate(sums: Tensor, x: Tensor, groups: int, taps: int) -> Tensor:
    """``[R, K * O]`` against ``[R, C]``: ``[G, C / G, K, O / G]``."""
    if groups == 1:
        return linear(x.t(), sums.t()).view(1, x.size(1), taps, -1)
    return torch.einsum("rkgo,rgc->gcko", sums.view(sums.size(0), taps, groups, -1), x.view(x.size(0), groups, -1))


def convolve(plan: RingPlan, spectra: Tensor, index: Tensor, spectrum: Tensor, weight: Tensor, out: Tensor) -> None:
    """Filters, then channels: the padded spectrum of the input to rows ``[R_out, n, O]``.

    Args:
        plan: Of this band.
        spectra: From ``make_spectra``.
        index: Rows of the windows, or empty.
        spectrum: From ``to_spectrum``.
        weight: ``[G, O / G, K, C / G]``, contiguous.
        out: Where the rows go.
    """
    taps = weight.size(2)
    z = _empty_spectrum(plan, out)
    for first, last, sums in filtered(plan, spectra, index, spectrum, taps):
        put(z, first, last, mix(sums.view(-1, sums.size(-1)), weight, taps).view(*sums.shape[:3], -1))
    from_spectrum(z, out)


def _empty_spectrum(plan: RingPlan, rows: Tensor) -> Tensor:
    kind = torch.complex128 if rows.dtype == torch.float64 else torch.complex64
    return scratch("out", rows, rows.size(0), plan.frequencies, rows.size(2), dtype=kind)


def convolve_back(
    plan: RingPlan,
    spectra: Tensor,
    index: Tensor,
    grad: Tensor,
    x: Tensor | None,
    weight: Tensor,
    out: Tensor | None,
    total: Tensor | None,
) -> None:
    """Both gradients from one pass over the filtered gradient.

    Args:
        plan: Of this band of the backward direction.
        spectra: Of this band.
        index: Of this band.
        grad: Padded spectrum of the gradient.
        x: Spectrum of the input in the rows of this band and to full blocks, ``[M, padded, 2, C]``.
        weight: Backward, ``[G, C / G, K, O / G]``, contiguous.
        out: Where the gradient of the input goes, ``[R, n, C]``.
        total: To which the gradient of the weight is added, in the form of ``weight``.
    """
    taps = weight.size(2)
    z = None if out is None else _empty_spectrum(plan, out)
    for first, last, sums in filtered(plan, spectra, index, grad, taps):
        if z is not None:
            put(z, first, last, mix(sums.view(-1, sums.size(-1)), weight, taps).view(*sums.shape[:3], -1))
        if x is not None and total is not None:
            _add_products(total, sums, x[first:last], first, plan.columns)
    if z is not None and out is not None:
        from_spectrum(z, out)


def _add_products(total: Tensor, sums: Tensor, x: Tensor, first: int, columns: int) -> None:
    """Adds sums over columns, by Parseval: frequencies 0 and n / 2 stand for themselves, all others for two."""
    groups, taps = total.size(0), total.size(2)
    width, channels = sums.size(-1), x.size(-1)
    total.add_(correlate(sums.reshape(-1, width), x.reshape(-1, channels), groups, taps), alpha=1 / columns)
    for m in {0, columns // 2 if columns % 2 == 0 else 0}:
        if first <= m < first + sums.size(0):
            once = correlate(sums[m - first].reshape(-1, width), x[m - first].reshape(-1, channels), groups, taps)
            total.sub_(once, alpha=0.5 / columns)
