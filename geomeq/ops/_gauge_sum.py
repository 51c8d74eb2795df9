"""Gauge-equivariant sums: transport and rotation, moments over neighbours and their mixing, block by block.

The layer is one trilinear form in the features, the cotangents and the matrices,

    T(x, g, B, S) = sum_i <g_i, S x_i>
        + sum_e w_e <rho_out(-phi_e) g_i, sum_k f_k(r_e) B_k rho_in(theta_e - phi_e) x_j>,

which reads the same from both ends of an edge: exchanged ends are the reversed graph, with ``phi - theta`` for ``phi``,
``-theta`` for ``theta`` and the transposed matrices. So two operators close under differentiation to any order: the
value (the derivative by ``g``), and the derivatives by ``x``, ``B`` and ``S`` in one pass over the reversed graph.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from geomeq.ops._gauge_fused import fused_moments
from geomeq.ops._gauge_mix import Mixer, harmonics, layout_slices, make_mixer
from geomeq.ops._kernels import choose_path, weighted_rows
from geomeq.ops._product import add_product, product_into

# Numbers per block of moments: 2 MiB of float32 stay near the cores and keep a layer's memory near that of its output.
_BLOCK = 1 << 19
_LARGE_BLOCK = 1 << 26  # 256 MiB: no device has the moments of a million nodes to spare


def gauge_table(
    edge_index: Tensor,
    num_targets: int,
    angle: Tensor,
    turn: Tensor,
    radial: Tensor,
    ratio: Tensor | None,
    orders_in: Sequence[int],
    orders_out: Sequence[int],
) -> list[Tensor]:
    r"""What one direction of a graph needs for these orders: its edges by target, their coefficients and phases.

    Args:
        edge_index: Source and target, ``[2, E]``, any order.
        num_targets: Number of nodes.
        angle: :math:`\varphi` ``[E]``: coefficients hold cosines and sines of its multiples.
        turn: Angle by which features are turned before they are summed, ``[E]``.
        radial: Profiles times weights, ``[E, R]``.
        ratio: ``r / cutoff`` ``[E]`` where multiples ``q`` of the angle come with its power ``q``, else ``None``.
        orders_in: Of the features.
        orders_out: Of the result.

    Returns:
        ``first_edge`` ``[N + 1]``, ``source`` ``[E]``, ``phase`` ``[E, orders above 0, 2]``, and rows (i, k) over the
        sorted edges: ``ptr`` ``[N * K + 1]``, ``col`` ``[E * K]``, ``coef`` ``[E * K]``.
    """
    source, target = edge_index.long()
    num_edges, device = source.numel(), source.device
    order = torch.argsort(target, stable=True)
    target = target[order]
    first_edge = torch.searchsorted(target, torch.arange(num_targets + 1, device=device))
    values = _coefficients(angle, radial, ratio, harmonics(tuple(orders_in), tuple(orders_out), ratio is not None))
    above = torch.tensor([n for n in orders_in if n], dtype=turn.dtype, device=device)
    turns = turn[order, None] * above
    phase = torch.stack([turns.cos(), turns.sin()], dim=-1)

    # entry (e, k) of target i: after all rows of earlier targets, after k rows of i, at e's rank among the edges of i
    num_rows = values.size(1)
    degree, k = first_edge.diff(), torch.arange(num_rows, device=device)
    here = torch.arange(num_edges, device=device)
    start, each = first_edge[target], degree[target]
    position = (start * (num_rows - 1) + here)[:, None] + each[:, None] * k
    coef = torch.empty_like(values).view(-1).index_copy_(0, position.view(-1), values[order].reshape(-1))
    dtype = torch.int32 if max(num_edges, num_targets) * max(num_rows, 1) < 2**31 else torch.int64
    col = torch.empty(num_edges * num_rows, dtype=dtype, device=device)
    col.index_copy_(0, position.view(-1), here.to(dtype)[:, None].expand(-1, num_rows).reshape(-1))
    ptr = (first_edge[:-1, None] * num_rows + degree[:, None] * k).view(-1)
    ptr = torch.cat([ptr, ptr.new_full((1,), num_edges * num_rows)]).to(dtype)
    return [first_edge, source[order], phase, ptr, col, coef]


def _coefficients(angle: Tensor, radial: Tensor, ratio: Tensor | None, multiples: Sequence[int]) -> Tensor:
    """``[E, K]`` in the order (multiple, cosine or sine, ring)."""
    columns = []
    for q in multiples:
        profile = radial if ratio is None or q == 0 else radial * (ratio**q)[:, None]
        columns += [profile * turned(q * angle)[:, None] for turned in (torch.cos, torch.sin)] if q else [profile]
    return torch.cat(columns, dim=1) if columns else radial[:, :0]


def _blocks(first_edge: Tensor, num_edges: int, numbers_per_node: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of nodes and the edges that end there; large ones on devices where splitting only costs time."""
    num_nodes = first_edge.numel() - 1
    block = _BLOCK if first_edge.device.type == "cpu" else _LARGE_BLOCK
    step = max(16, block // max(numbers_per_node, 1))
    if step >= num_nodes:  # asking a GPU where blocks begin would wait for it
        yield slice(0, num_nodes), slice(0, num_edges)
        return
    bounds = [*range(0, num_nodes, step), num_nodes]
    edges = first_edge[bounds].tolist()
    for number in range(len(bounds) - 1):
        yield slice(*bounds[number : number + 2]), slice(*edges[number : number + 2])


def _moments(table: Sequence[Tensor], nodes: slice, edges: slice, x: Tensor, mixer: Mixer, path: str) -> Tensor:
    """The moments of some nodes: ``x`` ``[N, B, F]`` to ``[n * B, K, F]``."""
    if path == "fused":
        return fused_moments(table, nodes, x, mixer)
    _, source, phase, ptr, col, coef = table
    num_rows, (_, batch, width) = mixer.num_rows, x.shape
    turned = _turned(x.index_select(0, source[edges]), phase[edges], mixer)
    entries = slice(edges.start * num_rows, edges.stop * num_rows)
    offsets = ptr[nodes.start * num_rows : nodes.stop * num_rows + 1] - entries.start
    path = choose_path(x.device, x.dtype, batch * width) if path == "auto" else path
    sums = weighted_rows(offsets, col[entries] - edges.start, coef[entries], turned.flatten(1), path)
    sums = sums.view(nodes.stop - nodes.start, num_rows, batch, width)
    return sums.transpose(1, 2).reshape(-1, num_rows, width)


def _turned(x: Tensor, phase: Tensor, mixer: Mixer) -> Tensor:
    """Turns gathered features ``[e, B, F]`` in place; phases of the orders above 0 are ``[e, orders, 2]``."""
    above = [columns for order, columns in layout_slices(mixer.into).items() if order]
    for number, columns in enumerate(above):
        # complex numbers stay inside the operator: compilers never see them, and one product replaces six
        part, turn = x[..., columns].unflatten(-1, (-1, 2)), torch.view_as_complex(phase[:, number])[:, None, None]
        if x.size(-1) % 2 or columns.start % 2:  # such rows cannot be read as complex numbers in place
            copied = part.clone(memory_format=torch.contiguous_format)
            part.copy_(torch.view_as_real(torch.view_as_complex(copied).mul_(turn)))
        else:
            torch.view_as_complex(part).mul_(turn)
    return x


@torch.library.custom_op("geomeq::gauge_mix", mutates_args=())
def gauge_mix(
    x: Tensor,
    weight: Tensor,
    own: Tensor,
    there: Sequence[Tensor],
    back: Sequence[Tensor],
    layout_in: Sequence[int],
    layout_out: Sequence[int],
    powers: bool,
    path: str,
) -> Tensor:
    """The gauge-equivariant sum.

    Args:
        x: ``[N, B, F]``, orders rising, (field, component) within an order.
        weight: Matrices :math:`B_k`, ``[R, F_out, F]``.
        own: :math:`S`, ``[F_out, F]``, read between equal orders only; or ``[0, 0]``.
        there: ``gauge_table`` of the graph.
        back: ``gauge_table`` of the reversed graph.
        layout_in: Orders and numbers of fields of ``x``: (order, count, order, count, ...), orders rising.
        layout_out: The same of the result.
        powers: Whether terms carry powers of the radius.
        path: ``"auto"``, ``"bag"`` or ``"csr"``; or ``"fused"``, where the tables are ``fused_table``.

    Returns:
        ``[N, B, F_out]``.
    """
    mixer = make_mixer(layout_in, layout_out, weight.size(0), powers)
    batch, width = x.size(1), weight.size(1)
    out = x.new_empty(there[0].numel() - 1, batch, width)
    if out.numel() == 0:
        return out
    matrices, pairs = mixer.matrices(weight), _own_pairs(mixer, own)
    flat, flat_x = out.view(-1, width), x.reshape(-1, x.size(2))
    for nodes, edges in _blocks(there[0], there[1].numel(), mixer.num_rows * batch * x.size(2)):
        sums = _moments(there, nodes, edges, x, mixer, path)
        rows = slice(nodes.start * batch, nodes.stop * batch)
        _mix(mixer, sums, matrices, flat[rows], flat_x[rows], own.t(), pairs)
    return out


Pairs = dict[int, tuple[slice, slice]]  # columns of an order in the layouts (into, out)


def _own_pairs(mixer: Mixer, own: Tensor) -> Pairs:
    """The orders which ``own`` connects."""
    into, out = layout_slices(mixer.into), layout_slices(mixer.out)
    return {order: (into[order], out[order]) for order in out if order in into} if own.numel() else {}


def _mix(
    mixer: Mixer, sums: Tensor, matrices: Sequence[Tensor], out: Tensor, x: Tensor, own: Tensor, pairs: Pairs
) -> None:
    """Writes the outputs of a block; ``x`` are its own features, in the layout of those that were summed."""
    parts = zip(layout_slices(mixer.out).items(), mixer.inputs(sums), matrices, strict=True)
    for (order, columns), moments, matrix in parts:
        place = out[:, columns]
        product_into(place, moments, matrix)
        if order in pairs:
            into, _ = pairs[order]
            add_product(place, x[:, into], own[into, columns])


@torch.library.custom_op("geomeq::gauge_mix_backward", mutates_args=())
def gauge_mix_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    own: Tensor,
    there: Sequence[Tensor],
    back: Sequence[Tensor],
    layout_in: Sequence[int],
    layout_out: Sequence[int],
    powers: bool,
    path: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``gauge_mix`` for ``x``, ``weight`` and ``own``, from one pass over the reversed graph."""
    mixer = make_mixer(layout_out, layout_in, weight.size(0), powers)
    batch, width = x.size(1), x.size(2)
    grad_x, grad_weight, grad_own = x.new_empty(x.shape), weight.new_zeros(weight.shape), own.new_zeros(own.shape)
    if grad.numel() == 0 or x.numel() == 0:
        return grad_x.zero_(), grad_weight, grad_own
    matrices, pairs = mixer.matrices(weight.transpose(1, 2)), _own_pairs(mixer, own)
    grads = [torch.zeros_like(matrix) for matrix in matrices]
    flat, flat_x, flat_grad = grad_x.view(-1, width), x.reshape(-1, width), grad.reshape(-1, grad.size(2))
    columns = layout_slices(mixer.out).values()
    for nodes, edges in _blocks(back[0], back[1].numel(), mixer.num_rows * batch * grad.size(2)):
        sums = _moments(back, nodes, edges, grad, mixer, path)
        rows = slice(nodes.start * batch, nodes.stop * batch)
        _mix(mixer, sums, matrices, flat[rows], flat_grad[rows], own, pairs)
        for moments, total, place in zip(mixer.inputs(sums), grads, columns, strict=True):
            add_product(total, moments.t(), flat_x[rows, place])
    for into, place in pairs.values():
        product_into(grad_own[into, place], flat_grad[:, into].t(), flat_x[:, place])
    return grad_x, mixer.fold(grads).transpose(1, 2).contiguous(), grad_own


@gauge_mix.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    own: Tensor,
    there: Sequence[Tensor],
    back: Sequence[Tensor],
    layout_in: Sequence[int],
    layout_out: Sequence[int],
    powers: bool,
    path: str,
) -> Tensor:
    return x.new_empty(there[0].size(0) - 1, x.size(1), weight.size(1))


@gauge_mix_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    own: Tensor,
    there: Sequence[Tensor],
    back: Sequence[Tensor],
    layout_in: Sequence[int],
    layout_out: Sequence[int],
    powers: bool,
    path: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape), own.new_empty(own.shape)


_TABLE = 6  # tensors of a table


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, there, back, layout_in, layout_out, powers, path = inputs
    ctx.settings = layout_in, layout_out, powers, path
    ctx.save_for_backward(*tensors, *there, *back)


def _saved(ctx: Any, num_tensors: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    saved = list(ctx.saved_tensors)
    return saved[:num_tensors], saved[num_tensors : num_tensors + _TABLE], saved[num_tensors + _TABLE :]


_FIXED = ([None] * _TABLE, [None] * _TABLE, None, None, None, None)  # tables and settings have no gradient


def _mix_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    tensors, there, back = _saved(ctx, 3)
    return *gauge_mix_backward(grad.contiguous(), *tensors, there, back, *ctx.settings), *_FIXED


def _mix_backward_backward(ctx: Any, toward_x: Tensor, toward_weight: Tensor, toward_own: Tensor) -> tuple[Any, ...]:
    """``grad_x`` is linear in (grad, weights) and their gradients in (grad, x): the same two operators again."""
    (grad, x, weight, own), there, back = _saved(ctx, 4)
    of_grad = gauge_mix(toward_x.contiguous(), weight, own, there, back, *ctx.settings)
    of_grad = of_grad + gauge_mix(x, toward_weight, toward_own, there, back, *ctx.settings)
    others = gauge_mix_backward(grad, toward_x.contiguous(), toward_weight, toward_own, there, back, *ctx.settings)
    return of_grad, *others, *_FIXED


gauge_mix.register_autograd(_mix_backward, setup_context=_save)
gauge_mix_backward.register_autograd(_mix_backward_backward, setup_context=_save)
for _operator in (gauge_mix, gauge_mix_backward):
    for _device in ("cpu", "cuda"):  # under autocast the products inside would be cast down
        _operator.register_autocast(_device, torch.float32)
