"""Channel mixing that commutes with frames; and the biased mixer of the published code, which does not."""

import pytest
import torch
from torch import nn

from geomeq.groups import SO2Irreps
from geomeq.nn import GaugeLinear
from tests.nn._gauge import DTYPES, features, gauge_error, relative, turned, turns

IN, OUT = "3x0+2x1+4x2", "4x2+5x0+1x1+2x3+2x0"


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
def test_commutes_with_frames(dtype, tol):
    layer = GaugeLinear(IN, OUT).to(dtype)
    nn.init.normal_(layer.bias)
    x, turn = features(IN, 40, dtype=dtype), turns(40)
    assert gauge_error(layer, x, turn) < tol
    assert relative(layer(turned(IN, x, turn)), layer(x)) > 0.1


def test_is_complex_multiplication_on_each_order():
    layer, x = GaugeLinear("2x0+3x1", "4x1+1x0").double(), features("2x0+3x1", 7)
    z = torch.view_as_complex(x[:, 2:].reshape(7, 3, 2).contiguous())
    weight = torch.complex(*layer.weights["1"].unbind(0))
    y = layer(x)
    torch.testing.assert_close(torch.view_as_complex(y[:, :8].reshape(7, 4, 2).contiguous()), z @ weight)
    torch.testing.assert_close(y[:, 8:], x[:, :2] @ layer.weights["0"] + layer.bias)


def test_all_maps_that_commute_are_there():
    # the space of real matrices that commute with turns of "2x0+3x1" into "1x0+2x1": 2 + 2 * 6
    types_in, types_out = SO2Irreps("2x0+3x1"), SO2Irreps("1x0+2x1")
    turn = torch.tensor(0.7, dtype=torch.float64)
    a_t = types_in.rotate(torch.eye(8, dtype=torch.float64), turn)
    b = types_out.rotate(torch.eye(5, dtype=torch.float64), turn).T.contiguous()
    equations = torch.kron(torch.eye(8, dtype=torch.float64), b) - torch.kron(a_t, torch.eye(5))
    dimension = 40 - int(torch.linalg.matrix_rank(equations))
    layer = GaugeLinear(types_in, types_out, bias=False)
    assert sum(p.numel() for p in layer.parameters()) == dimension == 14


def test_orders_on_one_side_only_are_dropped_or_zero():
    layer = GaugeLinear("2x1+3x2", "2x0+1x2+2x4").double()
    nn.init.ones_(layer.bias)
    y = layer(features("2x1+3x2", 5))
    torch.testing.assert_close(y[:, :2], torch.ones(5, 2, dtype=torch.float64))
    assert y[:, 2:4].abs().min() > 0
    assert bool((y[:, 4:] == 0).all())
    assert GaugeLinear("1x1", "1x2")(torch.randn(3, 2)).abs().max() == 0
    assert GaugeLinear("1x1", "")(torch.randn(3, 2)).shape == (3, 0)


def test_a_bias_on_every_component_as_published_is_caught():
    class Biased(GaugeLinear):
        """The channel mixer of the published code: a constant is added to every order."""

        def forward(self, x):
            return super().forward(x) + 0.3

    x, turn = features(IN, 40), turns(40)
    assert gauge_error(Biased(IN, IN).double(), x, turn) > 0.05


def test_static_graphs_autocast_and_second_derivatives():
    layer = GaugeLinear(IN, OUT).double()
    x = features(IN, 2, 6)
    torch.testing.assert_close(layer(x)[1], layer(x[1]))
    assert torch.autograd.gradcheck(layer, features(IN, 2).requires_grad_())
    assert torch.autograd.gradgradcheck(layer, features(IN, 2).requires_grad_())
    layer = layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.float()).dtype == torch.float32


@pytest.mark.parametrize("order", ["0", "1", "2"])
def test_variance_at_initialisation_is_that_of_linear_layers(order):
    layer = GaugeLinear(f"64x{order}", f"400x{order}", bias=False)
    y = layer(features(f"64x{order}", 500, dtype=torch.float32))
    assert y.std().item() == pytest.approx(3**-0.5, rel=0.05)


def test_compiles_to_the_same(compiled):
    layer, x = GaugeLinear(IN, OUT), features(IN, 5, dtype=torch.float32)
    torch.testing.assert_close(compiled(layer, backend="aot_eager")(x), layer(x))


def test_wrong_width_is_an_error():
    with pytest.raises(ValueError, match="built for types_in=3x0"):
        GaugeLinear(IN, OUT)(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="floating point"):
        GaugeLinear("2x0", "2x0")(torch.zeros(3, 2, dtype=torch.long))
