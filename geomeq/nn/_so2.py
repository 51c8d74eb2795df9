"""Fields of SO(2) types as views of a feature: where each block lies, lengths that differentiate at zero, rotations."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from geomeq._checks import check_shape
from geomeq.groups import SO2Irreps


class Block(NamedTuple):
    """One block of a type in plain values, which ``torch.compile`` can guard."""

    mul: int
    order: int
    components: int
    begin: int
    end: int


def layout(types: SO2Irreps) -> tuple[Block, ...]:
    """The blocks of a type, without the empty ones."""
    return tuple(
        Block(block.mul, block.order, block.components, columns.start, columns.stop)
        for block, columns in zip(types, types.slices(), strict=True)
        if block.mul
    )


def of_order(blocks: Sequence[Block], order: int) -> list[Block]:
    """The blocks of one order, in the sequence of the type."""
    return [block for block in blocks if block.order == order]


def check_features(x: Tensor, dim: int, hint: str) -> None:
    """Raises unless ``x`` is ``[..., dim]`` and floating point."""
    check_shape("x", x, "...", dim, hint=hint)
    if x.dim() == 0 or not x.dtype.is_floating_point:
        raise ValueError(f"x must be floating point with shape [..., {dim}], got {x.dtype} {list(x.shape)}; {hint}")


def split(x: Tensor, blocks: Sequence[Block]) -> list[Tensor]:
    """One view ``[..., mul, 1 or 2]`` per block."""
    return [x[..., b.begin : b.end].unflatten(-1, (b.mul, b.components)) for b in blocks]


def join(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """The inverse of :func:`split`; without blocks, an empty feature."""
    return torch.cat([part.flatten(-2) for part in parts], dim=-1) if parts else like


def length(z: Tensor) -> Tensor:
    """The length of the last axis, kept as an axis of size 1; at zero its gradient is zero and not NaN."""
    square = z.square().sum(-1, keepdim=True)
    some = square > 0
    return torch.where(some, torch.where(some, square, torch.ones_like(square)).sqrt(), torch.zeros_like(square))


def rotate(x: Tensor, angle: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Multiplies order ``m`` by ``exp(i m angle)``; ``angle`` has the leading axes of ``x`` or broadcasts to them."""
    if not any(b.order for b in blocks):
        return x
    turns: dict[int, tuple[Tensor, Tensor]] = {}
    parts = []
    for b, part in zip(blocks, split(x, blocks), strict=True):
        if b.order:
            if b.order not in turns:  # rounded after the cosine: a float64 angle stays exact
                a = (b.order * angle)[..., None]
                turns[b.order] = a.cos().to(x.dtype), a.sin().to(x.dtype)
            cos, sin = turns[b.order]
            re, im = part.unbind(-1)
            part = torch.stack([cos * re - sin * im, sin * re + cos * im], dim=-1)
        parts.append(part)
    return join(parts, x)
