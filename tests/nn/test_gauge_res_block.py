"""The residual block, and the published block whose biased skip depends on the frames."""

import pytest
import torch
from torch import nn

from geomeq.nn import GaugeLinear, GaugePlan, GaugeResBlock
from tests.nn._gauge import DTYPES, Surface, features, relative, turned, turns

IN, OUT = "3x0+3x1+3x2", "4x0+4x1+4x2"
KINDS = {
    "fourier": {},
    "two rings": {"rings": 2, "cutoff": 1.0},
    "attention": {"layer": "attention", "layer_options": {"heads": 2}},
    "norm gate, batch norm": {"nonlinearity": "norm_gate", "norm": "batch"},
    "scalar gate": {"nonlinearity": "scalar_gate"},
    "norm relu": {"nonlinearity": "norm_relu", "act": "relu"},
    "norm of samples": {"norm": "samples"},
    "hidden": {"types_hidden": "5x0+2x1+1x3"},
}


def block_error(block: nn.Module, x: torch.Tensor, surface: Surface, turn: torch.Tensor) -> float:
    after = block(turned(IN, x, turn), *surface.turned(turn).tensors())
    return relative(after, turned(OUT, block(x, *surface.tensors()), turn))


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_commutes_with_frames(options, dtype, tol):
    block = GaugeResBlock(IN, OUT, **options).to(dtype)
    surface, x, turn = Surface(dtype=dtype), features(IN, 12, dtype=dtype), turns(12)
    assert block_error(block, x, surface, turn) < tol
    assert block_error(block.eval(), x, surface, turn) < tol


class BiasedMixer(GaugeLinear):
    """The published channel mixer: a 1 x 1 convolution over channels, the same for every component, with bias."""

    def __init__(self, types_in, types_out):
        super().__init__(types_in, types_out)
        self.mix = nn.Linear(3, 4)

    def forward(self, x):
        parts = [self.mix(z.transpose(-1, -2)).transpose(-1, -2) for z in self.types_in.split(x)]
        return self.types_out.join(parts)


def test_the_published_skip_depends_on_the_frames_and_ours_does_not():
    surface, x, turn = Surface(), features(IN, 12), turns(12)
    block = GaugeResBlock(IN, OUT).double()
    assert block_error(block, x, surface, turn) < 1e-12
    block.skip = BiasedMixer(IN, OUT).double()
    assert block_error(block, x, surface, turn) > 0.05
    nn.init.zeros_(block.skip.mix.bias)
    assert block_error(block, x, surface, turn) < 1e-12  # it is the bias, not the mixing


def test_is_layer_act_layer_plus_skip_act():
    surface, x = Surface(), features(IN, 12)
    block = GaugeResBlock(IN, OUT, norm="batch").double()
    t = surface.tensors()
    y = block.acts[0](block.norms[0](block.first(x, *t)))
    expected = block.acts[1](block.norms[1](block.second(y, *t)) + block.skip(x))
    torch.testing.assert_close(block(x, *t), expected)
    assert GaugeResBlock(IN, IN).skip is None


def test_all_orders_of_the_input_go_through_the_first_layer():
    assert str(GaugeResBlock("3x0", OUT).first.types_out) == OUT
    assert str(GaugeResBlock(IN, "4x0").first.types_out) == OUT
    assert str(GaugeResBlock(IN, "4x0", types_hidden="2x1").first.types_out) == "2x1"


def test_plans_static_graphs_second_derivatives_and_compile(compiled):
    surface, x = Surface(), features(IN, 2, 12)
    block = GaugeResBlock(IN, OUT, rings=2, cutoff=1.0).double()
    y = block(x, *surface.tensors())
    plan = block.prepare(x, *surface.tensors())
    assert isinstance(plan, GaugePlan)
    torch.testing.assert_close(block(x, plan), y)
    torch.testing.assert_close(block(x[1], plan), y[1])
    torch.testing.assert_close(compiled(block, backend="aot_eager")(x[1], plan), y[1])
    small = Surface(nodes=4, extra=1)
    tiny = GaugeResBlock("1x0+1x1", "1x0+1x1", samples=7).double()
    inputs = features("1x0+1x1", 4).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: tiny(x, *small.tensors()), inputs, fast_mode=True)


def test_dropout_is_of_whole_fields_in_training_only():
    surface, x = Surface(), features(IN, 12)
    block = GaugeResBlock(IN, OUT, dropout=0.5).double()
    assert not torch.equal(block(x, *surface.tensors()), block(x, *surface.tensors()))
    block.eval()
    assert torch.equal(block(x, *surface.tensors()), block(x, *surface.tensors()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "mlp"}, "layer must be one of"),
        ({"norm": "layer"}, "norm must be one of"),
        ({"nonlinearity": "relu"}, "nonlinearity must be one of"),
        ({"nonlinearity": "norm_gate", "norm": "samples"}, "norm='samples' goes with"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        GaugeResBlock(IN, OUT, **options)
