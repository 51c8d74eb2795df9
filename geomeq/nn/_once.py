"""Weights expanded once per version: what a layer derives linearly from its weights and would else derive again."""

import weakref
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ._optimizer_steps import optimizer_steps


class Expansion(Protocol):
    """A linear map from a weight to what a layer computes with."""

    def expand(self, weight: Tensor) -> Tensor:
        """The map: a new tensor, no view of the weight; differentiable."""

    def fold(self, grad: Tensor) -> Tensor:
        """Its transpose, up to the shape of the weight; differentiable."""


class BiasedExpansion(Expansion, Protocol):
    """An expansion of a weight with a bias, which it repeats."""

    def repeat(self, bias: Tensor) -> Tensor:
        """The bias of everything that the weight expands to, one axis; differentiable."""

    def unrepeat(self, grad: Tensor) -> Tensor:
        """Its transpose."""


class ExpandOnce:
    """Applies an expansion, and keeps its value until the weight changes.

    Several forward passes between two optimiser steps, and all of them in evaluation, share one expansion; every pass
    still has its own gradient, to any order, by the transpose alone. The value is made anew when another tensor comes,
    and when its version counter, storage, dtype or device changes. Fused optimisers, ``weight.data`` and numpy views
    write without counting. On a CPU the numbers are compared, which sees all of them. That would make a GPU wait; there
    the steps of all optimisers are counted, and after other uncounted writes :meth:`clear` is needed. Where torch
    traces, compiles, captures or transforms functions the map is simply applied, and so it is to weights that are not
    a module's own parameter (parametrised, pruned, given by ``functional_call``). Copies and pickles are empty.
    """

    def __init__(self) -> None:
        self.num_expansions = 0  #: how many values were made to be kept
        self._kept: _Kept | None = None

    def clear(self) -> None:
        """Forgets the value."""
        self._kept = None

    def __call__(self, weight: Tensor, expansion: Expansion) -> Tensor:
        """The expansion of ``weight``, which must be the same map in every call."""
        if not _may_keep(weight):
            return expansion.expand(weight)
        kept = self._current(weight, expansion)
        if torch.is_grad_enabled() and weight.requires_grad:
            return _Reuse.apply(weight, kept.value, expansion)  # type: ignore[no-any-return, no-untyped-call]
        return kept.value

    def with_bias(self, weight: Tensor, bias: Tensor, expansion: "BiasedExpansion") -> tuple[Tensor, Tensor]:
        """The expansions of a weight and of the bias beside it, in one node of the graph: each node costs a wait."""
        if not _may_keep(weight):
            return expansion.expand(weight), expansion.repeat(bias)
        kept = self._current(weight, expansion)
        if torch.is_grad_enabled() and (weight.requires_grad or bias.requires_grad):
            return _ReuseBoth.apply(weight, bias, kept.value, expansion)  # type: ignore[no-any-return, no-untyped-call]
        return kept.value, expansion.repeat(bias)

    def _current(self, weight: Tensor, expansion: Expansion) -> "_Kept":
        kept = self._kept
        if kept is None or not kept.serves(weight):
            kept = self._kept = _Kept(weight, expansion)
            self.num_expansions += 1
        return kept

    def __deepcopy__(self, memo: dict[int, Any]) -> "ExpandOnce":
        return ExpandOnce()

    def __reduce__(self) -> tuple[type["ExpandOnce"], tuple[()]]:
        return ExpandOnce, ()


class _Kept:
    """A value, and what it was made of."""

    def __init__(self, weight: Tensor, expansion: Expansion) -> None:
        # no inference tensor, which could not serve training later
        with torch.inference_mode(False), torch.no_grad():
            self.value = expansion.expand(weight.detach()).contiguous()
            self.copy = weight.detach().clone() if weight.device.type == "cpu" else None
        self.weight, self.key, self.version = weakref.ref(weight), _key(weight), self.value._version
        self.steps = None if self.copy is not None else optimizer_steps()

    def serves(self, weight: Tensor) -> bool:
        """Whether the weight, and what was made of it, are still the same."""
        if self.weight() is not weight or self.key != _key(weight) or self.version != self.value._version:
            return False
        if self.copy is None:
            return self.steps == optimizer_steps()
        return torch.equal(self.copy, weight.detach())


def _key(weight: Tensor) -> tuple[Any, ...]:
    """What changes when torch knows that the weight does; on a GPU also the stream, which waits for no other."""
    stream = torch.cuda.current_stream(weight.device).cuda_stream if weight.is_cuda else None
    return weight._version, weight.data_ptr(), weight.dtype, weight.device, weight.shape, weight.stride(), stream


def _may_keep(weight: Tensor) -> bool:
    """Only for a module's own parameter in eager mode: what else comes may be traced, wrapped or gone tomorrow."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active():
        return False
    if type(weight) is not nn.Parameter or weight.is_inference() or weight.device.type == "meta":
        return False
    if torch._C._len_torch_dispatch_stack():  # fake tensors, make_fx
        return False
    return not (weight.is_cuda and torch.cuda.is_current_stream_capturing())


class _Reuse(torch.autograd.Function):
    """Hands out a value made before, with the gradient of making it now.

    A graph through the expansion itself could be walked back only once.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, value: Tensor, expansion: Expansion) -> Tensor:
        ctx.expansion, ctx.shape = expansion, weight.shape
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.expansion.fold(grad).view(ctx.shape), None, None


class _ReuseBoth(torch.autograd.Function):
    """The same with a bias."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, weight: Tensor, bias: Tensor, value: Tensor, expansion: BiasedExpansion
    ) -> tuple[Tensor, Tensor]:
        ctx.expansion, ctx.shape = expansion, weight.shape
        return value.view_as(value), expansion.repeat(bias)

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad: Tensor, grad_bias: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        need_weight, need_bias = ctx.needs_input_grad[:2]
        folded = ctx.expansion.fold(grad).view(ctx.shape) if need_weight else None
        return folded, ctx.expansion.unrepeat(grad_bias) if need_bias else None, None, None
