"""Weights expanded once per version: what a layer derives linearly from its weights and would else derive again."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class ExpandOnce:
    """A linear map of a weight tensor whose value is kept until the weight changes.

    Several forward passes between two optimiser steps, and all of them in evaluation, share one expansion; every pass
    still has its own gradient. The value is recomputed when the version counter, the storage, the dtype or the device
    of the weight changes, and on a CPU also when its numbers do (``weight.data`` can be written behind the counter's
    back). Inside ``torch.compile`` and ``torch.func`` transforms the map is simply applied.

    Args:
        expand: The linear map, from the weight to a tensor of any shape.
        adjoint: Its transpose, from gradients of the result to gradients of the weight; differentiable.
    """

    def __init__(self, expand: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]) -> None:
        self.expand, self.adjoint = expand, adjoint
        self.num_expansions = 0
        self.clear()

    def clear(self) -> None:
        """Forgets the value."""
        self._key: tuple[Any, ...] | None = None
        self._value: Tensor | None = None
        self._seen: Tensor | None = None

    def __call__(self, weight: Tensor) -> Tensor:
        """The expansion of ``weight``."""
        if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(weight):
            return self.expand(weight)
        value = self._current(weight)
        if torch.is_grad_enabled() and weight.requires_grad:
            return _Reuse.apply(weight, value, self.adjoint)  # type: ignore[no-any-return, no-untyped-call]
        return value

    def _current(self, weight: Tensor) -> Tensor:
        key = (weight._version, weight.data_ptr(), weight.dtype, weight.device, weight.shape)
        fresh = self._value is not None and key == self._key
        if fresh and self._seen is not None and weight.device.type == "cpu":
            fresh = torch.equal(weight, self._seen)
        if not fresh or self._value is None:
            # no inference tensor (which could not serve training later), and no view of the weight
            with torch.inference_mode(False), torch.no_grad():
                self._value = self.expand(weight.detach()).clone(memory_format=torch.contiguous_format)
                self._seen = weight.detach().clone() if weight.device.type == "cpu" else None
            self._key = key
            self.num_expansions += 1
        return self._value

    def __deepcopy__(self, memo: dict[int, Any]) -> "ExpandOnce":
        return ExpandOnce(self.expand, self.adjoint)


class _Reuse(torch.autograd.Function):
    """Hands out a value computed before, with the gradient of computing it now."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, value: Tensor, adjoint: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.adjoint = adjoint
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.adjoint(grad), None, None
