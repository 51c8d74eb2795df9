r"""Synthesis and analysis as each other's gradient.

With S the synthesis, :math:`x = S c`, analysis is :math:`c = S^T W x`. So the gradient of one is the other, with its
tables and its FFT, and nothing is kept for it.
"""

from typing import Any

import torch
from torch import Tensor

from ._transform_cache import SphereTransform


def analyse(transform: SphereTransform, x: Tensor) -> Tensor:
    r""":math:`S^T W x`, differentiable to any order."""
    if _traced():
        return transform.analyse(x)
    return _Analysis.apply(x, transform, True)  # type: ignore[no-any-return, no-untyped-call]


def synthesise(transform: SphereTransform, c: Tensor) -> Tensor:
    """:math:`S c`, differentiable to any order."""
    if _traced():
        return transform.synthesise(c)
    return _Synthesis.apply(c, transform)  # type: ignore[no-any-return, no-untyped-call]


def _traced() -> bool:
    """Where torch compiles or transforms functions, plain formulas do."""
    return torch.compiler.is_compiling() or bool(torch._C._are_functorch_transforms_active())


class _Analysis(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, transform: SphereTransform, weighted: bool) -> Tensor:
        return transform.analyse(x, weighted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.transform, ctx.weighted = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x = synthesise(ctx.transform, grad)
        return (ctx.transform.weigh(x) if ctx.weighted else x), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _Analysis.apply(tangent, ctx.transform, ctx.weighted)  # type: ignore[no-any-return, no-untyped-call]


class _Synthesis(torch.autograd.Function):
    @staticmethod
    def forward(c: Tensor, transform: SphereTransform) -> Tensor:
        return transform.synthesise(c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.transform = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Analysis.apply(grad, ctx.transform, False), None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _Synthesis.apply(tangent, ctx.transform)  # type: ignore[no-any-return, no-untyped-call]
