"""Gauge layers used as nobody planned: function transforms, half precision, empty types, changed inputs, copies."""

import copy
import io
import pickle

import pytest
import torch

from geomeq.nn import GaugeAttention, GaugeConv, GaugePlan
from tests.nn._gauge import Surface, features, relative, turned, turns

TYPES = "2x0+3x1+1x2"
OPTIONS = {"rings": 2, "cutoff": 0.8}
LAYERS = {
    "moments": lambda: GaugeConv(TYPES, TYPES, **OPTIONS),
    "smooth": lambda: GaugeConv(TYPES, TYPES, **OPTIONS, basis="smooth", edge_bias=True),
    "attention": lambda: GaugeAttention(TYPES, TYPES, **OPTIONS),
}
each = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@each
def test_function_transforms(make):
    """Custom operators have no forward derivative: ``torch.func.jvp`` of one would be zero without a word."""
    layer, given = make().double(), Surface().tensors()
    x, v = features(TYPES, 2, 12)

    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x, *given)).square().sum()

    step = 1e-6
    slope = (layer(x + step * v, *given) - layer(x - step * v, *given)) / (2 * step)
    found = torch.func.jvp(lambda x: layer(x, *given), (x,), (v,))[1]
    torch.testing.assert_close(found, slope, atol=1e-7, rtol=1e-7)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, torch.stack([x, v]))
    layer(torch.stack([x, v]), *given).square().sum().backward()
    for name, p in layer.named_parameters():
        torch.testing.assert_close(per_sample[name].sum(0), p.grad)


@each
def test_forward_derivatives_of_the_geometry(make):
    layer, (edge_index, polar, transport, area) = make().double(), Surface().tensors()
    x, v = features(TYPES, 12), torch.randn_like(transport)

    def call(transport):
        return layer(x, edge_index, polar, transport, area)

    slope = (call(transport + 1e-6 * v) - call(transport - 1e-6 * v)) / 2e-6
    torch.testing.assert_close(torch.func.jvp(call, (transport,), (v,))[1], slope, atol=1e-7, rtol=1e-7)


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision(make, dtype):
    """Angles and sums stay in single precision: one rounding of weights, features and output is all there is."""
    layer, given, x = make().to(dtype), Surface(dtype=torch.float32).tensors(), features(TYPES, 12).to(dtype)
    y = layer(x, *given)
    assert y.dtype == dtype
    y.float().square().sum().backward()
    wanted = copy.deepcopy(layer).float()(x.float(), *given)
    assert relative(y.float(), wanted) < 4 * torch.finfo(dtype).eps


@each
def test_results_claim_no_more_precision_than_the_weights_have(make):
    layer, given, x = make(), Surface().tensors(), features(TYPES, 12)
    for weights, dtype, wanted in [
        (torch.float32, torch.float64, torch.float32),
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float64, torch.float32),
    ]:
        assert layer.to(weights)(x.to(dtype), *given).dtype == wanted


@pytest.mark.parametrize("basis", ["hat", "smooth"])
@pytest.mark.parametrize(("types_in", "types_out"), [("0x0", TYPES), (TYPES, "0x1"), ("", "1x0"), ("", "")])
def test_types_without_fields(types_in, types_out, basis):
    layer, x = GaugeConv(types_in, types_out, **OPTIONS, basis=basis), features(types_in, 12, dtype=torch.float32)
    y = layer(x.requires_grad_(), *Surface(dtype=torch.float32).tensors())
    assert y.shape == (12, layer.types_out.dim)
    assert not y.any()  # biases are zero at first
    (y.sum() + x.sum()).backward()


@pytest.mark.parametrize("basis", ["hat", "smooth"])
@pytest.mark.parametrize(
    ("types_in", "types_out"),
    [("2x2", "3x2"), ("2x0+3x5", "1x7+2x0"), ("1x1+2x0+1x1+0x3", "2x2+1x0+1x2"), ("1x0", "1x40")],
)
def test_gaps_repeated_blocks_and_large_orders(types_in, types_out, basis):
    layer, surface, turn = GaugeConv(types_in, types_out, **OPTIONS, basis=basis).double(), Surface(), turns(12)
    x = features(types_in, 12)
    y = layer(x, *surface.tensors())
    moved = layer(turned(types_in, x, turn), *surface.turned(turn).tensors())
    assert relative(moved, turned(types_out, y, turn)) < 1e-12
    layer.path = "edge"
    torch.testing.assert_close(layer(x, *surface.tensors()), y)


@pytest.mark.parametrize("changed", range(4), ids=["edge_index", "polar", "transport", "area"])
def test_geometry_changed_in_place_is_noticed(changed):
    layer, x = GaugeConv(TYPES, TYPES, **OPTIONS).double(), features(TYPES, 12)
    given = [t.clone() for t in Surface().tensors()]
    before = layer(x, *given)
    given[changed].copy_(given[changed].flip(-1 if changed == 0 else 0))
    after = layer(x, *given)
    torch.testing.assert_close(after, layer(x, *[t.clone() for t in given]))
    assert relative(after, before) > 1e-2


def test_a_plan_keeps_what_it_was_given():
    layer, x = GaugeConv(TYPES, TYPES, **OPTIONS).double(), features(TYPES, 12)
    given = [t.clone() for t in Surface().tensors()]
    plan = layer.plan(*given)
    before = layer(x, plan)
    given[0].add_(1).remainder_(12)
    for path in ("edge", "moments"):
        layer.path = path
        torch.testing.assert_close(layer(x, plan), before)


@each
def test_copies_after_a_pass(make):
    layer, given, x = make(), Surface(dtype=torch.float32).tensors(), features(TYPES, 12, dtype=torch.float32)
    layer(x, *given).sum().backward()
    y, file = layer(x, *given), io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    fresh = make()
    fresh.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False), fresh):
        torch.testing.assert_close(other(x, *given), y, atol=0, rtol=0)
    plan = GaugePlan(*given, **OPTIONS, basis=layer.basis)
    y = layer(x, plan)
    for other in (copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        torch.testing.assert_close(layer(x, other), y, atol=0, rtol=0)


@each
def test_layouts_in_memory_and_kinds_of_indices(make):
    layer, (edge_index, polar, transport, area) = make().double(), Surface().tensors()
    x = features(TYPES, 12)
    y, order = layer(x, edge_index, polar, transport, area), torch.randperm(edge_index.size(1))
    strided = x.t().contiguous().t().expand(3, -1, -1)
    for found in (
        layer(x, edge_index.int(), polar, transport, area),
        layer(x, edge_index[:, order], polar[order], transport[order], area),
        layer(strided, edge_index.t().contiguous().t(), polar.t().contiguous().t(), transport, area)[2],
        layer(strided[None], edge_index, polar, transport, area)[0, 1],
    ):
        torch.testing.assert_close(found, y)


@each
def test_gradients_do_not_depend_on_what_else_needs_them(make):
    layer, given, x = make().double(), Surface().tensors(), features(TYPES, 12)
    found = []
    for frozen in (False, True):
        layer.requires_grad_(not frozen)
        own = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(layer(own, *given).square().sum(), own, create_graph=True)
        slope.square().sum().backward()
        found.append(own.grad)
    torch.testing.assert_close(*found)


@each
@pytest.mark.parametrize("x", [torch.ones(12, 10, dtype=torch.long), torch.ones(12, 10, dtype=torch.cfloat)])
def test_numbers_that_are_not_real_are_refused(make, x):
    with pytest.raises(TypeError, match="x must be floating point, got"):
        make()(x, *Surface(dtype=torch.float32).tensors())


@each
def test_a_plan_of_too_few_nodes_says_what_to_do(make):
    layer, (edge_index, polar, transport, _) = make(), Surface(dtype=torch.float32).tensors()
    plan = GaugePlan(edge_index, polar, transport, **OPTIONS, basis=layer.basis)
    with pytest.raises(ValueError, match="x has 14 nodes, the geometry 12; a plan without areas needs num_nodes"):
        layer(features(TYPES, 14, dtype=torch.float32), plan)
