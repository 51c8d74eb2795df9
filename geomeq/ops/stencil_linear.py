"""A stencil and the matrix product after it in one pass, without the tensor between them."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.ops._adjacency import Size
from geomeq.ops._functorch import transforms_functions
from geomeq.ops._kernels import choose_path, weighted_rows
from geomeq.ops._product import add_product, product_into
from geomeq.ops.stencil import HALF, Stencil, check_features, sparse_rows

# Numbers per block of rows: 4 MiB of float32 stay near a core. Several threads take four times as much at once, since
# every block is a meeting of all of them, and on a busy machine each meeting waits for the last.
_BLOCK = 1 << 20


class StencilLinear(nn.Module):
    r"""Weighted sums over neighbours, mixed over coefficients and channels.

    .. math:: y_{io} = \sum_{kc} W_{kco} \sum_{e = (j \to i)} c_{ek} \, x_{jc}

    The same as ``stencil(x).flatten(-2) @ weight.flatten(0, 1)``, but the sums :math:`[N, K, C]` exist only for a block
    of nodes at a time, which stays in the cache, and are not kept for the backward pass. That works on the reversed
    graph, block by block as well: :math:`A_{jko} = \sum_{e = (j \to i)} c_{ek} g_{io}` gives both
    :math:`\partial x_j = A_j W^T` and :math:`\partial W = \sum_j x_j A_j`. On one core it took about as long as the
    matrix product alone (``examples/benchmarks``, case ``stencil_gemm``).

    Coefficients that need a gradient take the long way, with the same result. Everything else (arguments, ``.to``,
    half precision, adjacencies) is as for ``Stencil``.

    Args:
        edge_index: As for ``Stencil``.
        coef: ``[E]`` or ``[E, K]``; fixed ones are fast.
        size: ``(N_src, N_dst)``, or one number for both.
        path: As for ``Stencil``; ``"reference"`` takes the long way.

    Example:
        >>> layer = StencilLinear(torch.tensor([[0, 1], [1, 0]]), torch.ones(2, 3), size=2)
        >>> layer(torch.randn(2, 4), torch.randn(3, 4, 5)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self, edge_index: Any, coef: Tensor | None = None, size: Size | None = None, path: str = "auto"
    ) -> None:
        super().__init__()
        self.stencil = _TwoWayStencil(edge_index, coef, size, path)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Sums over neighbours and mixes.

        Args:
            x: ``[N_src, C]``, or ``[..., N_src, C]`` on this one shared graph.
            weight: ``[K, C, O]``.

        Returns:
            ``[..., N_dst, O]``.

        Raises:
            TypeError: If a dtype does not go with the coefficients.
            ValueError: If a shape or device is wrong.
        """
        coef, pattern = self.stencil.coef, self.stencil.pattern
        check_features(x, coef, pattern.size[0])
        check_shape("weight", weight, pattern.num_coefs, x.size(-1), "O", hint="[coefficients, channels in, out]")
        out_dtype = torch.promote_types(torch.promote_types(x.dtype, coef.dtype), weight.dtype)
        wide = torch.float32 if out_dtype in HALF else out_dtype
        x, weight = x.to(wide), weight.to(wide)
        values = self.stencil.laid_out_coef(wide)
        long_way = self.stencil.path == "reference" or transforms_functions()
        if long_way or not values or pattern.num_coefs == 0:
            sums = self.stencil(x)
            sums = sums if coef.dim() == 1 else sums.flatten(-2)
            with torch.autocast(x.device.type, enabled=False):
                return (sums.to(wide) @ weight.flatten(0, 1)).to(out_dtype)
        lead, batch = x.shape[:-2], x.shape[:-2].numel()
        by_node = x.reshape(batch, pattern.size[0], x.size(-1)).transpose(0, 1)
        there = [pattern.ptr, pattern.col, values[0]]
        back = [self.stencil.ptr_r, self.stencil.col_r, self.stencil.laid_out_r.to(wide)]
        out = stencil_mix(by_node, weight, there, back, self.stencil.path)
        return out.transpose(0, 1).reshape(*lead, pattern.size[1], weight.size(-1)).to(out_dtype)


class _TwoWayStencil(Stencil):
    """A stencil that also holds the rows (j, k) of the reversed graph."""

    ptr_r: Tensor
    col_r: Tensor
    order_r: Tensor
    laid_out_r: Tensor

    def _hold(self, coef: Tensor) -> None:
        pattern = self.pattern
        rows = sparse_rows(pattern.edge_index.long().flip(0), pattern.size[::-1], pattern.num_coefs)
        for name, tensor in zip(("ptr_r", "col_r", "order_r"), rows, strict=False):
            self.register_buffer(name, tensor, persistent=False)
        self.register_buffer("laid_out_r", None, persistent=False)
        super()._hold(coef)

    def _lay_out(self) -> None:
        super()._lay_out()
        self.laid_out_r = self.coef.reshape(-1).index_select(0, self.order_r)


def _blocks(ptr: Tensor, num_coefs: int, numbers_per_node: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of nodes and the stored entries of each; one block on devices where splitting only costs time."""
    num_nodes = (ptr.numel() - 1) // num_coefs
    block = _BLOCK if torch.get_num_threads() == 1 else 4 * _BLOCK
    step = max(16, block // max(numbers_per_node, 1)) if ptr.device.type == "cpu" else max(num_nodes, 1)
    starts = range(0, num_nodes, step)
    bounds = ptr[:: step * num_coefs].tolist()[: len(starts)] if ptr.device.type == "cpu" else [0]
    for start, first, last in zip(starts, bounds, [*bounds[1:], None], strict=True):
        yield slice(start, min(start + step, num_nodes)), slice(first, last)


def _block_sums(rows: Sequence[Tensor], nodes: slice, entries: slice, num_coefs: int, x: Tensor, path: str) -> Tensor:
    """The stencil of some nodes, ``x`` ``[N, B, C]`` to ``[n * B, K * C]``."""
    ptr, col, values = rows
    n, batch, channels = nodes.stop - nodes.start, x.size(1), x.size(2)
    offsets = ptr[nodes.start * num_coefs : nodes.stop * num_coefs + 1] - entries.start
    path = choose_path(x.device, x.dtype, batch * channels) if path == "auto" else path
    sums = weighted_rows(offsets, col[entries], values[entries], x.reshape(x.size(0), -1), path)
    return sums.view(n, num_coefs, batch, channels).transpose(1, 2).reshape(n * batch, num_coefs * channels)


@torch.library.custom_op("geomeq::stencil_mix", mutates_args=())
def stencil_mix(x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], path: str) -> Tensor:
    """The sums and their product with the weights, block by block.

    Args:
        x: ``[N_src, B, C]``.
        weight: ``[K, C, O]``.
        there: Row pointers, columns and coefficients of the graph, rows (i, k).
        back: The same of the reversed graph, rows (j, k).
        path: ``"auto"``, ``"bag"`` or ``"csr"``.

    Returns:
        ``[N_dst, B, O]``.
    """
    (num_coefs, channels, outputs), batch = weight.shape, x.size(1)
    num_nodes = (there[0].numel() - 1) // num_coefs
    out = x.new_zeros(num_nodes, batch, outputs)
    if out.numel() == 0:
        return out
    matrix, flat = weight.reshape(num_coefs * channels, outputs), out.view(-1, outputs)
    for nodes, entries in _blocks(there[0], num_coefs, num_coefs * batch * channels):
        sums = _block_sums(there, nodes, entries, num_coefs, x, path)
        product_into(flat[nodes.start * batch : nodes.stop * batch], sums, matrix)
    return out


@torch.library.custom_op("geomeq::stencil_mix_backward", mutates_args=())
def stencil_mix_backward(
    grad: Tensor, x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], path: str
) -> tuple[Tensor, Tensor]:
    """Gradients of ``stencil_mix`` for ``x`` and ``weight``, both from one pass over the reversed graph."""
    (num_coefs, channels, outputs), batch = weight.shape, x.size(1)
    grad_x, grad_weight = x.new_zeros(x.shape), weight.new_zeros(channels, num_coefs * outputs)
    if grad.numel() and x.numel():
        matrix = weight.transpose(1, 2).reshape(num_coefs * outputs, channels)
        flat, flat_x = grad_x.view(-1, channels), x.reshape(-1, channels)
        for nodes, entries in _blocks(back[0], num_coefs, num_coefs * batch * outputs):
            sums = _block_sums(back, nodes, entries, num_coefs, grad, path)
            rows = slice(nodes.start * batch, nodes.stop * batch)
            product_into(flat[rows], sums, matrix)
            add_product(grad_weight, flat_x[rows].t(), sums)
    return grad_x, grad_weight.view(channels, num_coefs, outputs).transpose(0, 1).contiguous()


@stencil_mix.register_fake
def _(x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], path: str) -> Tensor:
    num_nodes = (there[0].size(0) - 1) // weight.size(0)
    return x.new_empty(num_nodes, x.size(1), weight.size(2))


@stencil_mix_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], path: str
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, there, back, ctx.path = inputs
    ctx.save_for_backward(*tensors, *there, *back)


def _mix_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, *rows = ctx.saved_tensors
    grad_x, grad_weight = stencil_mix_backward(grad, x, weight, rows[:3], rows[3:], ctx.path)
    return grad_x, grad_weight, [None] * 3, [None] * 3, None


def _mix_backward_backward(ctx: Any, toward_x: Tensor, toward_weight: Tensor) -> tuple[Any, ...]:
    """``grad_x`` is linear in (grad, weight) and ``grad_weight`` in (grad, x): the same two operators again."""
    grad, x, weight, *rows = ctx.saved_tensors
    there, back, path = rows[:3], rows[3:], ctx.path
    of_grad = stencil_mix(toward_x, weight, there, back, path) + stencil_mix(x, toward_weight, there, back, path)
    of_x, of_weight = stencil_mix_backward(grad, toward_x, toward_weight, there, back, path)
    return of_grad, of_x, of_weight, [None] * 3, [None] * 3, None


stencil_mix.register_autograd(_mix_backward, setup_context=_save)
stencil_mix_backward.register_autograd(_mix_backward_backward, setup_context=_save)
for _operator in (stencil_mix, stencil_mix_backward):
    for _device in ("cpu", "cuda"):  # under autocast the products inside would be cast down
        _operator.register_autocast(_device, torch.float32)
