"""A fixed number of neighbours in a fixed order: one matrix per place in the order."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from geomeq._checks import check_shape
from geomeq.ops._functorch import transforms_functions
from geomeq.ops._product import add_product, product_into

# Numbers per tile: 4 MiB of float32 stay near a core; several threads share a larger one (see stencil_linear).
_TILE = 1 << 20
_LEAST = 16


def taps_linear(x: Tensor, weight: Tensor, table: Tensor, scale: Tensor | None = None) -> Tensor:
    r"""Gathers the neighbours of some nodes at a time and multiplies them by the matrices of their places.

    .. math:: y_m = \sum_t g_{mt} \, x_{n_t(m)} W_t

    The gathered tensor ``[M, T, C]``, T times the activation, exists for one tile of nodes at a time only, in both
    passes. Differentiable to any order; :func:`taps_transposed` is the transpose.

    Args:
        x: ``[B, N, C]``.
        weight: ``[T, C, O]``.
        table: Neighbours ``[M, T]``, all of them rows of ``x``.
        scale: Fixed factors ``g``, ``[M, T]``.

    Returns:
        ``[B, M, O]``.

    Raises:
        ValueError: If a shape is wrong.

    Example:
        >>> x, table = torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[0, 1], [1, 2]])
        >>> taps_linear(x, torch.tensor([[[1.0]], [[10.0]]]), table).flatten()
        tensor([21., 32.])
    """
    check_shape("x", x, "B", "N", weight.size(1))
    check_shape("weight", weight, table.size(1), "C", "O", hint="one matrix for each column of the table")
    x, weight, scale = _one_dtype(x, weight, scale)
    if transforms_functions():
        message = x[:, table] if scale is None else x[:, table] * scale[..., None]
        return torch.einsum("bmtc,tco->bmo", message, weight)
    return taps_gather(x, weight, table, scale)


def taps_transposed(y: Tensor, weight: Tensor, table: Tensor, num_rows: int, scale: Tensor | None = None) -> Tensor:
    r"""The transpose of :func:`taps_linear`: sends what nodes hold to their neighbours, by the same weights.

    .. math:: x_n = \sum_{m, t: \, n_t(m) = n} g_{mt} \, W_t y_m

    Args:
        y: ``[B, M, O]``.
        weight: ``[T, C, O]``.
        table: Neighbours ``[M, T]``.
        num_rows: Rows of the result.
        scale: Fixed factors, ``[M, T]``.

    Returns:
        ``[B, num_rows, C]``.
    """
    check_shape("y", y, "B", table.size(0), weight.size(2))
    check_shape("weight", weight, table.size(1), "C", "O", hint="one matrix for each column of the table")
    y, weight, scale = _one_dtype(y, weight, scale)
    if transforms_functions():
        message = torch.einsum("bmo,tco->bmtc", y, weight)
        message = message if scale is None else message * scale[..., None]
        return y.new_zeros(y.size(0), num_rows, weight.size(1)).index_add(1, table.flatten(), message.flatten(1, 2))
    return taps_scatter(y, weight, table, scale, num_rows)


def _one_dtype(x: Tensor, weight: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    double = torch.float64 in (x.dtype, weight.dtype)  # which autocast leaves alone
    if torch.is_autocast_enabled(x.device.type) and not double:
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    if x.dtype != weight.dtype:
        raise TypeError(f"x and the weight must have one dtype, got {x.dtype} and {weight.dtype}; call .to() on one")
    return x, weight, None if scale is None else scale.to(x.dtype)


def _tiles(table: Tensor, numbers_per_node: int) -> Iterator[slice]:
    tile = _TILE if torch.get_num_threads() == 1 else 4 * _TILE
    tile = tile if table.device.type == "cpu" else 64 * _TILE
    step = max(_LEAST, tile // max(numbers_per_node, 1))
    for start in range(0, table.size(0), step):
        yield slice(start, min(start + step, table.size(0)))


def _gathered(x: Tensor, table: Tensor, scale: Tensor | None, nodes: slice, out: Tensor) -> Tensor:
    """Neighbours of some nodes, ``[n, T * C]``, in memory that is taken once."""
    n, taps = nodes.stop - nodes.start, table.size(1)
    out = out[: n * taps]
    torch.index_select(x, 0, table[nodes].flatten(), out=out)
    if scale is not None:
        out.mul_(scale[nodes].reshape(-1, 1))
    return out.view(n, taps * x.size(1))


def _room(x: Tensor, table: Tensor) -> Tensor:
    channels = x.size(2)
    longest = max((s.stop - s.start for s in _tiles(table, table.size(1) * channels)), default=0)
    return x.new_empty(longest * table.size(1), channels)


@torch.library.custom_op("geomeq::taps_gather", mutates_args=())
def taps_gather(x: Tensor, weight: Tensor, table: Tensor, scale: Tensor | None) -> Tensor:
    """``taps_linear`` without its checks."""
    taps, channels, outputs = weight.shape
    out, matrix, room = x.new_empty(x.size(0), table.size(0), outputs), weight.reshape(-1, outputs), _room(x, table)
    x = x.contiguous()
    for rows, result in zip(x, out, strict=True):
        for nodes in _tiles(table, taps * channels):
            product_into(result[nodes], _gathered(rows, table, scale, nodes, room), matrix)
    return out


@torch.library.custom_op("geomeq::taps_scatter", mutates_args=())
def taps_scatter(y: Tensor, weight: Tensor, table: Tensor, scale: Tensor | None, num_rows: int) -> Tensor:
    """``taps_transposed`` without its checks."""
    taps, channels, outputs = weight.shape
    out = y.new_zeros(y.size(0), num_rows, channels)
    matrix, room = weight.reshape(-1, outputs).t(), _room(out, table)
    y = y.contiguous()
    for rows, result in zip(y, out, strict=True):
        for nodes in _tiles(table, taps * channels):
            n = nodes.stop - nodes.start
            message = room[: n * taps]
            product_into(message.view(n, taps * channels), rows[nodes], matrix)
            if scale is not None:
                message.mul_(scale[nodes].reshape(-1, 1))
            result.index_add_(0, table[nodes].flatten(), message)
    return out


@torch.library.custom_op("geomeq::taps_outer", mutates_args=())
def taps_outer(x: Tensor, y: Tensor, table: Tensor, scale: Tensor | None) -> Tensor:
    """The gradient of ``taps_gather`` for its weight: ``x [B, N, C]``, ``y [B, M, O]`` to ``[T, C, O]``."""
    taps, channels, outputs = table.size(1), x.size(2), y.size(2)
    out, room = x.new_zeros(taps * channels, outputs), _room(x, table)
    x, y = x.contiguous(), y.contiguous()
    for rows, result in zip(x, y, strict=True):
        for nodes in _tiles(table, taps * channels):
            add_product(out, _gathered(rows, table, scale, nodes, room).t(), result[nodes])
    return out.view(taps, channels, outputs)


@taps_gather.register_fake
def _(x: Tensor, weight: Tensor, table: Tensor, scale: Tensor | None) -> Tensor:
    return x.new_empty(x.size(0), table.size(0), weight.size(2))


@taps_scatter.register_fake
def _(y: Tensor, weight: Tensor, table: Tensor, scale: Tensor | None, num_rows: int) -> Tensor:
    return y.new_empty(y.size(0), num_rows, weight.size(1))


@taps_outer.register_fake
def _(x: Tensor, y: Tensor, table: Tensor, scale: Tensor | None) -> Tensor:
    return x.new_empty(table.size(1), x.size(2), y.size(2))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    one, other, table, scale, *_ = inputs
    ctx.save_for_backward(one, other, table, scale)


def _gather_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, table, scale = ctx.saved_tensors
    to_x = taps_scatter(grad, weight, table, scale, x.size(1)) if ctx.needs_input_grad[0] else None
    return to_x, taps_outer(x, grad, table, scale) if ctx.needs_input_grad[1] else None, None, None


def _scatter_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    y, weight, table, scale = ctx.saved_tensors
    to_y = taps_gather(grad, weight, table, scale) if ctx.needs_input_grad[0] else None
    return to_y, taps_outer(grad, y, table, scale) if ctx.needs_input_grad[1] else None, None, None, None


def _outer_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, y, table, scale = ctx.saved_tensors
    to_x = taps_scatter(y, grad, table, scale, x.size(1)) if ctx.needs_input_grad[0] else None
    return to_x, taps_gather(x, grad, table, scale) if ctx.needs_input_grad[1] else None, None, None


taps_gather.register_autograd(_gather_backward, setup_context=_save)
taps_scatter.register_autograd(_scatter_backward, setup_context=_save)
taps_outer.register_autograd(_outer_backward, setup_context=_save)
