"""Gauge convolutions on images: equal to the graph, turned with the image, built once per step."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from geomeq.groups import SO2Irreps
from geomeq.nn import GaugeConv, GaugeConv2d, GaugePool2d, NormReLU, SO2BatchNorm
from geomeq.transforms import PlaneGauge
from tests.nn._plane_waves import turned_image, waves

TYPES = [
    ("2x0+2x1+1x2", "1x0+2x1+2x2"),
    ("1x1+1x0", "1x2+2x0+1x1+1x0"),  # not sorted, one order twice
    ("3x0", "2x1"),
    ("1x2", "2x0"),
]
DTYPES = [(torch.float32, 2e-5), (torch.float64, 1e-12)]


def drawn(layer):
    """Every parameter at random: nothing is zero by accident."""
    for p in layer.parameters():
        nn.init.normal_(p)
    return layer


def images(layer, size=(6, 7), dtype=torch.float64, batch=2):
    return torch.randn(batch, layer.types_in.dim, *size, dtype=torch.float64).to(dtype)


def on_graph(layer, conv, x):
    """The same images as signals on the graph of pixels."""
    height, width = x.shape[-2:]
    data = PlaneGauge(layer.cutoff, grid=(width, height), dtype=x.dtype)(Data())
    y = conv(x.flatten(2).mT, data.edge_index, data.polar, data.transport, data.area)
    return y.mT.unflatten(2, (height, width))


@pytest.mark.parametrize("basis", ["hat", "smooth"])
@pytest.mark.parametrize("options", [(3, 1, None), (5, 2, None), (5, 3, 2.9), (7, 3, 3.0)])
def test_images_and_the_graph_of_their_pixels_give_the_same(options, basis):
    for (types_in, types_out), weight, edge_bias in itertools.product(TYPES, ("integral", "sum"), (False, True)):
        layer = GaugeConv2d(
            types_in, types_out, *options, weight=weight, basis=basis, edge_bias=edge_bias, self_interaction=edge_bias
        )
        layer = drawn(layer.double())
        graph = layer.graph_layer()
        assert type(graph) is GaugeConv
        assert [*graph.state_dict()] == [*layer.state_dict()]
        x = images(layer)
        y, wanted = layer(x), on_graph(layer, graph, x)
        torch.testing.assert_close(y, wanted, atol=1e-12, rtol=1e-12)
        grad = torch.randn_like(y)
        ours = torch.autograd.grad(y, [*layer.parameters()], grad)
        theirs = torch.autograd.grad(wanted, [*graph.parameters()], grad)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)
    other = drawn(GaugeConv2d(*TYPES[0], *options, basis=basis).double())
    assert (on_graph(other, other.graph_layer(), images(other)) - other(images(other).flip(-2))).abs().max() > 0.01


def test_the_graph_agrees_in_float32():
    layer = GaugeConv2d("2x0+2x1", "2x0+2x1+1x2")
    x = images(layer, dtype=torch.float32)
    torch.testing.assert_close(on_graph(layer, layer.graph_layer(), x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(7, 7), (8, 6)])
def test_quarter_turns_are_exact_through_layers_norms_and_pools(size, antialias, dtype, tol):
    types = SO2Irreps("2x0+2x1+1x2")
    convs = [drawn(GaugeConv2d(a, types, 5, antialias=antialias)).to(dtype) for a in ("1x0", types)]
    act, norm, pool = drawn(NormReLU(types)).to(dtype), SO2BatchNorm(types).to(dtype), GaugePool2d(types)
    for padding, training in ((2, False), (2, True), (0, True)):
        convs[0].padding = padding
        norm.train(training)

        def network(x):
            nodes = act(norm(convs[0](x).movedim(1, -1)))
            return convs[1](pool(nodes.movedim(-1, 1)))

        x = torch.randn(2, 1, *size, dtype=torch.float64).to(dtype)
        moved, wanted = network(torch.rot90(x, 1, (-2, -1))), turned_image(types, network(x))
        scale = wanted.abs().max()
        assert (moved - wanted).abs().max() < tol * scale
        assert (moved - torch.rot90(network(x), 1, (-2, -1))).abs().max() > 0.01 * scale  # orders do turn
        back = types.rotate(torch.rot90(network(x), 1, (-2, -1)).movedim(1, -1), -math.pi / 2).movedim(-1, 1)
        assert (moved - back).abs().max() > 0.01 * scale  # and with this sign


def test_paths_of_unequal_order_do_not_add_up():
    layer = drawn(GaugeConv2d("1x0", "1x0+1x1").double())
    x = images(layer)

    def wrong(x):  # a stream that sums order 0 and the real part of order 1
        y = layer(x)
        return y[:, :1] + y[:, 1:2]

    gap = wrong(torch.rot90(x, 1, (-2, -1))) - torch.rot90(wrong(x), 1, (-2, -1))
    assert gap.abs().max() > 0.1
    right = layer(torch.rot90(x, 1, (-2, -1)))[:, :1] - torch.rot90(layer(x)[:, :1], 1, (-2, -1))
    assert right.abs().max() < 1e-12


def three_layers(kernel_size, angle, options, max_order=1, highest=0.8):
    """Features in the centre of smooth images, and of the same images turned; three layers."""
    types = SO2Irreps.band(6, max_order)
    torch.manual_seed(0)
    convs = [GaugeConv2d(a, types, kernel_size, **options).double() for a in ("1x0", types, types)]
    act, size = NormReLU(types).double(), 3 * (kernel_size - 1) + 1

    def network(x):
        for conv in convs[:2]:
            x = act(conv(x).movedim(1, -1)).movedim(-1, 1)
        return convs[2](x)[..., size // 2, size // 2]

    with torch.no_grad():
        moved, still = (network(waves(size, highest, a)) for a in (angle, 0.0))
    wanted = types.rotate(still, torch.tensor(angle, dtype=torch.float64))
    return float((moved - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("options", [{}, {"basis": "smooth"}, {"antialias": True}])
def test_turns_by_45_degrees_of_smooth_images_are_followed(options):
    error = three_layers(5, math.pi / 4, options)
    assert error < 0.03
    assert three_layers(5, math.pi / 4, options, highest=0.4) < 0.6 * error  # twice the resolution
    assert three_layers(5, math.pi / 2, options) < 1e-12


def test_the_error_falls_with_the_window():
    errors = [three_layers(k, math.pi / 4, {"antialias": True, "rings": k // 2}) for k in (3, 5, 7)]
    assert errors[0] > errors[1] > errors[2]
    smooth = [three_layers(k, math.pi / 4, {"basis": "smooth", "rings": (k - 1) // 2}) for k in (3, 5, 7)]
    assert smooth[0] > smooth[1] > smooth[2]


def test_a_plain_conv2d_does_not_follow():
    class Plain(nn.Conv2d):
        pass

    torch.manual_seed(0)
    conv = Plain(1, 6, 5).double()
    still, moved = (conv(waves(5, 0.8, a)).flatten(1) for a in (0.0, math.pi / 4))
    assert (moved - still).norm() / still.norm() > 0.3


def test_gradients_are_finite_at_zero_and_right():
    types = SO2Irreps("2x0+2x1")
    convs = [GaugeConv2d("1x0", types, 3, 1).double(), GaugeConv2d(types, "2x1", 3, 1).double()]
    act = NormReLU(types).double()
    x = torch.zeros(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    y = convs[1](act(convs[0](x).movedim(1, -1)).movedim(-1, 1))
    (y.square().sum() + y.sum()).backward()
    for tensor in (x, *convs[0].parameters(), *convs[1].parameters(), *act.parameters()):
        assert torch.isfinite(tensor.grad).all()
    small = drawn(GaugeConv2d("1x0+1x1", "1x0+1x1", 3, 1).double())
    point = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)

    def function(x, weight, own):
        return torch.func.functional_call(small, {"weight": weight, "self_weight": own}, (x,))

    inputs = (point, small.weight.detach().requires_grad_(), small.self_weight.detach().requires_grad_())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, atol=1e-4)


def test_kernels_are_made_once_per_step():
    layer = GaugeConv2d("2x0+2x1", "2x0+2x1")
    x = images(layer, dtype=torch.float32)
    adam = torch.optim.Adam(layer.parameters())
    for _ in range(3):
        layer(x).square().sum().backward()
        layer(x).square().sum().backward()  # accumulates: two passes, one kernel
        before = layer(x).detach()
        adam.step()
        assert (layer(x) - before).abs().max() > 0  # the new weights are seen
    assert layer._once.num_expansions == 4
    first = layer.weight.grad.clone()
    layer.clear_cache()
    layer.zero_grad()
    layer(x).square().sum().backward()
    assert not torch.equal(first, layer.weight.grad)


def test_independent_pixels_keep_their_variance_at_first():
    for antialias, types in ((False, "8x0+8x1+8x2"), (True, "8x0+8x1"), (False, "16x0")):
        torch.manual_seed(0)
        layer = GaugeConv2d(types, "64x0+64x1+64x2", 5, antialias=antialias, padding=0)
        y = layer(torch.randn(16, layer.types_in.dim, 9, 9)).detach().movedim(1, -1)
        for field in layer.types_out.split(y):
            assert float(field.square().mean()) == pytest.approx(1.0, rel=0.15)


def test_an_image_smaller_than_the_cutoff_and_a_batch_of_none():
    layer = GaugeConv2d("1x0", "1x0+1x1", 5)
    assert layer(torch.randn(1, 1, 1, 1)).shape == (1, 3, 1, 1)
    assert layer(torch.randn(0, 1, 8, 8)).shape == (0, 3, 8, 8)


@pytest.mark.slow
def test_compiled_equals_eager(compiled):
    layer = GaugeConv2d("2x0+2x1", "2x0+2x1")
    x = images(layer, dtype=torch.float32)
    torch.testing.assert_close(compiled(layer)(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    layer = GaugeConv2d("2x0+2x1", "2x0+2x1").double()
    x = images(layer)
    wanted = layer(x)
    torch.testing.assert_close(layer.cuda()(x.cuda()).cpu(), wanted, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"kernel_size": True}, "kernel_size must be odd"),
        ({"cutoff": 3.0}, "does not hold all pixels within cutoff=3.0; use kernel_size=7"),
        ({"cutoff": -1.0}, "cutoff must be positive"),
        ({"weight": "mean"}, "use GaugeConv on the graph of PlaneGauge"),
        ({"antialias": True, "weight": "sum"}, "weight must be 'integral'"),
        ({"padding": -1}, "padding must be 'same' or one integer"),
        ({"basis": "bump"}, "basis must be one of"),
        ({"rings": 0}, "rings must be an integer"),
        ({"types_in": "0x0"}, "no channels without fields, got types_in=0x0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        GaugeConv2d(**{"types_in": "1x0", "types_out": "1x0+1x1"} | options)


def test_bad_images():
    layer = GaugeConv2d("2x0", "1x0+1x1", padding=0)
    with pytest.raises(ValueError, match="images of the type 2x0"):
        layer(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="4 x 9 with padding=0 are smaller than kernel_size=5"):
        layer(torch.zeros(1, 2, 4, 9))
    with pytest.raises(ValueError, match="no values between pixels"):
        GaugeConv2d("2x0", "1x0", antialias=True).graph_layer()
