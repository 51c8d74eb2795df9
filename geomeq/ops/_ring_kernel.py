"""Circular correlations on rings, row by row of latitude, and the mixing of channels, in the Fourier domain."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from geomeq.ops._ring_plan import RingPlan

_CHUNK = 3 * 2**19  # bytes of filtered channels at a time: what stays in the cache of a core or two


def to_spectrum(x: Tensor, plan: RingPlan) -> Tensor:
    """Rows ``[B, R, n, C]`` to ``[B, front + M * padded_in + back, 2, C]``, frequency-major, padded with zero rows.

    Real and imaginary parts lie in rows of their own, so that every product after it is one of real matrices.
    """
    batch, rows, _, channels = x.shape
    front, back = max(-plan.start, 0), plan.window + max(plan.start, 0)
    frequencies, padded = plan.frequencies, plan.padded_in
    out = x.new_empty(batch, front + frequencies * padded + back, 2, channels)
    out[:, :front], out[:, -back:] = 0, 0
    body = out[:, front : front + frequencies * padded].view(batch, frequencies, padded, 2, channels)
    body[:, :, rows:] = 0
    spectrum = torch.view_as_real(torch.fft.rfft(x, dim=2))  # [B, R, M, C, 2]
    body[:, :, :rows].copy_(spectrum.permute(0, 2, 1, 4, 3))
    return out


def from_spectrum(z: Tensor, columns: int) -> Tensor:
    """``[B, R, O, M, 2]`` to rows ``[B, R, n, O]``."""
    return torch.fft.irfft(torch.view_as_complex(z), n=columns, dim=3).transpose(2, 3).contiguous()


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
        buffer = spectra.new_empty(last - first, plan.rows_out, 2, taps, window, 2)
    use = buffer[: last - first]
    use[:, :, 0, :, :, 0], use[:, :, 1, :, :, 1] = part[:, :, 0], part[:, :, 0]
    use[:, :, 1, :, :, 0] = part[:, :, 1]
    torch.neg(part[:, :, 1], out=use[:, :, 0, :, :, 1])
    return use.view(-1, 2 * taps, window * 2), buffer


def _windows(plan: RingPlan, index: Tensor, spectrum: Tensor, first: int, last: int) -> Tensor:
    """The rows that each block reads, ``[m * blocks, window * 2, C]``, a view where rows follow evenly."""
    channels = spectrum.size(-1)
    front = max(-plan.start, 0)
    if plan.step:
        count = (last - first) * plan.blocks
        begin = front + first * plan.padded_in + plan.start
        flat = spectrum[begin:]
        strides = (plan.step * 2 * channels, channels, 1)
        return flat.as_strided((count, plan.window * 2, channels), strides, flat.storage_offset())
    body = spectrum[front + first * plan.padded_in : front + last * plan.padded_in]
    rows = body.view(last - first, plan.padded_in, 2 * channels).index_select(1, index)
    return rows.view(-1, plan.window * 2, channels)


def filtered(
    plan: RingPlan, spectra: Tensor, index: Tensor, spectrum: Tensor, taps: int
) -> Iterator[tuple[int, int, int, Tensor]]:
    """All filters on all channels, a few frequencies at a time.

    Yields:
        Element of the batch, first and last frequency, and ``[m, padded rows, 2, K * C]``, in memory that the next
        step writes again.
    """
    channels = spectrum.size(-1)
    memory = buffer = None
    for first, last in _chunks(plan, taps * channels, spectrum.element_size()):
        matrices, buffer = _matrices(plan, spectra, first, last, buffer)
        if memory is None:
            memory = spectrum.new_empty(matrices.size(0), matrices.size(1), channels)
        for item in range(spectrum.size(0)):
            out = memory[: matrices.size(0)]
            torch.bmm(matrices, _windows(plan, index, spectrum[item], first, last), out=out)
            yield item, first, last, out.view(last - first, plan.padded_out, 2, taps * channels)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight.T``; by oneDNN where it is there, which is twice as fast as MKL on some processors."""
    if x.dtype == torch.float32 and x.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")  # type: ignore[no-any-return]
    return F.linear(x, weight)


def mix(sums: Tensor, weight: Tensor, taps: int) -> Tensor:
    """Channels of ``[R, K * C]`` to ``[R, O]`` by ``[G, O / G, K, C / G]``."""
    groups, outputs = weight.size(0), weight.size(1)
    if groups == 1:
        return linear(sums, weight.view(outputs, -1))
    sums = sums.view(sums.size(0), taps, groups, -1)
    return torch.einsum("rkgc,gokc->rgo", sums, weight).flatten(1)


def correlate(sums: Tensor, x: Tensor, groups: int, taps: int) -> Tensor:
    """``[R, K * O]`` against ``[R, C]``: ``[G, C / G, K, O / G]``."""
    if groups == 1:
        return torch.mm(x.t(), sums).view(1, x.size(1), taps, -1)
    return torch.einsum("rkgo,rgc->gcko", sums.view(sums.size(0), taps, groups, -1), x.view(x.size(0), groups, -1))


def convolve(plan: RingPlan, spectra: Tensor, index: Tensor, spectrum: Tensor, weight: Tensor) -> Tensor:
    """Filters, then channels: the padded spectrum of the input to rows ``[B, R_out, n, O]``.

    Args:
        plan: Of this direction.
        spectra: From ``make_spectra``.
        index: Rows of the windows, or empty.
        spectrum: From ``to_spectrum``.
        weight: ``[G, O / G, K, C / G]``, contiguous.
    """
    outputs, taps = weight.size(0) * weight.size(1), weight.size(2)
    z = spectrum.new_empty(spectrum.size(0), plan.rows_out, outputs, plan.frequencies, 2)
    for item, first, last, sums in filtered(plan, spectra, index, spectrum, taps):
        put(z[item], first, last, mix(sums.view(-1, sums.size(-1)), weight, taps).view(*sums.shape[:3], -1))
    return from_spectrum(z, plan.columns)


def put(z: Tensor, first: int, last: int, y: Tensor) -> None:
    """Writes ``[m, padded rows, 2, O]`` where the inverse transform reads it."""
    z[:, :, first:last] = y[:, : z.size(0)].permute(1, 3, 0, 2)


def convolve_back(
    plan: RingPlan,
    there: RingPlan,
    spectra: Tensor,
    index: Tensor,
    grad: Tensor,
    spectrum: Tensor,
    weight: Tensor,
    wants: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Both gradients from one pass over the filtered gradient.

    Args:
        plan: Of the backward direction.
        there: Of the forward direction, which laid ``spectrum`` out.
        spectra: Of the backward direction.
        index: Of the backward direction.
        grad: Padded spectrum of the gradient.
        spectrum: Padded spectrum of the input.
        weight: Backward, ``[G, C / G, K, O / G]``, contiguous.
        wants: Whether the gradients of the input and of the weight are wanted.

    Returns:
        ``[B, R_in, n, C]`` and, in the form of ``weight``, ``[G, C / G, K, O / G]``.
    """
    taps, channels = weight.size(2), spectrum.size(-1)
    z = grad.new_empty(grad.size(0), plan.rows_out, channels, plan.frequencies, 2) if wants[0] else None
    total = torch.zeros_like(weight)
    for item, first, last, sums in filtered(plan, spectra, index, grad, taps):
        flat = sums.view(-1, sums.size(-1))
        if z is not None:
            put(z[item], first, last, mix(flat, weight, taps).view(*sums.shape[:3], -1))
        if wants[1]:
            _add_products(total, plan, there, sums, spectrum[item], first, last)
    return (None if z is None else from_spectrum(z, plan.columns)), (total if wants[1] else None)


def _add_products(
    total: Tensor, plan: RingPlan, there: RingPlan, sums: Tensor, spectrum: Tensor, first: int, last: int
) -> None:
    """Adds sums over columns, by Parseval: frequencies 0 and n / 2 stand for themselves, all others for two."""
    groups, taps, channels = total.size(0), total.size(2), spectrum.size(-1)
    front = max(-there.start, 0)
    x = spectrum[front + first * there.padded_in : front + last * there.padded_in]
    x = x.view(last - first, there.padded_in, 2, channels)
    rows = plan.padded_out if plan.padded_out == there.padded_in else plan.rows_out
    x, sums = x[:, :rows], sums[:, :rows]
    width = sums.size(-1)
    twice = 2.0 / plan.columns
    total.add_(correlate(sums.reshape(-1, width), x.reshape(-1, channels), groups, taps), alpha=twice)
    for m in {0, plan.columns // 2 if plan.columns % 2 == 0 else 0}:
        if first <= m < last:
            once = correlate(sums[m - first].reshape(-1, width), x[m - first].reshape(-1, channels), groups, taps)
            total.sub_(once, alpha=twice / 2)
