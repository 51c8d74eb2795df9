"""Operators under ``torch.func``: a custom operator has no forward derivative, its ``jvp`` would be zero in silence."""

import pytest
import torch

from geomeq.ops import SparseOperator, Stencil, StencilLinear, chebyshev

EDGES = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])


def functions():
    coef, weight = torch.randn(6, 2, dtype=torch.float64), torch.randn(2, 4, 3, dtype=torch.float64)
    stencil, mixed = Stencil(EDGES, coef, size=5), StencilLinear(EDGES, coef, size=5)
    operator = SparseOperator.from_edges(EDGES, coef[:, 0].clone(), 5)
    return {
        "stencil": stencil,
        "stencil_linear": lambda x: mixed(x, weight),
        "chebyshev": lambda x: chebyshev(x, operator, weight),
    }


@pytest.mark.parametrize("name", ["stencil", "stencil_linear", "chebyshev"])
def test_function_transforms(name):
    call, (x, v), step = functions()[name], torch.randn(2, 5, 4, dtype=torch.float64), 1e-6
    slope = (call(x + step * v) - call(x - step * v)) / (2 * step)
    torch.testing.assert_close(torch.func.jvp(call, (x,), (v,))[1], slope, atol=1e-7, rtol=1e-7)
    own = x.clone().requires_grad_()
    call(own).square().sum().backward()
    torch.testing.assert_close(torch.func.grad(lambda x: call(x).square().sum())(x), own.grad)
    torch.testing.assert_close(torch.func.vmap(call)(torch.stack([x, v])), torch.stack([call(x), call(v)]))
