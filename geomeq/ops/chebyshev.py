r"""Chebyshev polynomials of a sparse operator, mixed over channels: the kernel under ``ChebConv``.

.. math:: y = \sum_{j < K} T_j(A) \, x \, \Theta_j, \qquad T_j(A) = 2 A \, T_{j-1}(A) - T_{j-2}(A)

* One sample (or a few narrow ones) at a time: its terms fit the cache, which those of a whole batch do not. Each term
  is added to the result and forgotten; nothing is concatenated.
* The transpose of :math:`T_j(A)` is :math:`T_j(A^T)`. With :math:`g_j = T_j(A^T) \, g` for the gradient :math:`g` of
  :math:`y`, :math:`\partial\Theta_j = x^T g_j` and :math:`\partial x = \sum_j g_j \Theta_j^T`: the backward pass needs
  ``x`` and no other activation. It is linear in each argument, so its own derivative is made of the same two operators.
* With fewer channels out than in, Clenshaw's recurrence runs on the projected features :math:`x \Theta_j` instead.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from geomeq.ops._functorch import transforms_functions
from geomeq.ops._kernels import choose_path, weighted_rows
from geomeq.ops._product import add_product, product, product_into
from geomeq.ops.sparse_operator import SparseOperator

CHEB_PATHS = ("auto", "fused", "clenshaw", "reference")
_COLUMNS = 32  # narrower samples are put side by side until they fill a row of this many numbers

Rows = Sequence[Tensor]


def chebyshev(x: Tensor, operator: SparseOperator, weight: Tensor, path: str = "auto") -> Tensor:
    r"""``sum_j T_j(A) x weight[j]`` on one shared operator.

    Args:
        x: ``[..., N, C]``, float32 or float64.
        operator: ``A``, square. Values that require a gradient take a longer way that keeps all terms.
        weight: ``[K, C, O]``.
        path: ``"fused"`` adds term by term, ``"clenshaw"`` runs the recurrence on projected features, ``"reference"``
            is the definition; ``"auto"`` takes Clenshaw where there are fewer channels out than in.

    Returns:
        ``[..., N, O]``.

    Example:
        >>> operator = SparseOperator.from_edges(torch.tensor([[0, 1], [1, 0]]), torch.ones(2), 2)
        >>> chebyshev(torch.tensor([[1.0], [3.0]]), operator, torch.tensor([10.0, 1.0]).view(2, 1, 1))
        tensor([[13.],
                [31.]])
    """
    if path not in CHEB_PATHS:
        raise ValueError(f"path must be one of {', '.join(CHEB_PATHS)}, got {path!r}")
    path = "reference" if transforms_functions() else path
    if path == "reference" or operator.value.requires_grad:
        return _by_definition(x, operator, weight, path)
    lead = x.shape[:-2]
    clenshaw = path == "clenshaw" or (path == "auto" and weight.size(2) < weight.size(1))
    batch = x.reshape(lead.numel(), *x.shape[-2:])
    there, back = ([p, c, v.to(x.dtype)] for p, c, v in (operator.rows(), operator.rows_t()))
    return cheb_mix(batch, weight, there, back, clenshaw).view(*lead, x.size(-2), weight.size(2))


def _by_definition(x: Tensor, operator: SparseOperator, weight: Tensor, path: str) -> Tensor:
    """Term by term in plain operations, so that autograd finds every derivative."""
    batch = x.reshape(x.shape[:-2].numel(), *x.shape[-2:]).transpose(0, 1)
    path, terms = "reference" if path == "reference" else "auto", [batch]
    for j in range(1, weight.size(0)):
        term = operator.matmul(terms[-1], path).to(x.dtype)
        terms.append(term if j == 1 else 2 * term - terms[-2])
    out = torch.stack(terms, dim=-2).flatten(-2) @ weight.flatten(0, 1)
    return out.transpose(0, 1).reshape(*x.shape[:-1], weight.size(2))


def _groups(batch: int, width: int) -> Iterator[slice]:
    """Samples that are treated at a time."""
    step = max(1, _COLUMNS // max(width, 1))
    return (slice(start, min(start + step, batch)) for start in range(0, batch, step))


def _by_node(x: Tensor) -> Tensor:
    """``[b, N, C]`` to ``[N, b * C]``; for one sample a view."""
    return x[0] if x.size(0) == 1 else x.transpose(0, 1).contiguous().view(x.size(1), -1)


def _by_sample(x: Tensor, batch: int) -> Tensor:
    """``[N, b * C]`` to ``[b, N, C]``."""
    return x.view(x.size(0), batch, -1).transpose(0, 1)


def _apply(rows: Rows, values: Tensor, x: Tensor) -> Tensor:
    return weighted_rows(rows[0], rows[1], values, x, choose_path(x.device, x.dtype, x.size(1)))


def _terms(x: Tensor, rows: Rows, count: int) -> Iterator[Tensor]:
    """``T_0(A) x, T_1(A) x, ...``, each ``[N, W]`` and free for reuse after the next but one."""
    twice = 2 * rows[2]
    before, now = x, x
    for j in range(count):
        if j == 1:
            now = _apply(rows, rows[2], x)
        elif j > 1:
            before, now = now, _apply(rows, twice, now).sub_(before)
        yield now


def _sum_terms(x: Tensor, weight: Tensor, rows: Rows, out: Tensor) -> None:
    """``out [b, N, O]`` from ``x [b, N, C]``, term by term."""
    batch, channels = x.size(0), x.size(2)
    target = out[0] if batch == 1 else out.new_empty(x.size(1) * batch, out.size(2))
    for j, term in enumerate(_terms(_by_node(x), rows, weight.size(0))):
        flat = term.view(-1, channels)
        (add_product if j else product_into)(target, flat, weight[j])
    if batch > 1:
        out.copy_(_by_sample(target.view(x.size(1), -1), batch))


def _sum_clenshaw(x: Tensor, weight: Tensor, rows: Rows, out: Tensor) -> None:
    """The same by ``b_j = x W_j + 2 A b_{j+1} - b_{j+2}`` and ``out = x W_0 + A b_1 - b_2``."""
    batch, nodes, channels = x.shape
    flat = _by_node(x).view(-1, channels)

    def projected(j: int) -> Tensor:
        return product(flat, weight[j]).reshape(nodes, -1)

    last = weight.size(0) - 1
    twice, after, now = 2 * rows[2], None, projected(last)
    for j in range(last - 1, -1, -1):
        step = _apply(rows, twice if j > 0 else rows[2], now).view(-1, out.size(2))
        add_product(step, flat, weight[j])
        step = step.view(nodes, -1)
        after, now = now, step if after is None else step.sub_(after)
    out.copy_(_by_sample(now, batch))


@torch.library.custom_op("geomeq::cheb_mix", mutates_args=())
def cheb_mix(x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], clenshaw: bool) -> Tensor:
    """``sum_j T_j(A) x[b] weight[j]``.

    Args:
        x: ``[B, N, C]``.
        weight: ``[K, C, O]``.
        there: ``ptr, col, value`` of ``A``.
        back: The same of its transpose.
        clenshaw: Which recurrence.

    Returns:
        ``[B, N, O]``.
    """
    x, weight = x.contiguous(), weight.contiguous()
    out = x.new_empty(x.size(0), x.size(1), weight.size(2))
    if out.numel() == 0 or weight.numel() == 0:
        return out.zero_()
    run = _sum_clenshaw if clenshaw else _sum_terms
    for group in _groups(x.size(0), min(weight.shape[1:]) if clenshaw else weight.size(1)):
        run(x[group], weight, there, out[group])
    return out


@torch.library.custom_op("geomeq::cheb_mix_backward", mutates_args=())
def cheb_mix_backward(
    grad: Tensor, x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], needs_x: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of ``cheb_mix`` for ``x`` and ``weight``, from ``x`` alone.

    Args:
        grad: ``[B, N, O]``.
        x: ``[B, N, C]``.
        weight: ``[K, C, O]``.
        there: As for ``cheb_mix``.
        back: As for ``cheb_mix``.
        needs_x: Whether the first result is wanted; empty otherwise.

    Returns:
        ``[B, N, C]`` and ``[K, C, O]``.
    """
    grad, x = grad.contiguous(), x.contiguous()
    grad_x, grad_weight = x.new_empty(x.shape if needs_x else (0,)), weight.new_zeros(weight.shape)
    if grad.numel() == 0 or weight.numel() == 0:
        return grad_x.zero_(), grad_weight
    if not needs_x and weight.size(1) < weight.size(2):  # the first layer: terms of a narrow x instead of a wide grad
        for group in _groups(x.size(0), weight.size(1)):
            flat = _by_node(grad[group]).view(-1, weight.size(2))
            for j, term in enumerate(_terms(_by_node(x[group]), there, weight.size(0))):
                add_product(grad_weight[j], term.view(-1, weight.size(1)).t(), flat)
        return grad_x, grad_weight
    for group in _groups(x.size(0), weight.size(2)):
        _backward_terms(grad[group], x[group], weight, back, grad_x[group] if needs_x else None, grad_weight)
    return grad_x, grad_weight


def _backward_terms(
    grad: Tensor, x: Tensor, weight: Tensor, rows: Rows, grad_x: Tensor | None, grad_weight: Tensor
) -> None:
    """Adds one group of samples to both gradients."""
    batch, channels, outputs = x.size(0), weight.size(1), weight.size(2)
    flat_t = _by_node(x).view(-1, channels).t()
    target = None
    if grad_x is not None:
        target = grad_x[0] if batch == 1 else grad_x.new_empty(x.size(1) * batch, channels)
    for j, term in enumerate(_terms(_by_node(grad), rows, weight.size(0))):
        flat = term.view(-1, outputs)
        add_product(grad_weight[j], flat_t, flat)
        if target is not None:
            (add_product if j else product_into)(target, flat, weight[j].t())
    if grad_x is not None and target is not None and batch > 1:
        grad_x.copy_(_by_sample(target.view(x.size(1), -1), batch))


@cheb_mix.register_fake
def _(x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], clenshaw: bool) -> Tensor:
    return x.new_empty(x.size(0), x.size(1), weight.size(2))


@cheb_mix_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, there: Sequence[Tensor], back: Sequence[Tensor], needs_x: bool
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if needs_x else (0,)), weight.new_empty(weight.shape)


def _save_mix(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, there, back, ctx.clenshaw = inputs
    ctx.save_for_backward(x, weight, *there, *back)


def _mix_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, *rows = ctx.saved_tensors
    there, back = rows[:3], rows[3:]
    if not ctx.needs_input_grad[1]:  # a fixed filter: the same operator on the transpose
        grad_x = cheb_mix(grad, weight.transpose(1, 2), back, there, weight.size(1) < weight.size(2))
        return grad_x, None, [None] * 3, [None] * 3, None
    grad_x, grad_weight = cheb_mix_backward(grad, x, weight, there, back, ctx.needs_input_grad[0])
    return grad_x if ctx.needs_input_grad[0] else None, grad_weight, [None] * 3, [None] * 3, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, x, weight, there, back, ctx.needs_x = inputs
    ctx.save_for_backward(grad, x, weight, *there, *back)


def _mix_backward_backward(ctx: Any, toward_x: Tensor, toward_weight: Tensor) -> tuple[Any, ...]:
    """``grad_x`` is linear in (grad, weight) and ``grad_weight`` in (grad, x): the same two operators again."""
    grad, x, weight, *rows = ctx.saved_tensors
    there, back = rows[:3], rows[3:]
    of_grad = cheb_mix(x, toward_weight, there, back, False)
    if not ctx.needs_x:  # grad_weight alone was asked for; toward_x is empty
        of_x = cheb_mix(grad, toward_weight.transpose(1, 2), back, there, False) if ctx.needs_input_grad[1] else None
        return of_grad, of_x, None, *_NONE
    of_x, of_weight = cheb_mix_backward(grad, toward_x, toward_weight, there, back, True)
    return of_grad + cheb_mix(toward_x, weight, there, back, False), of_x, of_weight, *_NONE


_NONE: tuple[Any, ...] = ([None] * 3, [None] * 3, None)

cheb_mix.register_autograd(_mix_backward, setup_context=_save_mix)
cheb_mix_backward.register_autograd(_mix_backward_backward, setup_context=_save_backward)
for _operator in (cheb_mix, cheb_mix_backward):
    for _device in ("cpu", "cuda"):  # under autocast the products inside would be cast down
        _operator.register_autocast(_device, torch.float32)
