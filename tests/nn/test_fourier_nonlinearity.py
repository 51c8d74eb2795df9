"""Functions on the circle: aliasing as the published analysis bounds it, exactness by default, memory, derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from geomeq.groups import SO2Irreps
from geomeq.nn import FourierNonlinearity, GaugeLinear
from geomeq.ops._sampled import ACTS, sampled_act
from tests.nn._gauge import DTYPES, features, gauge_error, relative, turned, turns

MIXED = "6x0+4x1+2x2"
SAMPLES = (5, 7, 9, 11, 15, 21, 31, 51, 101)
# Relative gauge error on normal features, orders 0 to 2, orthonormal samples; below 2e-7 is float32's floor.
TABLE = {
    "relu": (0.31, 0.092, 0.054, 0.033, 0.017, 8.4e-3, 3.8e-3, 1.4e-3, 3.5e-4),
    "elu": (0.18, 0.036, 0.012, 5.5e-3, 1.6e-3, 4.4e-4, 1.1e-4, 1.8e-5, 1.6e-6),
    "silu": (0.29, 0.025, 7.8e-3, 9e-4, 2.5e-5, 1.5e-7, 2e-7, 2e-7, 2e-7),
    "gelu": (0.34, 0.052, 0.018, 3.2e-3, 1.3e-4, 8.4e-7, 2e-7, 2e-7, 2e-7),
    "tanh": (0.22, 0.092, 0.022, 7.3e-3, 5.6e-4, 1.0e-5, 2e-7, 2e-7, 2e-7),
}


def rms_error(layer: FourierNonlinearity, x: torch.Tensor, turn: torch.Tensor) -> float:
    after, before = layer(turned(layer.types, x, turn)), turned(layer.types, layer(x), turn)
    return float(((after - before).norm() / before.norm()).detach())


def name_of(act):
    """The same in every process: a function's ``str`` holds its address."""
    return act if isinstance(act, str) else act.__name__


@pytest.mark.parametrize("act", ACTS)
def test_aliasing_stays_below_the_published_table(act):
    x, turn = features("1x0+1x1+1x2", 3000), turns(3000)
    for samples, bound in zip(SAMPLES, TABLE[act], strict=True):
        # The table's samples are orthonormal: their size falls with their number.
        layer = FourierNonlinearity("1x0+1x1+1x2", act, samples, amplitude=(5 / samples) ** 0.5)
        assert rms_error(layer, x, turn) < max(1.2 * bound, 2e-7), samples  # 1.2: two digits, another sample
    coarse = FourierNonlinearity("1x0+1x1+1x2", act, 5, amplitude=1.0)
    assert rms_error(coarse, x, turn) > 0.1  # and the measure can fail


@pytest.mark.parametrize("act", ["silu", "gelu", "tanh"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_default_count_is_exact_to_rounding(act, order, dtype, tol):
    types = SO2Irreps.band(4, order)
    x, turn = features(types, 500, dtype=dtype), turns(500)
    layer = FourierNonlinearity(types, act)
    assert rms_error(layer, x, turn) < tol
    fewer = FourierNonlinearity(types, act, layer.default_samples(dtype) // 6 * 2 + 1)
    assert rms_error(fewer, x, turn) > 10 * tol


def test_samples_of_the_specification_are_close_but_not_enough_beyond_their_amplitude():
    types = SO2Irreps.band(4, 2)
    x, turn = features(types, 500), turns(500)
    assert rms_error(FourierNonlinearity(types, samples=8 * 2 + 5), x, turn) < 1e-6
    assert rms_error(FourierNonlinearity(types, samples=8 * 2 + 5), 2 * x, turn) > 2e-6
    assert rms_error(FourierNonlinearity(types), 2 * x, turn) < 2e-5


@pytest.mark.parametrize("act", [*ACTS, torch.sin], ids=name_of)
@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
def test_turns_by_multiples_of_the_spacing_are_exact(act, dtype, tol):
    layer = FourierNonlinearity(MIXED, act, samples=7).to(dtype)
    x = 3 * features(MIXED, 20, dtype=dtype)
    steps = torch.randint(7, (20,)).double() * 2 * torch.pi / 7
    assert gauge_error(layer, x, steps) < tol
    assert gauge_error(layer, x, steps + 0.2) > 1e-4


@pytest.mark.parametrize("types", [MIXED, "1x0", "3x1", "2x0+5x2", "0x0+2x1", "4x3+1x0"])
def test_is_the_function_of_each_channel_on_the_circle(types):
    """Brute force from the formula, channel by channel."""
    types = SO2Irreps(types)
    layer, x = FourierNonlinearity(types, "tanh", samples=13, amplitude=0.8), features(types, 6)
    blocks = dict(zip([b.order for b in types], types.split(x), strict=True))
    expected = {m: torch.zeros_like(block) for m, block in blocks.items()}
    angles = 2 * torch.pi * torch.arange(13, dtype=torch.float64) / 13
    hermite = torch.randn(2_000_000, dtype=torch.float64)
    gain = 0.8 / (0.8 * hermite).tanh().square().mean().sqrt()
    for c in range(max(b.mul for b in types)):
        orders = [m for m, block in blocks.items() if block.size(1) > c]
        size = sum(2 if m else 1 for m in orders)
        u = torch.zeros(6, 13, dtype=torch.float64)
        for m in orders:
            block = blocks[m]
            if m == 0:
                u += block[:, c]
            else:
                u += 2**0.5 * (block[:, c, :1] * (m * angles).cos() + block[:, c, 1:] * (m * angles).sin())
        v = (0.8 / size**0.5 * u).tanh() * size**0.5 / 0.8 * gain
        for m in orders:
            if m == 0:
                expected[m][:, c, 0] = v.mean(1)
            else:
                expected[m][:, c, 0] = (v * 2**0.5 * (m * angles).cos()).mean(1)
                expected[m][:, c, 1] = (v * 2**0.5 * (m * angles).sin()).mean(1)
    torch.testing.assert_close(layer(x), types.join([expected[b.order] for b in types]), atol=1e-2, rtol=1e-2)


def test_blocks_in_any_order_give_the_same():
    x = features("4x0+3x1+2x2", 5)
    plain = FourierNonlinearity("4x0+3x1+2x2")(x)
    shuffled = SO2Irreps("2x2+1x0+3x1+3x0")
    back = torch.cat([x[:, 10:], x[:, :1], x[:, 4:10], x[:, 1:4]], dim=1)
    y = FourierNonlinearity(shuffled)(back)
    torch.testing.assert_close(torch.cat([y[:, 4:5], y[:, 11:], y[:, 5:11], y[:, :4]], dim=1), plain)


@pytest.mark.parametrize("act", [*ACTS, F.softplus], ids=name_of)
def test_unit_variance_stays(act):
    x = features("64x0+64x1+64x2", 400, dtype=torch.float32)
    y = FourierNonlinearity("64x0+64x1+64x2", act)(x)
    # what lies above order 2 is cut off, and softplus and relu have a mean
    assert 0.75 < float(y.square().mean().sqrt()) < 1.3


@pytest.mark.parametrize("act", ["silu", "gelu", "tanh", "elu", torch.sin], ids=name_of)
def test_derivatives_to_the_second_order(act):
    layer = FourierNonlinearity("2x1+3x0+1x2", act, samples=7)
    x = features("2x1+3x0+1x2", 2).requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize("act", ACTS)
def test_higher_derivatives_equal_those_of_plain_autograd(act):
    x = features("1x0+1x1", 3).requires_grad_()
    layer = FourierNonlinearity("1x0+1x1", act)
    ours = layer(x)
    reference = FourierNonlinearity("1x0+1x1", getattr(F, act), layer.default_samples(x.dtype))(x)
    for _ in range(4):
        torch.testing.assert_close(ours, reference, atol=1e-10, rtol=1e-10)
        if not ours.requires_grad:
            break
        (ours,) = torch.autograd.grad(ours.square().sum() + ours.sum(), x, create_graph=True)
        (reference,) = torch.autograd.grad(reference.square().sum() + reference.sum(), x, create_graph=True)


def saved_bytes(run) -> int:
    """What autograd keeps, each storage once."""
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = (t.untyped_storage().nbytes(), t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return sum(size for size, _ in kept.values())


def test_samples_are_not_kept_for_the_backward_pass():
    types = SO2Irreps.band(16, 2)
    x = features(types, 1000, dtype=torch.float32).requires_grad_()
    layer = FourierNonlinearity(types)
    own = saved_bytes(lambda: layer(x))
    bases, scales = [b.like(x) for b in layer._bases[29]], layer._scales[29]
    layer.act = F.silu
    plain = saved_bytes(lambda: layer._plain(x, bases, scales))
    assert own < 1.1 * 4 * x.numel()  # the input, which the layer before keeps anyway, and tables
    assert plain > 4 * own


def test_batch_norm_on_samples_is_that_of_the_samples():
    types = SO2Irreps("3x0+3x1+2x2")
    layer = FourierNonlinearity(types, "silu", samples=21, norm=True, eps=0.0).double()
    nn.init.normal_(layer.norm.weight)
    nn.init.normal_(layer.norm.bias)
    x = 2 * features(types, 50) + 1
    angles = 2 * torch.pi * torch.arange(21, dtype=torch.float64) / 21

    def samples(x):
        zero, one, two = types.split(x)
        u = zero + 0 * angles
        for m, z in ((1, one), (2, two)):
            waves = 2**0.5 * (z[..., :1] * (m * angles).cos() + z[..., 1:] * (m * angles).sin())
            u = u + F.pad(waves, (0, 0, 0, 3 - z.size(-2)))
        return u / torch.tensor([5.0, 5.0, 3.0], dtype=torch.float64).sqrt()[:, None]

    before = samples(x)
    bias = layer.norm.bias / torch.tensor([5.0, 5.0, 3.0], dtype=torch.float64).sqrt()
    mean, std = before.mean((0, 2)), before.std((0, 2), unbiased=False)
    expected = (before - mean[:, None]) / std[:, None] * layer.norm.weight[:, None] + bias[:, None]
    torch.testing.assert_close(samples(layer.norm(x)), expected)


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
def test_batch_norm_commutes_with_frames_and_learns(dtype, tol):
    layer = FourierNonlinearity(MIXED, norm=True, momentum=1.0).to(dtype)
    x, turn = 3 * features(MIXED, 200, dtype=dtype) + 1, turns(200)
    assert gauge_error(layer, x, turn) < tol
    trained = layer(x)
    layer.eval()
    torch.testing.assert_close(layer(x), trained, atol=tol, rtol=10 * tol)
    assert gauge_error(layer, x, turn) < tol


def test_static_graphs_empty_graphs_half_precision_and_compile(compiled):
    layer, x = FourierNonlinearity(MIXED), features(MIXED, 2, 6, dtype=torch.float32)
    torch.testing.assert_close(layer(x)[1], layer(x[1]))
    assert layer(x[:, :0]).shape == (2, 0, SO2Irreps(MIXED).dim)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.bfloat16()).dtype == torch.float32

    def loss(x):
        return layer(x).square().sum()

    one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
    compiled(loss, backend="aot_eager")(one).backward()
    loss(two).backward()
    torch.testing.assert_close(one.grad, two.grad)
    torch.library.opcheck(
        sampled_act,
        (x[0].requires_grad_(), [], [b.like(x) for b in layer._bases[29]], layer._plan, layer._scales[29], "silu"),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


@pytest.mark.parametrize("options", [{}, {"norm": True}, {"act": torch.sin}, {"samples": 9}])
@pytest.mark.parametrize("types", [MIXED, "1x2+2x0+1x1"])
def test_what_inference_made_first_serves_training(types, options):
    layer, x = FourierNonlinearity(types, **options), features(types, 5, dtype=torch.float32)
    with torch.inference_mode():
        layer.eval()(x)
    x.requires_grad_()
    layer.train()(x).square().sum().backward()
    assert float(x.grad.abs().sum()) > 0


@pytest.mark.parametrize("act", ["silu", torch.sin])
def test_function_transforms(act):
    layer, (x, v), step = FourierNonlinearity(MIXED, act), features(MIXED, 2, 5), 1e-6
    slope = (layer(x + step * v) - layer(x - step * v)) / (2 * step)
    torch.testing.assert_close(torch.func.jvp(layer, (x,), (v,))[1], slope, atol=1e-8, rtol=1e-8)
    own = x.clone().requires_grad_()
    layer(own).square().sum().backward()
    torch.testing.assert_close(torch.func.grad(lambda x: layer(x).square().sum())(x), own.grad)
    torch.testing.assert_close(torch.func.vmap(layer)(torch.stack([x, v])), torch.stack([layer(x), layer(v)]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_stays_in_it(dtype):
    layer, x = FourierNonlinearity(MIXED, norm=True).eval(), features(MIXED, 50, dtype=torch.float32)
    y = layer(x)
    half = layer.to(dtype)(x.to(dtype))
    assert half.dtype == dtype
    assert float((half.float() - y).detach().abs().max()) < 20 * torch.finfo(dtype).eps


def test_slices_do_not_matter(monkeypatch):
    from geomeq.ops import _sampled

    layer, x = FourierNonlinearity(MIXED), features(MIXED, 30)
    whole = layer(x)
    monkeypatch.setattr(_sampled, "_SLICE", 300)
    torch.testing.assert_close(layer(x), whole, atol=1e-14, rtol=0)


def test_precision_chooses_the_count_and_a_given_one_stays():
    layer = FourierNonlinearity(MIXED)
    assert (layer.default_samples(), layer.default_samples(torch.float64)) == (29, 69)
    assert "samples=29 (69 in float64)" in repr(layer)
    x = features(MIXED, 9)
    assert 1e-9 < relative(layer(x.float()).double(), layer(x)) < 1e-6  # the counts differ below float32's rounding
    given = FourierNonlinearity(MIXED, samples=9)
    assert relative(given(x.float()).double(), given(x)) < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act": "swish"}, "act must be one of silu"),
        ({"act": None}, "or a function of a tensor, got None"),
        ({"samples": 3}, "at least 2 \\* max_order \\+ 1 = 5"),
        ({"samples": 8}, "odd"),
        ({"amplitude": 0.0}, "amplitude must be positive"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        FourierNonlinearity(MIXED, **options)


def test_nothing_at_all():
    assert FourierNonlinearity("0x0", norm=True)(torch.zeros(3, 0)).shape == (3, 0)


def test_wrong_width_and_scalars_only():
    with pytest.raises(ValueError, match="built for types=6x0"):
        FourierNonlinearity(MIXED)(torch.zeros(3, 5))
    x = features("5x0", 4)
    gain = FourierNonlinearity("5x0")._scales[5][0] * 0.25
    torch.testing.assert_close(FourierNonlinearity("5x0")(x), F.silu(0.5 * x) / 0.5 * gain)
    assert FourierNonlinearity("")(torch.zeros(3, 0)).shape == (3, 0)
    assert math.isfinite(gain)


def test_gradients_of_weights_do_not_depend_on_the_frames():
    torch.manual_seed(1)
    mix, act = GaugeLinear(MIXED, MIXED).double(), FourierNonlinearity(MIXED)
    x, turn, target = features(MIXED, 20), turns(20), features(MIXED, 20)

    def gradient(x, target):
        return torch.autograd.grad((act(mix(x)) - target).square().mean(), list(mix.parameters()))

    for a, b in zip(gradient(x, target), gradient(turned(MIXED, x, turn), turned(MIXED, target, turn)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)
    wrong = gradient(turned(MIXED, x, turn), target)
    assert not torch.allclose(wrong[0], gradient(x, target)[0], atol=1e-4)
