"""Neighbours in tables of equal width: sums over them are batched matrix products."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from geomeq.ops._adjacency import Size, read_graph

_GROWTH = 1.2  # a table holds degrees that differ by at most this factor, so that padding costs less
_CHUNK_NUMBERS = 1 << 22  # gathered at a time on a CPU: more no longer stays near a core
_CHUNK_NUMBERS_DEVICE = 1 << 28


def neighbor_tables(edge_index: Tensor, coef: Tensor, size: Size) -> list[Tensor]:
    """Edges sorted into tables by the degree of their target.

    Args:
        edge_index: Source and target of each edge, ``[2, E]``, in any order.
        coef: ``[E, K]``.
        size: ``(N_src, N_dst)``, or one number for both.

    Returns:
        Three tensors per table: targets ``[n]``, their sources ``[n, d]`` and the coefficients ``[n, K, d]``; where a
        target has fewer than ``d`` sources the rest of its row is its last one again with coefficients 0, so that what
        is not a number stays with those that see it. Targets without edges are in no table.

    Raises:
        TypeError: If ``edge_index`` does not hold integers.
        ValueError: If a shape is wrong or an index lies outside ``size``.
    """
    edges, _, (_, num_targets) = read_graph(edge_index, size)
    if coef.dim() != 2 or coef.size(0) != edges.size(1):
        raise ValueError(f"coef must have shape [{edges.size(1)}, K], one row per edge, got {list(coef.shape)}")
    order = torch.argsort(edges[1].long(), stable=True)
    source, target, coef = edges[0].long()[order], edges[1].long()[order], coef[order]
    degree = torch.bincount(target, minlength=num_targets)
    first = degree.cumsum(0) - degree
    step = torch.log(degree.clamp(min=1).double()).div(torch.log(torch.tensor(_GROWTH)).double()).ceil().long()
    tables: list[Tensor] = []
    for rung in step[degree > 0].unique().tolist():
        nodes = ((step == rung) & (degree > 0)).nonzero().flatten()
        place = torch.arange(int(degree[nodes].max()), device=nodes.device)
        real = place < degree[nodes, None]
        entry = first[nodes, None] + torch.minimum(place, degree[nodes, None] - 1)
        neighbors = source[entry]
        values = (coef[entry] * real[..., None]).transpose(1, 2).contiguous()
        tables += [nodes, neighbors, values]
    return tables


def _parts(tables: Sequence[Tensor], columns: int, chunk: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of the tables, so many at a time that the gathered neighbours fit."""
    for nodes, neighbors, values in zip(tables[::3], tables[1::3], tables[2::3], strict=True):
        room = _CHUNK_NUMBERS if nodes.device.type == "cpu" else _CHUNK_NUMBERS_DEVICE
        step = chunk if chunk > 0 else max(1, room // max(1, neighbors.size(1) * columns))
        yield from zip(nodes.split(step), neighbors.split(step), values.split(step), strict=True)


def _sums(x: Tensor, neighbors: Tensor, values: Tensor) -> Tensor:
    """``x`` ``[N, B, C]`` and rows of a table to ``[n * B, K * C]``."""
    (rows, batch, channels), (nodes, num_coefs, _) = x.shape, values.shape
    near = x.reshape(rows, batch * channels).index_select(0, neighbors.reshape(-1))
    sums = torch.bmm(values, near.view(*neighbors.shape, batch * channels))
    return sums.view(nodes, num_coefs, batch, channels).transpose(1, 2).reshape(nodes * batch, num_coefs * channels)


@torch.library.custom_op("geomeq::gather_mix", mutates_args=())
def gather_mix(
    x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], num_targets: int, chunk: int
) -> Tensor:
    r"""Sums over neighbours and their product with the weights, part by part.

    .. math:: y_{io} = \sum_{kc} W_{kco} \sum_{e = (j \to i)} c_{ek} \, x_{jc}

    The sums are not kept: the backward pass works on the reversed graph.

    Args:
        x: ``[N_src, B, C]``.
        weight: ``[K, C, O]``.
        there: :func:`neighbor_tables` of the graph.
        back: Those of the reversed graph.
        num_targets: ``N_dst``.
        chunk: Targets at a time; 0: as many as fit.

    Returns:
        ``[N_dst, B, O]``.
    """
    batch, outputs = x.size(1), weight.size(2)
    out = x.new_zeros(num_targets, batch, outputs)
    matrix = weight.reshape(-1, outputs)
    for nodes, neighbors, values in _parts(there, x.size(1) * x.size(2), chunk):
        out[nodes] = (_sums(x, neighbors, values) @ matrix).view(len(nodes), batch, outputs)
    return out


@torch.library.custom_op("geomeq::gather_mix_backward", mutates_args=())
def gather_mix_backward(
    grad: Tensor, x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], chunk: int
) -> tuple[Tensor, Tensor]:
    """Gradients of ``gather_mix`` for ``x`` and ``weight``, both from one pass over the reversed graph."""
    (num_coefs, channels, outputs), batch = weight.shape, x.size(1)
    grad_x, grad_weight = x.new_zeros(x.shape), weight.new_zeros(channels, num_coefs * outputs)
    matrix = weight.transpose(1, 2).reshape(num_coefs * outputs, channels)
    for nodes, neighbors, values in _parts(back, batch * outputs, chunk):
        sums = _sums(grad, neighbors, values)
        grad_x[nodes] = (sums @ matrix).view(len(nodes), batch, channels)
        grad_weight.addmm_(x[nodes].reshape(-1, channels).t(), sums)
    return grad_x, grad_weight.view(channels, num_coefs, outputs).transpose(0, 1).contiguous()


@gather_mix.register_fake
def _(
    x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], num_targets: int, chunk: int
) -> Tensor:
    return x.new_empty(num_targets, x.size(1), weight.size(2))


@gather_mix_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], chunk: int
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, there, back, ctx.num_targets, ctx.chunk = inputs
    ctx.num_there = len(there)
    ctx.save_for_backward(x, weight, *there, *back)


def _mix_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, *tables = ctx.saved_tensors
    there, back = tables[: ctx.num_there], tables[ctx.num_there :]
    grad_x, grad_weight = gather_mix_backward(grad.contiguous(), x, weight, there, back, ctx.chunk)
    return grad_x, grad_weight, [None] * len(there), [None] * len(back), None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, x, weight, there, back, ctx.chunk = inputs
    ctx.num_there = len(there)
    ctx.save_for_backward(grad, x, weight, *there, *back)


def _mix_backward_backward(ctx: Any, toward_x: Tensor, toward_weight: Tensor) -> tuple[Any, ...]:
    """``grad_x`` is linear in (grad, weight) and ``grad_weight`` in (grad, x): the same two operators again."""
    grad, x, weight, *tables = ctx.saved_tensors
    there, back, chunk = tables[: ctx.num_there], tables[ctx.num_there :], ctx.chunk
    toward_x, toward_weight = toward_x.contiguous(), toward_weight.contiguous()
    of_grad = gather_mix(toward_x, weight, there, back, grad.size(0), chunk)
    of_grad = of_grad + gather_mix(x, toward_weight, there, back, grad.size(0), chunk)
    of_x, of_weight = gather_mix_backward(grad, toward_x, toward_weight, there, back, chunk)
    return of_grad, of_x, of_weight, [None] * len(there), [None] * len(back), None


gather_mix.register_autograd(_mix_backward, setup_context=_save)
gather_mix_backward.register_autograd(_mix_backward_backward, setup_context=_save_backward)
for _operator in (gather_mix, gather_mix_backward):
    for _device in ("cpu", "cuda"):  # under autocast the products inside would be cast down
        _operator.register_autocast(_device, torch.float32)
