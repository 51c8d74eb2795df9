"""A lower bound that lets a parameter below it come back."""

from typing import Any

import torch
from torch import Tensor

from geomeq.ops._functorch import transforms_functions


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """``max(x, bound)``; below the bound a gradient passes only if descent along it raises ``x``.

    Under ``torch.func`` it is the plain maximum, whose derivative below the bound is zero.
    """
    return x.clamp(min=bound) if transforms_functions() else _lower_bound(x, bound)


@torch.library.custom_op("geomeq::lower_bound", mutates_args=())
def _lower_bound(x: Tensor, bound: float) -> Tensor:
    return x.clamp(min=bound)


@_lower_bound.register_fake
def _(x: Tensor, bound: float) -> Tensor:
    return torch.empty_like(x)


def _save(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0] >= inputs[1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (above,) = ctx.saved_tensors
    return grad * (above | (grad < 0)), None


_lower_bound.register_autograd(_backward, setup_context=_save)
