"""Attention on surfaces: symmetry, the formula edge by edge, areas, and what happens without neighbours."""

import pytest
import torch
from torch import nn

from geomeq.groups import SO2Irreps
from geomeq.nn import GaugeAttention, GaugeConv, GaugePlan
from tests.nn._gauge import DTYPES, Surface, features, relative, turned, turns

IN, OUT = "4x0+3x1+2x2", "4x0+2x1+2x3"
OPTIONS = {"heads": 2, "rings": 2, "cutoff": 1.0}


def randomised(layer: nn.Module) -> nn.Module:
    for p in layer.parameters():
        nn.init.normal_(p, std=0.5)
    return layer


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize("options", [OPTIONS, {}], ids=["two heads, two rings", "default"])
def test_commutes_with_frames(options, dtype, tol):
    surface, turn = Surface(dtype=dtype), turns(12)
    layer, x = randomised(GaugeAttention(IN, OUT, **options)).to(dtype), features(IN, 12, dtype=dtype)
    before = layer(x, *surface.tensors())
    after = layer(turned(IN, x, turn), *surface.turned(turn).tensors())
    assert relative(after, turned(OUT, before, turn)) < tol
    assert relative(after, before) > 0.1
    forgotten = layer(turned(IN, x, turn), *surface.tensors())  # the geometry still in the old frames
    assert relative(forgotten, turned(OUT, before, turn)) > 0.1


def test_is_the_formula_edge_by_edge():
    surface, x = Surface(), features(IN, 12)
    layer = randomised(GaugeAttention(IN, OUT, **OPTIONS)).double()
    types_in, types_out = SO2Irreps(IN), SO2Irreps(OUT)
    types_key = SO2Irreps((2 * b.mul, b.order) for b in layer.types_key)
    expected = layer.self_interaction(x)
    expected[:, :4] += layer.bias
    query = layer.query(x)
    for i in range(12):
        edges = (surface.edge_index[1] == i).nonzero().squeeze(1).tolist()
        logits, values = [], []
        for e in edges:
            j = int(surface.edge_index[0, e])
            r, angle = surface.polar[e]
            hats = torch.stack([1 - r.clamp(max=1), r.clamp(max=1)])
            u = types_in.rotate(types_in.rotate(x[j], surface.transport[e]), -angle)
            key = types_key.rotate(torch.einsum("k,kab,b->a", hats, layer.key_weight, u), angle)
            values.append(types_out.rotate(torch.einsum("k,kab,b->a", hats, layer.value_weight, u), angle))
            logit = []
            for head in range(2):
                products = 0
                for q, k in zip(types_key.split(query[i]), types_key.split(key), strict=True):
                    half = q.size(0) // 2
                    products += (q * k)[head * half : (head + 1) * half].sum()
                logit.append(products / layer.types_key.dim**0.5 + surface.area[j].log())
            logits.append(torch.stack(logit))
        alpha = torch.stack(logits).softmax(dim=0)
        for e, value in enumerate(values):
            parts = types_out.split(value)
            heads = [torch.arange(part.size(0)) * 2 // part.size(0) for part in parts]
            weighted = [part * alpha[e][head][:, None] for part, head in zip(parts, heads, strict=True)]
            expected[i] += types_out.join(weighted)
    torch.testing.assert_close(layer(x, *surface.tensors()), expected)


def test_equal_logits_make_it_the_convolution():
    surface, x = Surface(), features(IN, 12)
    attend = GaugeAttention(IN, OUT, rings=2, cutoff=1.0, self_interaction=False).double()
    conv = GaugeConv(IN, OUT, rings=2, cutoff=1.0, self_interaction=False).double()
    nn.init.zeros_(attend.query.bias)
    for weight in attend.query.weights.values():
        nn.init.zeros_(weight)
    with torch.no_grad():
        conv.weight.copy_(attend.value_weight)
    torch.testing.assert_close(attend(x, *surface.tensors()), conv(x, *surface.tensors()))
    torch.testing.assert_close(attend(x, *surface.tensors()[:3]), conv(x, *surface.tensors()[:3]))


def test_a_neighbour_in_two_halves_counts_once():
    edge_index = torch.tensor([[1, 2, 3], [0, 0, 0]])
    polar, transport = torch.tensor([[0.5, 0.1], [0.7, 2.0], [0.7, 2.0]]), torch.tensor([0.3, 0.4, 0.4])
    layer, x = GaugeAttention("2x0+2x1", "2x0+2x1"), torch.randn(4, 6)
    x[3] = x[2]
    area = torch.tensor([1.0, 1.0, 0.25, 0.5])
    split = layer(x, edge_index, polar, transport, area)
    whole = layer(x[:3], edge_index[:, :2], polar[:2], transport[:2], torch.tensor([1.0, 1.0, 0.75]))
    torch.testing.assert_close(split[0], whole[0])
    unweighted = layer(x, edge_index, polar, transport)
    assert relative(unweighted[0], layer(x[:3], edge_index[:, :2], polar[:2], transport[:2])[0]) > 1e-3


def test_order_of_edges_plans_static_graphs_and_batches():
    surface, x = Surface(), features(IN, 2, 12)
    layer = randomised(GaugeAttention(IN, OUT, **OPTIONS)).double()
    edge_index, polar, transport, area = surface.tensors()
    y = layer(x, edge_index, polar, transport, area)
    torch.testing.assert_close(y[1], layer(x[1], edge_index, polar, transport, area))
    order = torch.randperm(edge_index.size(1))
    torch.testing.assert_close(layer(x, edge_index[:, order], polar[order], transport[order], area), y)
    plan = GaugePlan(edge_index, polar, transport, area, rings=2, cutoff=1.0)
    torch.testing.assert_close(layer(x, plan), y)
    two = (torch.cat([edge_index, edge_index + 12], 1), polar.repeat(2, 1), transport.repeat(2), area.repeat(2))
    torch.testing.assert_close(layer(x.flatten(0, 1), *two), y.flatten(0, 1))


def test_nodes_without_neighbours_or_area_keep_their_self_interaction():
    surface, x = Surface(), features(IN, 13)
    layer = randomised(GaugeAttention(IN, OUT, **OPTIONS)).double()
    area = torch.cat([surface.area, torch.zeros(1, dtype=torch.float64)])
    alone = layer(x, surface.edge_index, surface.polar, surface.transport, area)[12]
    expected = layer.self_interaction(x[12])
    expected[:4] += layer.bias
    torch.testing.assert_close(alone, expected)
    none = layer(x, surface.edge_index, surface.polar, surface.transport, torch.zeros_like(area))
    assert none.isfinite().all()
    empty = torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, 2).double(), torch.zeros(0).double()
    assert layer(x, *empty).shape == (13, SO2Irreps(OUT).dim)


def test_gradients_and_compile(compiled):
    surface = Surface(nodes=5, extra=2)
    layer, x = randomised(GaugeAttention("2x0+1x1", "1x0+1x2")).double(), features("2x0+1x1", 5).requires_grad_()
    edge_index, polar, transport, area = surface.tensors()
    polar.requires_grad_()
    transport.requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: layer(a[0], edge_index, a[1], a[2], area), (x, polar, transport))
    assert torch.autograd.gradgradcheck(lambda x: layer(x, edge_index, polar.detach(), transport.detach()), x)
    plan = GaugePlan(edge_index, polar.detach(), transport.detach(), area, rings=1)
    torch.testing.assert_close(compiled(layer, backend="aot_eager")(x.detach(), plan), layer(x.detach(), plan))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads=3 must divide"),
        ({"rings": 2}, "needs cutoff"),
        ({"weight": "integral"}, "weight must be"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        GaugeAttention(IN, OUT, **options)


def test_bad_input():
    surface, x = Surface(), features(IN, 12)
    layer = GaugeAttention(IN, OUT).double()
    edge_index, polar, transport, _ = surface.tensors()
    with pytest.raises(ValueError, match="built for types_in"):
        layer(x[:, 1:], edge_index, polar, transport)
    with pytest.raises(ValueError, match="polar and transport are needed"):
        layer(x, edge_index)
    with pytest.raises(ValueError, match="rings=1"):
        layer(x, GaugePlan(edge_index, polar, transport, rings=2, cutoff=1.0))
    with pytest.raises(ValueError, match="nodes"):
        layer(x[:11], GaugePlan(edge_index, polar, transport, rings=1))
    with pytest.raises(TypeError, match=r"plan\.to"):
        layer(x, GaugePlan(edge_index, polar, transport, rings=1).float())
    polar[0, 0] = 0.0
    with pytest.raises(ValueError, match="r = 0"):
        layer(x, edge_index, polar, transport)
