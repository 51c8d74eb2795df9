r"""A pointwise function of band-limited signals on the circle, without keeping the samples.

One operator is closed under differentiation. With the samples :math:`u = x B` of coefficients :math:`x`,

.. math:: T_k(x; g_1 \dots g_k) = s \left[ f^{(k)}(x B) \odot (g_1 B) \odot \dots \odot (g_k B) \right] B^T .

:math:`T_0` is the function, the gradient of :math:`T_k` with respect to :math:`x` is :math:`T_{k+1}` and with respect
to :math:`g_i` again :math:`T_k`, because :math:`T_k` is symmetric. Only coefficients are saved for the backward pass;
samples live in slices that stay in the cache.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: Functions that the operator knows with all their derivatives.
ACTS = ("silu", "gelu", "tanh", "elu", "relu")

_SLICE = 1 << 19  # samples per slice on a CPU: 2 MiB of float32, and few enough meetings of threads
_SLICE_GPU = 1 << 26


@torch.library.custom_op("geomeq::sampled_act", mutates_args=())
def sampled_act(
    x: Tensor, cots: Sequence[Tensor], bases: Sequence[Tensor], plan: Sequence[int], scales: Sequence[float], act: str
) -> Tensor:
    """``T_k`` of the module's docstring for groups of fields that share a basis.

    Args:
        x: Coefficients, ``[R, dim]``.
        cots: ``g_1 ... g_k``, each ``[R, dim]``.
        bases: One ``[D, S]`` per group.
        plan: For each group: number of fields, number of blocks, and for each block its first column and its
            components per field.
        scales: ``s`` of each group.
        act: Name of the function.

    Returns:
        ``[R, dim]``.
    """
    x = x.contiguous()
    out = torch.empty_like(x)
    if x.numel() == 0:
        return out
    cots = [g.contiguous() for g in cots]
    most = _SLICE if x.device.type == "cpu" else _SLICE_GPU
    at = 0
    for basis, scale in zip(bases, scales, strict=True):
        count, num_blocks = plan[at], plan[at + 1]
        blocks = [(plan[p], plan[p + 1]) for p in range(at + 2, at + 2 + 2 * num_blocks, 2)]
        at += 2 + 2 * num_blocks
        there, back = basis.t().contiguous(), basis * scale
        step = min(x.size(0), max(1, most // (count * basis.size(1))))
        # memory that is taken anew for every slice would be mapped anew: slower than the arithmetic
        table = x.new_empty(step * count * basis.size(0))
        kept = [x.new_empty(step * count * basis.size(1)) for _ in (x, *cots)]
        for start in range(0, x.size(0), step):
            rows = slice(start, min(start + step, x.size(0)))
            fields = (rows.stop - start) * count
            small = table[: basis.size(0) * fields].view(-1, fields)
            samples = [t[: basis.size(1) * fields].view(-1, fields) for t in kept]
            for t, place in zip((x, *cots), samples, strict=True):
                torch.mm(there, _read(t[rows], small, count, blocks), out=place)
            torch.mm(back, _derivative(act, samples), out=small)
            _write(out[rows], small, count, blocks)
    return out


def _read(x: Tensor, table: Tensor, count: int, blocks: Sequence[tuple[int, int]]) -> Tensor:
    """Coefficients of the fields of a group, ``[D, rows * count]``: thin products are faster with long rows."""
    parts = table.view(-1, x.size(0), count).split([c for _, c in blocks])
    for (begin, c), part in zip(blocks, parts, strict=True):
        part.copy_(x[:, begin : begin + count * c].view(x.size(0), count, c).permute(2, 0, 1))
    return table


def _write(out: Tensor, table: Tensor, count: int, blocks: Sequence[tuple[int, int]]) -> None:
    parts = table.view(-1, out.size(0), count).split([c for _, c in blocks])
    for (begin, c), part in zip(blocks, parts, strict=True):
        out[:, begin : begin + count * c].view(out.size(0), count, c).copy_(part.permute(1, 2, 0))


def _derivative(act: str, samples: Sequence[Tensor]) -> Tensor:
    """``f^(k)(u) g_1 ... g_k`` from ``u, g_1 ... g_k``; may write into all of them."""
    u, *gs = samples
    if not gs:
        return _FORWARD[act](u)
    if len(gs) == 1:
        return _BACKWARD[act](gs[0], u)
    out = _HIGHER[act](u, len(gs))
    for g in gs:
        out = out * g
    return out


def _polynomial_derivatives(first: Sequence[float], step: Sequence[float], k: int) -> list[float]:
    """Coefficients of the k-th derivative of ``p(t(u))`` in powers of ``t``, if ``t' = step(t)``."""
    p = list(first)
    for _ in range(k):
        d = [n * c for n, c in enumerate(p)][1:]
        q = [0.0] * (len(d) + len(step) - 1 if d else 1)
        for i, a in enumerate(d):
            for j, b in enumerate(step):
                q[i + j] += a * b
        p = q
    return p


def _horner(coefficients: Sequence[float], t: Tensor) -> Tensor:
    out = torch.full_like(t, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        out = out * t + c
    return out


def _sigmoid_derivative(s: Tensor, k: int) -> Tensor:
    return _horner(_polynomial_derivatives([0.0, 1.0], [0.0, 1.0, -1.0], k), s)  # s' = s - s^2


def _silu_higher(u: Tensor, k: int) -> Tensor:
    s = u.sigmoid()
    return k * _sigmoid_derivative(s, k - 1) + u * _sigmoid_derivative(s, k)


def _tanh_higher(u: Tensor, k: int) -> Tensor:
    return _horner(_polynomial_derivatives([0.0, 1.0], [1.0, 0.0, -1.0], k), u.tanh())  # t' = 1 - t^2


def _normal_derivative(u: Tensor, k: int) -> Tensor:
    """The k-th derivative (k >= 1) of the distribution function of the normal distribution."""
    h, before = torch.ones_like(u), torch.zeros_like(u)
    for n in range(k - 1):  # Hermite polynomials
        h, before = u * h - n * before, h
    return (-1) ** (k - 1) * h * (-0.5 * u * u).exp() / math.sqrt(2 * math.pi)


def _gelu_higher(u: Tensor, k: int) -> Tensor:
    return k * _normal_derivative(u, k - 1) + u * _normal_derivative(u, k)


def _elu_higher(u: Tensor, k: int) -> Tensor:
    return torch.where(u > 0, torch.zeros_like(u), u.clamp(max=0).exp())


_aten = torch.ops.aten
_FORWARD: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": lambda u: F.silu(u, inplace=True),
    "gelu": lambda u: _aten.gelu.out(u, out=u),
    "tanh": torch.Tensor.tanh_,
    "elu": lambda u: F.elu(u, inplace=True),
    "relu": torch.Tensor.relu_,
}
_BACKWARD: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "silu": lambda g, u: _aten.silu_backward.grad_input(g, u, grad_input=g),
    "gelu": lambda g, u: _aten.gelu_backward.grad_input(g, u, grad_input=g),
    "tanh": lambda g, u: _aten.tanh_backward.grad_input(g, u.tanh_(), grad_input=g),
    "elu": lambda g, u: g.mul_(u.clamp_(max=0).exp_()),  # exp(0) = 1 above
    "relu": lambda g, u: _aten.threshold_backward.grad_input(g, u, 0, grad_input=g),
}
_HIGHER: dict[str, Callable[[Tensor, int], Tensor]] = {
    "silu": _silu_higher,
    "gelu": _gelu_higher,
    "tanh": _tanh_higher,
    "elu": _elu_higher,
    "relu": lambda u, k: torch.zeros_like(u),
}


@sampled_act.register_fake
def _(
    x: Tensor, cots: Sequence[Tensor], bases: Sequence[Tensor], plan: Sequence[int], scales: Sequence[float], act: str
) -> Tensor:
    return x.new_empty(x.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, cots, bases, ctx.plan, ctx.scales, ctx.act = inputs
    ctx.num_cots = len(cots)
    ctx.save_for_backward(x, *cots, *bases)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, *rest = ctx.saved_tensors
    cots, bases = rest[: ctx.num_cots], rest[ctx.num_cots :]

    def again(others: list[Tensor]) -> Tensor:
        return sampled_act(x, others, bases, ctx.plan, ctx.scales, ctx.act)

    grad_x = again([*cots, grad]) if ctx.needs_input_grad[0] else None
    needed = ctx.needs_input_grad[1] if cots else []
    grad_cots = [
        again([*cots[:k], grad, *cots[k + 1 :]])
        if (needed[k] if isinstance(needed, (list, tuple)) else needed)
        else None
        for k in range(len(cots))
    ]
    return grad_x, grad_cots, [None] * len(bases), None, None, None


sampled_act.register_autograd(_backward, setup_context=_keep)
for _device in ("cpu", "cuda"):  # under autocast the products inside would be cast down
    sampled_act.register_autocast(_device, torch.float32)
