"""Moments on a GPU straight from angles: one Triton kernel, no stored coefficients."""
# ruff: noqa: ANN001 - Triton reads annotations itself and takes none but its own
# mypy: disable-error-code="name-defined"

from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from geomeq.ops._gauge_mix import Mixer, components, layout_slices

_BLOCK = 64  # fields per program


@cache
def _kernel() -> Any:
    """Compiled when first asked for. Triton comes with CUDA builds of torch; others need not have it."""
    try:
        triton, tl = import_module("triton"), import_module("triton.language")
    except ImportError:
        raise ImportError(
            "path='fused' needs Triton, which comes with CUDA builds of torch: pip install triton"
        ) from None

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def moments(  # type: ignore[no-untyped-def] # noqa: ANN202
        first_edge,
        source,
        angle,
        turn,
        radial,
        ratio,
        row_multiple,
        row_sine,
        row_ring,
        x,
        out,
        first_node,
        batch,
        width,
        column,
        fields,
        rows,
        order,
        RINGS: tl.constexpr,
        ROWS: tl.constexpr,
        BLOCK: tl.constexpr,
        PAIRS: tl.constexpr,
        POWERS: tl.constexpr,
        LARGEST: tl.constexpr,
    ):
        """One node, one element of the batch, a block of fields of one order."""
        node, item = tl.program_id(0), tl.program_id(1)
        field = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
        row = tl.arange(0, ROWS)
        multiple = tl.load(row_multiple + row, mask=row < rows, other=0)
        sine = tl.load(row_sine + row, mask=row < rows, other=0)
        ring = tl.load(row_ring + row, mask=row < rows, other=0)
        kind = x.dtype.element_ty
        real = tl.zeros((ROWS, BLOCK), dtype=kind)
        imaginary = tl.zeros((ROWS, BLOCK), dtype=kind)
        inside = field < fields
        step = 2 if PAIRS else 1
        start = tl.load(first_edge + first_node + node)
        stop = tl.load(first_edge + first_node + node + 1)
        for edge in range(start, stop):
            place = x + (tl.load(source + edge) * batch + item) * width + column + step * field
            a = tl.load(place, mask=inside, other=0.0)
            turned = multiple.to(kind) * tl.load(angle + edge)
            coef = tl.where(sine == 1, tl.sin(turned), tl.cos(turned))
            coef = coef * tl.load(radial + edge * RINGS + ring)
            if POWERS:
                factor = tl.load(ratio + edge)
                for power in tl.static_range(LARGEST):
                    coef = tl.where(multiple > power, coef * factor, coef)
            if PAIRS:
                b = tl.load(place + 1, mask=inside, other=0.0)
                phase = order * tl.load(turn + edge)
                c, s = tl.cos(phase), tl.sin(phase)
                real += coef[:, None] * (c * a - s * b)[None, :]
                imaginary += coef[:, None] * (s * a + c * b)[None, :]
            else:
                real += coef[:, None] * a[None, :]
        line = (node * batch + item).to(tl.int64) * rows + row[:, None]
        put = out + line * width + column + step * field[None, :]
        mask = (row < rows)[:, None] & inside[None, :]
        tl.store(put, real, mask=mask)
        if PAIRS:
            tl.store(put + 1, imaginary, mask=mask)

    return moments


def fused_table(
    edge_index: Tensor, num_targets: int, angle: Tensor, turn: Tensor, radial: Tensor, ratio: Tensor | None
) -> list[Tensor]:
    """What the kernel reads, edges sorted by target: four numbers per edge and two rings.

    Returns:
        ``first_edge`` ``[N + 1]``, ``source``, ``angle``, ``turn`` ``[E]``, ``radial`` ``[E, R]``, ``ratio`` ``[E]`` or
        ``[0]``.
    """
    source, target = edge_index.long()
    order = torch.argsort(target, stable=True)
    first_edge = torch.searchsorted(target[order], torch.arange(num_targets + 1, device=target.device))
    ratio = angle[:0] if ratio is None else ratio[order]
    return [first_edge, source[order], angle[order], turn[order], radial[order], ratio]


def fused_moments(table: Sequence[Tensor], nodes: slice, x: Tensor, mixer: Mixer) -> Tensor:
    """The moments of some nodes: ``x`` ``[N, B, F]`` to ``[n * B, K, F]``."""
    first_edge, source, angle, turn, radial, ratio = table
    _, batch, width = x.shape
    count, num_rows = nodes.stop - nodes.start, mixer.num_rows
    out = x.new_empty(count * batch, num_rows, width)
    multiple, sine, ring = _rows(mixer, x.device)
    for order, columns in layout_slices(mixer.into).items():
        fields = (columns.stop - columns.start) // components(order)
        grid = (count, batch, -(-fields // _BLOCK))
        _kernel()[grid](
            first_edge,
            source,
            angle,
            turn,
            radial,
            ratio,
            multiple,
            sine,
            ring,
            x,
            out,
            nodes.start,
            batch,
            width,
            columns.start,
            fields,
            num_rows,
            order,
            RINGS=mixer.rings,
            ROWS=1 << (num_rows - 1).bit_length(),
            BLOCK=_BLOCK,
            PAIRS=order > 0,
            POWERS=ratio.numel() > 0,
            LARGEST=max(mixer.harmonics),
        )
    return out


@lru_cache(maxsize=256)
def _rows(mixer: Mixer, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row of the moments: the multiple of the angle, whether it is the sine, the ring."""
    found = [(q, part, ring) for q in mixer.harmonics for part in range(components(q)) for ring in range(mixer.rings)]
    multiple, sine, ring = torch.tensor(found, dtype=torch.int32, device=device).unbind(1)
    return multiple.contiguous(), sine.contiguous(), ring.contiguous()
