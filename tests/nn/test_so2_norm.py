"""Batch norm by lengths and dropout of whole fields; the versions by component break the symmetry."""

import pytest
import torch
from torch import nn

from geomeq.nn import GaugeDropout, SO2BatchNorm
from tests.nn._gauge import DTYPES, features, gauge_error, turned, turns

TYPES = "3x0+4x1+2x0+1x2"


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
def test_norm_commutes_with_frames_in_training_and_evaluation(dtype, tol):
    layer = SO2BatchNorm(TYPES).to(dtype)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x, turn = 3 * features(TYPES, 60, dtype=dtype) + 1, turns(60)
    assert gauge_error(layer, x, turn) < tol
    layer.eval()
    assert gauge_error(layer, x, turn) < tol


def test_subtracting_the_mean_of_vectors_is_caught():
    class Plain(nn.BatchNorm1d):
        types_in = types_out = SO2BatchNorm(TYPES).types

    x = 3 * features(TYPES, 60) + 1
    assert gauge_error(Plain(x.size(1)).double(), x, turns(60)) > 0.05


def test_statistics():
    layer, x = SO2BatchNorm("2x0+3x1", momentum=1.0).double(), 3 * features("2x0+3x1", 4, 500) + 1
    y = layer(x).reshape(-1, 8)
    torch.testing.assert_close(y[:, :2].mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(y[:, :2].square().mean(0), torch.ones(2, dtype=torch.float64), atol=1e-5, rtol=0)
    lengths = y[:, 2:].reshape(-1, 3, 2).square().sum(-1).mean(0)
    torch.testing.assert_close(lengths, 2 * torch.ones(3, dtype=torch.float64), atol=1e-5, rtol=0)
    assert y[:, 2:].mean(0).abs().min() > 0.1  # no mean was taken off
    torch.testing.assert_close(layer.running_mean, x[..., :2].mean((0, 1)))
    torch.testing.assert_close(layer.eval()(x).reshape(-1, 8), y, atol=1e-10, rtol=0)


def test_running_statistics_are_averages_and_do_not_depend_on_frames():
    x, turn = features(TYPES, 60), turns(60)
    first, second = SO2BatchNorm(TYPES).double(), SO2BatchNorm(TYPES).double()
    first(x)
    second(turned(TYPES, x, turn))
    for a, b in zip(first.buffers(), second.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    assert first.running_square[0] == pytest.approx(0.9 + 0.1 * float(x[:, 0].var(unbiased=False)))
    first.reset_parameters()
    assert bool((first.running_square == 1).all())


def test_norm_on_empty_batches_without_affine_and_compiled(compiled):
    layer = SO2BatchNorm(TYPES, affine=False)
    assert layer(torch.zeros(0, layer.types.dim)).shape == (0, layer.types.dim)
    assert bool((layer.running_square == 1).all())
    assert not list(layer.parameters())
    x = features(TYPES, 9, dtype=torch.float32)
    layer.eval()
    torch.testing.assert_close(compiled(layer, backend="aot_eager")(x), layer(x))
    with pytest.raises(ValueError, match="built for types"):
        layer(torch.zeros(2, 3))


def test_dropout_drops_whole_fields_and_keeps_the_mean():
    layer, x = GaugeDropout("2x0+3x1", p=0.4), torch.ones(4000, 8)
    y = layer(x)
    pairs = y[:, 2:].reshape(-1, 3, 2)
    assert bool((pairs[..., 0] == pairs[..., 1]).all())
    assert {round(v, 4) for v in y.unique().tolist()} == {0.0, round(1 / 0.6, 4)}
    assert float(y.mean()) == pytest.approx(1, abs=0.02)
    assert float((pairs[:, 0, 0] * pairs[:, 1, 0]).mean()) == pytest.approx(1, abs=0.1)  # fields are independent
    assert layer.eval()(x) is x


def test_dropout_commutes_with_frames_for_one_draw_and_that_of_components_does_not():
    x, turn = features(TYPES, 50), turns(50)

    class Seeded(GaugeDropout):
        def forward(self, x):
            torch.manual_seed(3)
            return super().forward(x)

    class Components(Seeded):
        def forward(self, x):
            torch.manual_seed(3)
            return nn.functional.dropout(x, self.p)

    assert gauge_error(Seeded(TYPES), x, turn) < 1e-12
    assert gauge_error(Components(TYPES), x, turn) > 0.1


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_dropout_wants_a_probability(p):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        GaugeDropout(TYPES, p)
