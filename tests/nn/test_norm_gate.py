"""Gates and activations of lengths: exact at every size, finite at zero."""

import pytest
import torch
from torch import nn

from geomeq.groups import SO2Irreps
from geomeq.nn import NormGate, NormReLU
from tests.nn._gauge import DTYPES, features, gauge_error, relative, turned, turns

TYPES = "3x0+4x1+2x0+1x2"
LAYERS = {
    "norm gate": lambda: NormGate(TYPES),
    "scalar gate": lambda: NormGate(TYPES, gate="scalars", act="tanh"),
    "norm relu": lambda: NormReLU(TYPES),
    "norm silu": lambda: NormReLU(TYPES, act=torch.nn.functional.silu),
}
each = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def randomised(layer: nn.Module) -> nn.Module:
    for p in layer.parameters():
        nn.init.normal_(p)
    return layer


@each
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
def test_exact_at_every_size(make, size, dtype, tol):
    layer, turn = randomised(make()).to(dtype), turns(50)
    x = size * features(TYPES, 50, dtype=dtype)
    assert gauge_error(layer, x, turn) < tol
    assert relative(layer(turned(TYPES, x, turn)), layer(x)) > 0.05


def test_a_function_of_each_component_is_caught():
    class Pointwise(nn.Module):
        types_in = types_out = SO2Irreps(TYPES)

        def forward(self, x):
            return x.relu()

    assert gauge_error(Pointwise(), features(TYPES, 50), turns(50)) > 0.1


def test_formulas():
    x = features("2x0+2x1", 5)
    z = torch.view_as_complex(x[:, 2:].reshape(5, 2, 2).contiguous())
    gate = randomised(NormGate("2x0+2x1").double())
    y = gate(x)
    torch.testing.assert_close(y[:, :2], torch.nn.functional.silu(x[:, :2]))
    expected = z * torch.sigmoid(gate.weight * z.abs() + gate.bias)
    torch.testing.assert_close(torch.view_as_complex(y[:, 2:].reshape(5, 2, 2).contiguous()), expected)

    gate = randomised(NormGate("2x0+2x1", gate="scalars").double())
    expected = z * torch.sigmoid(x[:, :2] @ gate.weight.T + gate.bias)
    y = gate(x)[:, 2:].reshape(5, 2, 2).contiguous()
    torch.testing.assert_close(torch.view_as_complex(y), expected)

    relu = randomised(NormReLU("2x0+2x1", eps=1e-8).double())
    y = relu(x)
    torch.testing.assert_close(y[:, :2], (x[:, :2] + relu.bias[:2]).relu())
    expected = (z.abs() + relu.bias[2:]).relu() * z / z.abs()
    torch.testing.assert_close(torch.view_as_complex(y[:, 2:].reshape(5, 2, 2).contiguous()), expected)


@each
def test_gradients_at_zero_are_finite_to_the_second_order(make):
    layer = randomised(make()).double()
    x = torch.zeros(2, layer.types.dim, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    assert first.isfinite().all()
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert second.isfinite().all()
    x = features(TYPES, 2).requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


def test_the_published_form_has_no_finite_gradient_at_zero():
    x = torch.zeros(1, 2, requires_grad=True)
    ((x.norm() + 0.1).relu() * x / x.norm()).sum().backward()
    assert not x.grad.isfinite().all()


def test_norm_relu_slope_at_zero_is_bounded_by_bias_over_eps():
    layer = NormReLU("1x1", eps=0.05).double()
    nn.init.constant_(layer.bias, 0.2)
    jacobian = torch.autograd.functional.jacobian(layer, torch.zeros(1, 2, dtype=torch.float64))
    torch.testing.assert_close(jacobian.reshape(2, 2), 4 * torch.eye(2, dtype=torch.float64))


@each
def test_static_graphs_and_compile(make, compiled):
    layer, x = randomised(make()), features(TYPES, 2, 4, dtype=torch.float32)
    torch.testing.assert_close(layer(x)[1], layer(x[1]))
    torch.testing.assert_close(compiled(layer, backend="aot_eager")(x), layer(x))
    assert layer(x[:, :0]).shape == (2, 0, layer.types.dim)


def test_bad_options():
    with pytest.raises(ValueError, match="gate must be"):
        NormGate(TYPES, gate="softmax")
    with pytest.raises(ValueError, match="needs fields of order 0"):
        NormGate("3x1", gate="scalars")
    with pytest.raises(ValueError, match="act must be one of"):
        NormReLU(TYPES, act="swish")
    with pytest.raises(ValueError, match="or a function of a tensor, got None"):
        NormReLU(TYPES, act=None)
    with pytest.raises(ValueError, match="eps must be positive"):
        NormReLU(TYPES, eps=0.0)
    with pytest.raises(ValueError, match="built for types"):
        NormGate(TYPES)(torch.zeros(2, 3))
