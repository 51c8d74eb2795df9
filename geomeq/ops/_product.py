"""Products of float32 matrices on a CPU by oneDNN.

torch gives them to MKL, which is slow on processors of other makers than its own: products by oneDNN, which torch also
contains, are twice as fast on an AMD EPYC with AVX-512 (``examples/benchmarks``, case ``product``). Sums are in float32
in both; they differ by rounding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq.ops._functorch import transforms_functions

_LEAST = 2**20  # multiplications; below that oneDNN's 10 microseconds a call are more than it wins
_BLOCK = 2048  # rows at a time of gradients of weights
_WORTH = 128  # multiplications for each number that has to be copied first
# no public name of torch, and not in every build of it
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """``a @ b + bias`` for ``[M, K]`` and ``[K, N]``, in any layout. Knows no derivatives."""
    work = a.size(0) * a.size(1) * b.size(1)
    if work < _LEAST or not _fit(a, b, bias):
        return _by_mkl(a, b, bias)
    if a.stride(1) == 1:  # rows with gaps are copied, on both sides, which is cheap
        return _onednn(a, b.t(), bias)
    if bias is None and b.stride(0) == 1:
        return _onednn(b.t(), a, None).t()
    if bias is not None or work < _WORTH * min(a.numel(), b.numel()):
        return _by_mkl(a, b, bias)
    if b.numel() < a.numel():
        return _sum_of_blocks(b.t(), a.t()).t()
    return _sum_of_blocks(a, b)


def _sum_of_blocks(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` for an ``a`` that has to be copied, a piece at a time that stays in the cache."""
    parts = zip(a.split(_BLOCK, dim=1), b.split(_BLOCK), strict=True)
    first, last = next(parts)
    out = _onednn(first, last.t(), None)
    for first, last in parts:
        out.add_(_onednn(first, last.t(), None))
    return out


def product_into(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Writes ``a @ b`` to ``out``."""
    if a.size(0) * a.size(1) * b.size(1) < _LEAST or not _fit(a, b, None):
        torch.mm(a, b, out=out)
    else:
        out.copy_(product(a, b))


def add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Adds ``a @ b`` to ``out``."""
    if a.size(0) * a.size(1) * b.size(1) < _LEAST or not _fit(a, b, None):
        out.addmm_(a, b)
    else:
        out.add_(product(a, b))


def _fit(a: Tensor, b: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN may have them; torch says what is wrong with sizes that do not fit, oneDNN does not."""
    own = [a, b] if bias is None else [a, b, bias]
    if not _ONEDNN or any(t.dtype != torch.float32 or t.device.type != "cpu" for t in own):
        return False
    return a.size(1) == b.size(0) and (bias is None or bias.shape == (b.size(1),))


def _by_mkl(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias``; makes ``x`` contiguous."""
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()  # or a kernel for any strides would run, a hundred times slower
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return made


@torch.library.custom_op("geomeq::product", mutates_args=())
def traced_product(a: Tensor, b: Tensor) -> Tensor:
    """:func:`product` for graphs that are compiled, where torch would call MKL."""
    return product(a, b).contiguous()


@traced_product.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.size(0), b.size(1))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` like ``torch.nn.functional.linear``, differentiable to any order."""
    if _by_torch(x, x.numel() * weight.size(0)):
        return F.linear(x, weight, bias)
    made: Tensor = _Product.apply(x.reshape(-1, x.size(-1)), weight.t(), bias)
    return made.view(*x.shape[:-1], weight.size(0))


def matmul(x: Tensor, matrix: Tensor) -> Tensor:
    """``x @ matrix`` for ``[..., K]`` and ``[K, N]``, differentiable to any order."""
    if _by_torch(x, x.numel() * matrix.size(1)):
        return x @ matrix
    made: Tensor = _Product.apply(x.reshape(-1, x.size(-1)), matrix, None)
    return made.view(*x.shape[:-1], matrix.size(1))


def addmm(add: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """``add + x @ matrix`` for ``[M, N]`` or ``[N]``, ``[M, K]`` and ``[K, N]``, differentiable to any order."""
    if _by_torch(x, x.numel() * matrix.size(1)):
        return torch.addmm(add, x, matrix)
    made: Tensor = _Product.apply(x, matrix, add if add.dim() == 1 else None)
    return made if add.dim() == 1 else made + add


def _by_torch(x: Tensor, work: int) -> bool:
    """Whether nothing is won, or others have to see the product: compilers, autocast, transforms of functions."""
    if torch.compiler.is_compiling() or type(x) not in (Tensor, nn.Parameter):
        return True
    if not _ONEDNN or x.dtype != torch.float32 or x.device.type != "cpu" or work < _LEAST:
        return True
    return torch.is_autocast_enabled("cpu") or transforms_functions()


class Linear(nn.Linear):
    """``torch.nn.Linear`` with :func:`linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``[..., in_features]`` to ``[..., out_features]``."""
        return linear(input, self.weight, self.bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        need_a, need_b, _ = ctx.needs_input_grad
        ctx.save_for_backward(a if need_b else None, b if need_a else None)
        return product(a, b, bias).contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        need_a, need_b, need_bias = ctx.needs_input_grad
        apply = _Product.apply if torch.is_grad_enabled() else _plain
        return (
            apply(grad, b.t(), None) if need_a else None,
            apply(a.t(), grad, None) if need_b else None,
            grad.sum(0) if need_bias else None,
        )


def _plain(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return product(a, b, bias).contiguous()
