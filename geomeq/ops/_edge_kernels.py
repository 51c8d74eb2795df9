"""Gather and rotation into the frames of edges, rotation back and sum, and the products that are their derivatives.

Three trilinear operators, of which each one's derivatives are the other two, so that any order of differentiation
works and nothing but inputs is kept. On a CPU each is a sparse product whose pattern follows from the edge list by
arithmetic: no index array outlives a call, no gathered copy of the features exists. The rotation back goes block by
block: the turned messages of a block stay in the cache until they are summed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geomeq.ops._edge_layout import layout_of, layout_tables
from geomeq.ops._edge_plain import plain_dot, plain_in, plain_out
from geomeq.ops._kernels import choose_path, csr_matrix, weighted_rows

_ENTRIES = 1 << 23  # Wigner entries of edges per sparse product: 32 MiB of columns
_BLOCK = 1 << 18  # numbers in a block of turned messages: 1 MiB, which stays in the cache


def _columns(index: Tensor, lmax: int, mmax: int) -> Tensor:
    """Row of the node table ``[N * R]`` that each entry reads, for ``index [E, S]``."""
    tables = layout_tables(lmax, mmax, index.device)
    rows = (index * (lmax + 1) ** 2).int()
    if index.size(1) == 1:
        return (rows + tables.read).reshape(-1)
    return (rows.index_select(1, tables.side_twice) + tables.read.index_select(0, tables.twice)).reshape(-1)


def _pointers(starts: Tensor, items: int, width: int) -> Tensor:
    """Begin of every row of ``items`` equal pieces of ``width`` entries, and the end."""
    steps = torch.arange(items, device=starts.device)[:, None] * width
    return torch.cat([(steps + starts).reshape(-1), starts.new_full((1,), items * width)]).int()


def _values(wigner: Tensor, sides: int, lmax: int, mmax: int) -> Tensor:
    if sides == 1:
        return wigner.reshape(-1)
    return wigner.index_select(1, layout_tables(lmax, mmax, wigner.device).twice).reshape(-1)


def _sparse(index: Tensor, lmax: int, mmax: int) -> tuple[Tensor, Tensor]:
    """Row pointers and columns of the rotation of a piece of the edges."""
    tables = layout_tables(lmax, mmax, index.device)
    width = layout_of(lmax, mmax).num_values * index.size(1)
    starts = tables.starts if index.size(1) == 1 else tables.starts_twice
    return _pointers(starts, index.size(0), width), _columns(index, lmax, mmax)


def _pieces(items: int, width: int) -> list[slice]:
    step = max(1, _ENTRIES // max(width, 1))
    return [slice(s, min(s + step, items)) for s in range(0, items, step)]


@torch.library.custom_op("geomeq::edge_rotate_in", mutates_args=())
def edge_rotate_in(wigner: Tensor, x: Tensor, index: Tensor, sorting: Sequence[Tensor], lmax: int, mmax: int) -> Tensor:
    """``y[e, r, s, :] = sum_n D[e][r, n] x[index[e, s], n, :]``.

    Args:
        wigner: ``[E, T]``.
        x: ``[N, R, C]``.
        index: Nodes that each edge reads, ``[E, S]``, S = 1 or 2.
        sorting: For each column of ``index`` the order that sorts it, or an empty tensor if it is sorted.
        lmax: Highest degree.
        mmax: Highest order in the frame.

    Returns:
        ``[E, B, S C]``.
    """
    layout, (edges, sides), channels = layout_of(lmax, mmax), index.shape, x.size(2)
    if x.device.type != "cpu" or x.numel() == 0 or edges == 0:
        return plain_in(wigner, x, index, lmax, mmax)
    table = x.contiguous().view(-1, channels)
    path = choose_path(x.device, x.dtype, channels)
    parts = []
    for piece in _pieces(edges, layout.num_values * sides):
        ptr, col = _sparse(index[piece], lmax, mmax)
        parts.append(weighted_rows(ptr, col, _values(wigner[piece], sides, lmax, mmax), table, path))
    rows = parts[0] if len(parts) == 1 else torch.cat(parts)
    return rows.view(edges, layout.num_rows, sides * channels)


@torch.library.custom_op("geomeq::edge_rotate_out", mutates_args=())
def edge_rotate_out(
    wigner: Tensor, y: Tensor, index: Tensor, sorting: Sequence[Tensor], num_nodes: int, lmax: int, mmax: int
) -> Tensor:
    """The transpose of :func:`edge_rotate_in`: ``[E, B, S C]`` to ``[N, R, C]``, summed over edges."""
    out = y.new_zeros(num_nodes, (lmax + 1) ** 2, y.size(2) // index.size(1))
    add_rotated_out(out, wigner, y, index, sorting, lmax, mmax)
    return out


def add_rotated_out(
    out: Tensor, wigner: Tensor, y: Tensor, index: Tensor, sorting: Sequence[Tensor], lmax: int, mmax: int
) -> None:
    """Adds what :func:`edge_rotate_out` returns to ``out [N, R, C]``. Knows no derivatives."""
    sides = index.size(1)
    if y.numel() == 0 or out.numel() == 0:
        return
    if y.device.type != "cpu":
        out += plain_out(wigner, y, index, out.size(0), lmax, mmax)
        return
    rows, flat = y.contiguous().view(-1, out.size(2)), out.view(out.size(0), -1)
    for side in range(sides):
        _sum_side(flat, wigner, rows, index[:, side], sorting[side], side, sides, lmax, mmax)


def _sum_side(
    out: Tensor,
    wigner: Tensor,
    rows: Tensor,
    index: Tensor,
    order: Tensor,
    side: int,
    sides: int,
    lmax: int,
    mmax: int,
) -> None:
    """Adds the messages of one column of the edge list to ``out [N, R C]``, a block of edges at a time."""
    tables, layout = layout_tables(lmax, mmax, index.device), layout_of(lmax, mmax)
    is_sorted, edges, channels = order.numel() == 0, index.numel(), rows.size(1)
    index = index if is_sorted else index.index_select(0, order)
    path = choose_path(rows.device, rows.dtype, channels)
    wide_path = choose_path(rows.device, rows.dtype, out.size(1))
    step = max(16, torch.get_num_threads() * _BLOCK // out.size(1))
    ptr = _pointers(tables.starts_t, min(step, edges), layout.num_values)
    local = torch.arange(min(step, edges), device=index.device, dtype=torch.int32)
    for start in range(0, edges, step):
        n = min(step, edges - start)
        piece = slice(start, start + n)
        number = torch.arange(start, start + n, device=index.device) if is_sorted else order[piece]
        col = ((number[:, None] * layout.num_rows + tables.row_t) * sides + side).int().reshape(-1)
        value = (wigner[piece] if is_sorted else wigner.index_select(0, order[piece])).index_select(1, tables.order_t)
        ends = ptr[: n * layout.num_coefficients + 1]
        turned = weighted_rows(ends, col, value.reshape(-1), rows, path).view(n, -1)
        nodes, first, last = index[piece], int(index[start]), int(index[start + n - 1])
        bounds = torch.searchsorted(nodes.contiguous(), torch.arange(first, last + 2, device=index.device)).int()
        ones = turned.new_ones(n)
        out[first : last + 1] += weighted_rows(bounds, local[:n], ones, turned, wide_path)


@torch.library.custom_op("geomeq::edge_rotate_dot", mutates_args=())
def edge_rotate_dot(y: Tensor, x: Tensor, index: Tensor, sorting: Sequence[Tensor], lmax: int, mmax: int) -> Tensor:
    """``out[e, (r, n)] = sum_s <y[e, r, s, :], x[index[e, s], n, :]>``: ``[E, T]``, in the order of the layout."""
    layout, (edges, sides), channels = layout_of(lmax, mmax), index.shape, x.size(2)
    if x.device.type != "cpu" or x.numel() == 0 or edges == 0:
        return plain_dot(y, x, index, lmax, mmax)
    table, rows = x.contiguous().view(-1, channels).t(), y.contiguous().view(-1, channels)
    tables = layout_tables(lmax, mmax, x.device)
    parts, per_edge = [], layout.num_rows * sides
    for piece in _pieces(edges, layout.num_values * sides):
        ptr, col = _sparse(index[piece], lmax, mmax)
        mask = csr_matrix(ptr, col, x.new_zeros(col.numel()), table.size(1))
        own = rows[piece.start * per_edge : piece.stop * per_edge]
        found = torch.sparse.sampled_addmm(mask, own, table, beta=0.0).values()
        found = found.view(-1, layout.num_values * sides)
        parts.append(found if sides == 1 else found[:, tables.once[0]] + found[:, tables.once[1]])
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@edge_rotate_in.register_fake
def _(wigner: Tensor, x: Tensor, index: Tensor, sorting: Sequence[Tensor], lmax: int, mmax: int) -> Tensor:
    return x.new_empty(index.size(0), layout_of(lmax, mmax).num_rows, index.size(1) * x.size(2))


@edge_rotate_out.register_fake
def _(
    wigner: Tensor, y: Tensor, index: Tensor, sorting: Sequence[Tensor], num_nodes: int, lmax: int, mmax: int
) -> Tensor:
    return y.new_empty(num_nodes, (lmax + 1) ** 2, y.size(2) // index.size(1))


@edge_rotate_dot.register_fake
def _(y: Tensor, x: Tensor, index: Tensor, sorting: Sequence[Tensor], lmax: int, mmax: int) -> Tensor:
    return y.new_empty(index.size(0), layout_of(lmax, mmax).num_values)


def _keep_in(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    wigner, x, index, sorting, ctx.lmax, ctx.mmax = inputs
    ctx.num_nodes = x.size(0)
    ctx.save_for_backward(wigner, x if ctx.needs_input_grad[0] else None, index, *sorting)


def _in_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    wigner, x, index, *sorting = ctx.saved_tensors
    grad_wigner = grad_x = None
    if ctx.needs_input_grad[0]:
        grad_wigner = edge_rotate_dot(grad, x, index, sorting, ctx.lmax, ctx.mmax)
    if ctx.needs_input_grad[1]:
        grad_x = edge_rotate_out(wigner, grad, index, sorting, ctx.num_nodes, ctx.lmax, ctx.mmax)
    return grad_wigner, grad_x, None, [None] * len(sorting), None, None


def _keep_out(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    wigner, y, index, sorting, _, ctx.lmax, ctx.mmax = inputs
    ctx.save_for_backward(wigner, y if ctx.needs_input_grad[0] else None, index, *sorting)


def _out_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    wigner, y, index, *sorting = ctx.saved_tensors
    grad_wigner = grad_y = None
    if ctx.needs_input_grad[0]:
        grad_wigner = edge_rotate_dot(y, grad, index, sorting, ctx.lmax, ctx.mmax)
    if ctx.needs_input_grad[1]:
        grad_y = edge_rotate_in(wigner, grad, index, sorting, ctx.lmax, ctx.mmax)
    return grad_wigner, grad_y, None, [None] * len(sorting), None, None, None


def _keep_dot(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    y, x, index, sorting, ctx.lmax, ctx.mmax = inputs
    ctx.save_for_backward(y, x, index, *sorting)


def _dot_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    y, x, index, *sorting = ctx.saved_tensors
    grad_y = grad_x = None
    if ctx.needs_input_grad[0]:
        grad_y = edge_rotate_in(grad, x, index, sorting, ctx.lmax, ctx.mmax)
    if ctx.needs_input_grad[1]:
        grad_x = edge_rotate_out(grad, y, index, sorting, x.size(0), ctx.lmax, ctx.mmax)
    return grad_y, grad_x, None, [None] * len(sorting), None, None


edge_rotate_in.register_autograd(_in_backward, setup_context=_keep_in)
edge_rotate_out.register_autograd(_out_backward, setup_context=_keep_out)
edge_rotate_dot.register_autograd(_dot_backward, setup_context=_keep_dot)
for _operator in (edge_rotate_in, edge_rotate_out, edge_rotate_dot):
    for _device in ("cpu", "cuda"):  # autocast would cast the products inside down
        _operator.register_autocast(_device, torch.float32)
