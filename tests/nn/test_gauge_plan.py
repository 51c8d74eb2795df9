"""GaugePlan: weights, cut-off, sharing and forgetting."""

import copy
import gc
import math
import weakref

import pytest
import torch

from geomeq.nn import GaugeAttention, GaugeConv, GaugePlan
from geomeq.nn.gauge_plan import _PLANS
from tests.nn._surfaces import random_surface


def dense(plan: GaugePlan) -> torch.Tensor:
    """Weights of neighbours as a matrix."""
    made = torch.zeros(plan.num_nodes, plan.num_nodes, dtype=plan.radial.dtype)
    source, target = plan.edge_index
    made[target, source] = plan.radial.sum(dim=1)  # the rings sum to one
    return made


def test_weights_of_neighbours():
    edge_index, polar, transport, area = random_surface()
    adjacency = torch.zeros(12, 12, dtype=torch.float64)
    adjacency[edge_index[1], edge_index[0]] = 1
    wanted = {
        "sum": adjacency,
        "mean": adjacency / adjacency.sum(1, keepdim=True),
        "area": adjacency * area / (adjacency @ area)[:, None],
        "integral": adjacency * area / (math.pi * 1.5**2),
    }
    for weight, matrix in wanted.items():
        plan = GaugePlan(edge_index, polar, transport, area, cutoff=1.5, weight=weight)
        torch.testing.assert_close(dense(plan), matrix)
    assert GaugePlan(edge_index, polar, transport, area, cutoff=1.5).weight == "area"
    assert GaugePlan(edge_index, polar, transport, cutoff=1.5).weight == "mean"


@pytest.mark.parametrize("weight", ["mean", "area", "sum", "integral"])
def test_edges_beyond_the_cutoff(weight):
    """Smooth kernels do not see them, not even in the number of neighbours; hats take them for edges of that length."""
    edge_index, polar, transport, area = random_surface()
    near = polar[:, 0] < 0.7
    assert 0 < near.sum() < len(near)
    x = torch.randn(12, 9, dtype=torch.float64)
    smooth = GaugeConv("3x0+3x1", "2x0+2x1", cutoff=0.7, basis="smooth", weight=weight).double()
    wanted = smooth(x, edge_index[:, near], polar[near], transport[near], area)
    torch.testing.assert_close(smooth(x, edge_index, polar, transport, area), wanted)

    hat = GaugeConv("3x0+3x1", "2x0+2x1", cutoff=0.7, weight=weight).double()
    clipped = polar.clone()
    clipped[:, 0].clamp_(max=0.7)
    out = hat(x, edge_index, polar, transport, area)
    torch.testing.assert_close(out, hat(x, edge_index, clipped, transport, area))
    assert not torch.allclose(out, hat(x, edge_index[:, near], polar[near], transport[near], area), atol=1e-3)


def test_layers_share_a_plan_and_notice_what_changes():
    edge_index, polar, transport, area = random_surface()
    first, second = (GaugeConv("2x0+2x1", "2x0+2x1", cutoff=1.5).double() for _ in range(2))
    x = torch.randn(12, 6, dtype=torch.float64)
    before = first(x, edge_index, polar, transport, area)
    second(x, edge_index, polar, transport, area)
    assert len(_PLANS[polar]) == 1
    polar[:, 1] += 0.3
    after = first(x, edge_index, polar, transport, area)
    fresh = first(x, edge_index, polar.clone(), transport, area)
    torch.testing.assert_close(after, fresh)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(first(x, edge_index, polar, transport, area * 1.0), after)  # other tensor, same numbers
    uneven = area * torch.linspace(1, 3, 12, dtype=torch.float64)
    assert not torch.allclose(first(x, edge_index, polar, transport, uneven), after)


def test_graphs_that_pass_by_leave_nothing_behind():
    conv = GaugeConv("2x0+2x1", "2x0+2x1", cutoff=1.5).double()
    x = torch.randn(12, 6, dtype=torch.float64)
    gone = []
    for _ in range(3):
        edge_index, polar, transport, area = random_surface()
        conv(x, edge_index, polar, transport, area)
        gone.append(weakref.ref(next(iter(_PLANS[polar].values()))[1]))
    kept = len(_PLANS)
    del edge_index, polar, transport, area
    gc.collect()
    assert len(_PLANS) < kept
    assert all(reference() is None for reference in gone)


def test_a_plan_first_made_in_inference_mode_serves_training():
    edge_index, polar, transport, area = random_surface(dtype=torch.float32)
    conv = GaugeConv("2x0+2x1", "2x0+2x1", cutoff=1.5)
    x = torch.randn(12, 6, requires_grad=True)
    with torch.inference_mode():
        before = conv(x, edge_index, polar, transport, area)
    out = conv(x, edge_index, polar, transport, area)
    out.sum().backward()
    torch.testing.assert_close(out.detach(), before.clone())


def test_a_plan_moves_and_stays_out_of_the_state():
    edge_index, polar, transport, area = random_surface()
    conv = GaugeConv("2x0+2x1", "2x0+2x1", cutoff=1.5).double()
    plan = conv.plan(edge_index, polar, transport, area)
    assert not plan.state_dict()
    x = torch.randn(12, 6, dtype=torch.float64)
    wanted = conv(x, plan)
    torch.testing.assert_close(conv(x, copy.deepcopy(plan)), wanted)
    single = copy.deepcopy(conv).float()
    with pytest.raises(TypeError, match=r"plan.to"):
        single(x.float(), plan)
    torch.testing.assert_close(single(x.float(), plan.float()).double(), wanted, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="the plan was made with"):
        GaugeConv("2x0+2x1", "2x0+2x1", cutoff=2.5)(x.float(), plan)
    with pytest.raises(ValueError, match="x has 11 nodes"):
        single(x[1:].float(), plan)


def test_bad_geometry_is_named():
    edge_index, polar, transport, area = random_surface()
    with pytest.raises(ValueError, match="must not be negative"):
        GaugePlan(edge_index, -polar, transport, cutoff=1.0)
    with pytest.raises(ValueError, match="area must not be negative"):
        GaugePlan(edge_index, polar, transport, area - 10, cutoff=1.0)
    with pytest.raises(ValueError, match=r"transport must have shape"):
        GaugePlan(edge_index, polar, transport[1:], cutoff=1.0)
    with pytest.raises(ValueError, match="there are only 3 nodes"):
        GaugePlan(edge_index, polar, transport, cutoff=1.0, num_nodes=3)
    with pytest.raises(TypeError, match="polar must be floating point"):
        GaugePlan(edge_index, polar.long(), transport, cutoff=1.0)
    with pytest.raises(ValueError, match="weight must be one of"):
        GaugePlan(edge_index, polar, transport, cutoff=1.0, weight="max")
    with pytest.raises(ValueError, match="area of the disc"):
        GaugePlan(edge_index, polar, transport, area, rings=1, weight="integral")


def test_from_some_nodes_to_others():
    """Every weight of neighbours, and nothing that needs the same nodes at both ends."""
    edge_index, polar, transport, area = random_surface()
    few = edge_index[1] < 5
    there = (edge_index[:, few], polar[few], transport[few], area)
    x = torch.randn(2, 12, 9, dtype=torch.float64)
    for weight in ("mean", "area", "sum", "integral"):
        settings = {"cutoff": 1.5, "weight": weight, "self_interaction": False}
        conv = GaugeConv("3x0+3x1", "2x0+2x1", **settings).double()
        plan = conv.plan(*there, num_targets=5)
        assert "nodes=12 -> 5" in repr(plan)
        wanted = conv(x, edge_index, polar, transport, area)[:, :5]
        torch.testing.assert_close(conv(x, plan), wanted, atol=1e-13, rtol=0)
        assert conv(x, conv.plan(*there, num_targets=7))[:, 5:].eq(conv.bias.new_zeros(6)).all()
    with pytest.raises(ValueError, match="make the layer with self_interaction=False"):
        GaugeConv("3x0+3x1", "2x0+2x1", cutoff=1.5, weight="integral").double()(x, plan)
    plan = GaugePlan(*there, rings=2, cutoff=1.5, num_targets=5)
    with pytest.raises(ValueError, match="attention needs one set of nodes"):
        GaugeAttention("3x0+3x1", "2x0+2x1", rings=2, cutoff=1.5).double()(x, plan)
    with pytest.raises(ValueError, match=r"target nodes 0\.\.4, but there are only 4 nodes"):
        GaugePlan(*there, rings=2, cutoff=1.5, num_targets=4)
    assert GaugePlan(*there[:3], rings=2, cutoff=1.5, num_targets=5).num_nodes == int(edge_index[0, few].max()) + 1
