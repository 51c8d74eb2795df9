r"""Coefficients by iteration, where the weights of a sampling integrate products of harmonics only nearly."""

from typing import Any

import torch
from torch import Tensor

from ._adjoint import analyse, synthesise
from ._transform_cache import SphereTransform


def jacobi(transform: SphereTransform, x: Tensor, iterations: int) -> Tensor:
    """Analysis of the field, then of what is left of it, again and again.

    Each turn multiplies the error by how far the weights are from exact: on HEALPix about 0.01 to ``1.5 nside``, 0.1 at
    ``2 nside`` and too near to 1 beyond.
    """
    c = analyse(transform, x)
    for _ in range(iterations):
        c = c + analyse(transform, x - synthesise(transform, c))
    return c


def conjugate_gradients(transform: SphereTransform, x: Tensor, iterations: int, spin: int) -> Tensor:
    r"""The coefficients nearest in the mean square by the weights, :math:`S^T W S c = S^T W x`.

    Differentiates like the solution: the gradient takes as many iterations and no memory.

    Args:
        transform: S and S^T W.
        x: Field ``[B, N, C]``.
        iterations: How many; more than needed does no harm.
        spin: Of the field; pairs of channels are complex numbers if there is one.
    """
    return _Solve.apply(analyse(transform, x), transform, iterations, spin)  # type: ignore[no-any-return, no-untyped-call]


def solve_normal(b: Tensor, transform: SphereTransform, iterations: int, parts: int) -> Tensor:
    r"""Solves :math:`S^T W S c = b` for each column by itself; a column that is solved stays as it is."""
    c, rest, step = torch.zeros_like(b), b, b
    size = start = _square(b, parts)
    tiny = torch.finfo(b.dtype).eps ** 2 * start
    for _ in range(iterations):
        image = transform.analyse(transform.synthesise(step))
        bend = _square(step, parts, image)
        going = (size > tiny) & (bend > 0)
        length = torch.where(going, size, 0) / torch.where(going, bend, 1)
        c, rest = c + length * step, rest - length * image
        new = _square(rest, parts)
        step = rest + torch.where(going, new, 0) / torch.where(going, size, 1) * step
        size = new
    return c


def _square(a: Tensor, parts: int, b: Tensor | None = None) -> Tensor:
    """Sums of products over coefficients and the parts of a number, ``[B, 1, C]``."""
    product = a.square() if b is None else a * b
    return product.sum(dim=1, keepdim=True).unflatten(2, (-1, parts)).sum(-1).repeat_interleave(parts, dim=2)


class _Solve(torch.autograd.Function):
    """The matrix is symmetric: so is its inverse, and backward is forward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(b: Tensor, transform: SphereTransform, iterations: int, spin: int) -> Tensor:
        none = spin**2  # coefficients that no field has; a gradient may name them
        b = torch.cat([torch.zeros_like(b[:, :none]), b[:, none:]], dim=1)
        return solve_normal(b, transform, iterations, 2 if spin else 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.rest = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _Solve.apply(grad, *ctx.rest), None, None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _Solve.apply(tangent, *ctx.rest)  # type: ignore[no-any-return, no-untyped-call]
