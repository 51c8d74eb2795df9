"""The two numerical kernels under ``Stencil``, each the other's derivative.

* ``stencil_sum``: ``out[(i, k)] = sum_e coef[e, k] x[j]``, or its transpose
  ``out[j] = sum_{e, k} coef[e, k] x[(i, k)]``.
* ``edge_dot``: ``out[e, k] = <a[(i, k)], b[j]>``.

``stencil_sum`` is linear in its coefficients and in ``x``; its gradients are the transposed sum and ``edge_dot``.
``edge_dot`` is linear in ``a`` and ``b``; its gradients are the sum and its transpose. So two operators close under
differentiation, to any order, and no tensor of size edges x coefficients x channels ever exists.

They are registered as torch operators (``torch.library.custom_op``) because ``torch.compile`` cannot look inside sparse
tensors: it needs an opaque node with a known output shape.
"""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PATHS = ("auto", "bag", "csr", "reference")

_HAS_MKL = torch.backends.mkl.is_available()  # torch's CSR product on a CPU is MKL's; asked here, as compile cannot
_SMALL_CHANNELS = 8  # up to here MKL's CSR product is at least as fast as embedding_bag in float32
_DOT_CHUNK = 4096  # edges at a time where there is no sampled product: the slices stay in the cache


def choose_path(device: torch.device, dtype: torch.dtype, channels: int) -> str:
    """The fastest path, by measurement (``examples/benchmarks``, case ``stencil_paths``).

    On a CPU, ``embedding_bag`` has a vectorised float32 kernel, 1.5 to 2.5 times faster than CSR from 16 channels on;
    in float64 it has none and CSR is 2 to 8 times faster. On CUDA, cuSPARSE's CSR product. Elsewhere the reference.
    """
    if device.type == "cuda":
        return "csr"
    if device.type != "cpu":
        return "reference"
    if _HAS_MKL and (dtype == torch.float64 or channels <= _SMALL_CHANNELS):
        return "csr"
    return "bag"


@lru_cache(maxsize=1)
def _accept_csr_notice() -> None:
    """Takes torch's once-per-process notice that CSR is in beta, so that users with strict warnings do not fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor(torch.zeros(2, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), torch.zeros(0))


def csr_matrix(ptr: Tensor, col: Tensor, values: Tensor, num_columns: int) -> Tensor:
    """A sparse matrix ``[R, num_columns]`` that trusts its indices: they were checked when the pattern was built."""
    _accept_csr_notice()
    return torch.sparse_csr_tensor(ptr, col, values, (ptr.numel() - 1, num_columns), check_invariants=False)


def weighted_rows(ptr: Tensor, col: Tensor, values: Tensor, x: Tensor, path: str) -> Tensor:
    """``out[r] = sum_{p in ptr[r]..ptr[r+1]} values[p] x[col[p]]``: ``[R, C]``."""
    if values.numel() == 0 or x.numel() == 0:
        return x.new_zeros(ptr.numel() - 1, x.size(1))
    if path == "csr":
        return csr_matrix(ptr, col, values, x.size(0)) @ x
    return F.embedding_bag(col, x, ptr, per_sample_weights=values, mode="sum", include_last_offset=True)


@torch.library.custom_op("geomeq::stencil_sum", mutates_args=())
def stencil_sum(
    coef: Tensor,
    x: Tensor,
    cached: Sequence[Tensor],
    pattern: Sequence[Tensor],
    transposed: bool,
    path: str,
) -> Tensor:
    """The weighted neighbour sum, or its transpose.

    Args:
        coef: ``[E, K]``, in the caller's edge order.
        x: ``[N_src, C]``; transposed: ``[N_dst * K, C]``.
        cached: Empty, or ``coef`` laid out for the sum and for its transpose, ``[E * K]`` each: spares fixed
            coefficients the two permutations in every call.
        pattern: ``StencilPattern.tensors()``.
        transposed: Which of the two sums.
        path: ``"bag"`` or ``"csr"``.

    Returns:
        ``[N_dst * K, C]``; transposed: ``[N_src, C]``.
    """
    ptr, col, order, _, ptr_t, col_t, perm_t = pattern
    if transposed:
        values = cached[1] if cached else coef.index_select(0, perm_t).view(-1)
        return weighted_rows(ptr_t, col_t, values, x.contiguous(), path)
    values = cached[0] if cached else coef.reshape(-1).index_select(0, order)
    return weighted_rows(ptr, col, values, x.contiguous(), path)


@stencil_sum.register_fake
def _(
    coef: Tensor, x: Tensor, cached: Sequence[Tensor], pattern: Sequence[Tensor], transposed: bool, path: str
) -> Tensor:
    rows = pattern[4].size(0) - 1 if transposed else pattern[0].size(0) - 1
    return x.new_empty(rows, x.size(1))


@torch.library.custom_op("geomeq::edge_dot", mutates_args=())
def edge_dot(a: Tensor, b: Tensor, pattern: Sequence[Tensor], num_coefs: int, path: str) -> Tensor:
    """The inner product at both ends of every edge, ``out[e, k] = <a[(i, k)], b[j]>``.

    Args:
        a: ``[N_dst * K, C]``.
        b: ``[N_src, C]``.
        pattern: ``StencilPattern.tensors()``.
        num_coefs: ``K``.
        path: Path of the derivatives (this product has one implementation per device).

    Returns:
        ``[E, K]``, in the caller's edge order.
    """
    ptr, col, _, position, *_ = pattern
    if col.numel() == 0 or a.size(1) == 0:
        return a.new_zeros(pattern[6].numel(), num_coefs)
    if col.numel() >= a.size(0) * b.size(0):
        # A small multigraph: the dense product is no larger than the result. (And torch's sampled product writes out of
        # bounds where a matrix stores more entries than it has places.)
        values = (a @ b.t()).view(-1).index_select(0, _row_numbers(ptr, col) * b.size(0) + col.long())
    elif a.device.type in ("cpu", "cuda"):
        # A sampled dense-dense product: 3 to 8 times faster than gathered chunks, and no gathered copy at all.
        mask = csr_matrix(ptr, col, a.new_zeros(col.numel()), b.size(0))
        values = torch.sparse.sampled_addmm(mask, a.contiguous(), b.contiguous().t(), beta=0.0).values()
    else:
        values = edge_dot_in_chunks(a, b, ptr, col)
    return values.index_select(0, position).view(-1, num_coefs)


def _row_numbers(ptr: Tensor, col: Tensor) -> Tensor:
    """The row of every stored entry, ``[nnz]``."""
    return torch.arange(ptr.numel() - 1, device=ptr.device).repeat_interleave(ptr.diff().long(), output_size=len(col))


def edge_dot_in_chunks(a: Tensor, b: Tensor, ptr: Tensor, col: Tensor, chunk: int = _DOT_CHUNK) -> Tensor:
    """``<a[row(p)], b[col[p]]>`` for every stored entry, for devices without a sampled product: ``[nnz]``."""
    rows = _row_numbers(ptr, col)
    parts = [
        (a.index_select(0, r) * b.index_select(0, c)).sum(-1)
        for r, c in zip(rows.split(chunk), col.split(chunk), strict=True)
    ]
    return torch.cat(parts)


@edge_dot.register_fake
def _(a: Tensor, b: Tensor, pattern: Sequence[Tensor], num_coefs: int, path: str) -> Tensor:
    return a.new_empty(pattern[6].size(0), num_coefs)


def _save_sum(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    coef, x, cached, pattern, ctx.transposed, ctx.path = inputs
    ctx.num_cached = len(cached)
    # x is needed only for the gradient of the coefficients; fixed geometry need not keep activations alive
    ctx.save_for_backward(coef, x if ctx.needs_input_grad[0] else None, *cached, *pattern)


def _sum_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    coef, x, *rest = ctx.saved_tensors
    cached, pattern = rest[: ctx.num_cached], rest[ctx.num_cached :]
    grad_coef = grad_x = None
    if ctx.needs_input_grad[0]:
        a, b = (x, grad) if ctx.transposed else (grad, x)
        grad_coef = edge_dot(a, b, pattern, coef.size(1), ctx.path)
    if ctx.needs_input_grad[1]:
        grad_x = stencil_sum(coef, grad, cached, pattern, not ctx.transposed, ctx.path)
    return grad_coef, grad_x, [None] * len(cached), [None] * len(pattern), None, None


def _save_dot(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, pattern, _, ctx.path = inputs
    ctx.save_for_backward(a, b, *pattern)


def _dot_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    a, b, *pattern = ctx.saved_tensors
    grad_a = grad_b = None
    if ctx.needs_input_grad[0]:
        grad_a = stencil_sum(grad, b, [], pattern, False, ctx.path)
    if ctx.needs_input_grad[1]:
        grad_b = stencil_sum(grad, a, [], pattern, True, ctx.path)
    return grad_a, grad_b, [None] * len(pattern), None, None


for _device in ("cpu", "cuda"):  # under autocast the products inside would be cast down
    stencil_sum.register_autocast(_device, torch.float32)
    edge_dot.register_autocast(_device, torch.float32)
stencil_sum.register_autograd(_sum_backward, setup_context=_save_sum)
edge_dot.register_autograd(_dot_backward, setup_context=_save_dot)
