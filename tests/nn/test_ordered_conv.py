"""OrderedConv: what it computes, its symmetry, what is missing, and how it is kept."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from geomeq.nn import (
    OrderedConv,
    OrderedConvTranspose,
    SphereAggregation,
    SpherePool,
    SphereShuffle,
    SphereUnpool,
)
from geomeq.nn._ordered_plan import tap_steps
from geomeq.spheres import (
    healpix,
    healpix_neighbours,
    icosphere,
    nest_to_ring,
    ordered_edges,
    ordered_neighbours,
    ring_to_nest,
)
from geomeq.spheres.healpix_tables import NEIGHBOUR_STEPS

from ._healpix import about_z, moved, moved_to, quarter_turn, written_out


def network(nside: int, dtype: torch.dtype, missing: str = "zero") -> nn.Module:
    """Every kind of layer once."""
    return nn.Sequential(
        OrderedConv(2, 6, nside, hops=2, missing=missing),
        nn.ReLU(),
        SphereAggregation(6, 8, nside, stride=4, missing=missing, activation=torch.relu),
        nn.Tanh(),
        SpherePool("max"),
        OrderedConv(8, 8, nside // 4, groups=2, missing=missing),
        SphereShuffle(),
        OrderedConvTranspose(2, 4, nside, stride=4, missing=missing),
        SphereUnpool(),
        SpherePool("mean"),
    ).to(dtype)


def test_taps_of_one_hop_are_the_pixel_and_its_neighbours_in_order():
    assert tap_steps(1) == [(0, 0), *NEIGHBOUR_STEPS]
    assert len(set(tap_steps(3))) == 49
    assert tap_steps(2)[:9] == tap_steps(1)
    assert tap_steps(2)[9] == (-2, 0)


@pytest.mark.parametrize("missing", ["zero", "renormalise", "average"])
@pytest.mark.parametrize("options", [{}, {"hops": 2}, {"dilation": 2}, {"stride": 4}, {"hops": 2, "stride": 4}])
def test_it_is_the_sum_over_neighbours_in_their_order(missing, options):
    layer = OrderedConv(2, 3, 2, missing=missing, **options).double()
    x = torch.randn(48, 2, dtype=torch.float64)
    rest = {k: v for k, v in options.items() if k != "hops"}
    wanted = written_out(x, layer.weight.detach(), layer.bias.detach(), 2, missing, **rest)
    torch.testing.assert_close(layer(x), wanted, atol=1e-13, rtol=0)
    other = torch.cat([layer.weight[:1], layer.weight[1:].roll(1, 0)]).detach()
    changed = written_out(x, other, layer.bias.detach(), 2, missing, **rest)
    assert not torch.allclose(layer(x), changed)  # another order is another layer


@pytest.mark.parametrize("missing", ["zero", "renormalise", "average"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_quarter_turns_about_the_axis_are_exact_for_whole_networks(dtype, tol, missing):
    model, x = network(8, dtype, missing), torch.randn(2, 768, 2, dtype=dtype)
    turn = quarter_turn(8)
    pos = healpix(8).pos
    torch.testing.assert_close(pos[turn], pos @ about_z(math.pi / 2).T, atol=1e-14, rtol=0)
    torch.testing.assert_close(model(moved(x, turn)), moved(model(x), turn), atol=tol, rtol=0)
    half = turn[turn]
    torch.testing.assert_close(model(moved(x, half)), moved(model(x), half), atol=tol, rtol=0)


@pytest.mark.parametrize("diagonal", [(1, 1, -1), (1, -1, 1), (1, -1, -1)])
def test_other_symmetries_of_the_grid_are_none_of_the_layer(diagonal):
    """They map pixels to pixels, but west to east or north to south: equivariance fails by far, and is not claimed."""
    to = moved_to(8, torch.diag(torch.tensor(diagonal, dtype=torch.float64)))
    model, x = network(8, torch.float64), torch.randn(768, 2, dtype=torch.float64)
    out = model(x)
    assert float(((model(moved(x, to)) - moved(out, to)).std() / out.std()).detach()) > 0.1


def test_a_constant_stays_one_except_at_24_pixels():
    near = healpix_neighbours(8)
    lacking = (near < 0).any(dim=1)
    one = torch.ones(768, 3, dtype=torch.float64)
    layer = OrderedConv(3, 4, 8).double()
    out = layer(one)
    everywhere = layer.bias + layer.weight.sum(dim=(0, 1))
    assert int(lacking.sum()) == 24
    torch.testing.assert_close(out[~lacking], everywhere.expand(744, 4), atol=1e-13, rtol=0)
    pixel, k = (near < 0).nonzero().T
    torch.testing.assert_close(out[pixel], everywhere - layer.weight[1 + k].sum(dim=1), atol=1e-13, rtol=0)
    mean = OrderedConv(3, 4, 8, missing="average").double()
    mean.load_state_dict(layer.state_dict())
    torch.testing.assert_close(mean(one), everywhere.expand(768, 4), atol=1e-13, rtol=0)
    scaled = OrderedConv(3, 4, 8, missing="renormalise").double()
    scaled.load_state_dict(layer.state_dict())
    wanted = layer.bias + (out[pixel] - layer.bias) * 9 / 8
    torch.testing.assert_close(scaled(one)[pixel], wanted, atol=1e-13, rtol=0)
    with torch.no_grad():
        scaled.weight.copy_(scaled.weight[:1].expand_as(scaled.weight))  # equal taps: nothing of the corner is left
    torch.testing.assert_close(scaled(one), scaled(one)[:1].expand(768, 4), atol=1e-13, rtol=0)


def test_stride_keeps_the_southern_children():
    layer, whole = OrderedConv(3, 4, 8, stride=4), OrderedConv(3, 4, 8)
    whole.load_state_dict(layer.state_dict())
    x = torch.randn(2, 768, 3)
    torch.testing.assert_close(layer(x), whole(x)[:, ::4], atol=1e-6, rtol=0)
    assert not torch.allclose(layer(x), whole(x)[:, 1::4])


def test_starting_weights_count_taps_and_channels():
    layer = OrderedConv(32, 64, 4)
    bound = 1 / math.sqrt(9 * 32)
    assert bound * 0.99 < float(layer.weight.detach().abs().max()) <= bound
    x = torch.randn(4, 192, 32)
    assert 0.4 < float(layer(x).detach().std()) < 0.75  # 1 / sqrt(3) and the bias
    spread = OrderedConvTranspose(32, 64, 8, stride=4)
    assert 0.4 < float(spread(x).detach().std()) < 0.75


def test_ring_order_by_mistake_shows_in_a_smooth_signal():
    """No tensor says in which order it is; a smooth one does: neighbours hold nearly the same in nested order only."""
    pos = healpix(16).pos
    x = torch.stack([pos[:, 2], pos[:, 0] * pos[:, 1]], dim=1)

    def roughness(x):
        return float((x - x[healpix_neighbours(16)[:, 2]]).std() / x.std())

    by_ring = x[ring_to_nest(16)]
    assert roughness(x) < 0.2
    assert roughness(by_ring) > 5 * roughness(x)
    assert roughness(by_ring[nest_to_ring(16)]) == roughness(x)
    layer = OrderedConv(2, 4, 16).double()
    assert not torch.allclose(layer(by_ring)[nest_to_ring(16)], layer(x))


def test_what_is_not_a_number_reaches_its_neighbours_only():
    for path in ("face", "gather", "edge"):
        layer = OrderedConv(2, 3, 8, path=path)
        x = torch.randn(768, 2)
        x[100, 1] = float("nan")
        reached = torch.cat([torch.tensor([100]), healpix_neighbours(8)[100]]).sort().values
        assert torch.equal(layer(x).isnan().any(dim=1).nonzero()[:, 0], reached)


def test_any_graph_with_ordered_neighbours():
    x = torch.randn(2, 192, 3, dtype=torch.float64)
    sphere = OrderedConv(3, 5, 4).double()
    near = healpix_neighbours(4)
    edge_index, edge_type = ordered_edges(near)
    for layer in (
        OrderedConv(3, 5, neighbours=near),
        OrderedConv(3, 5, neighbours=near, path="edge"),
        OrderedConv(3, 5, edge_index=edge_index, edge_type=edge_type, num_nodes=192),
    ):
        layer.double().load_state_dict(sphere.state_dict())
        torch.testing.assert_close(layer(x), sphere(x), atol=1e-13, rtol=0)
    for missing in ("average", "renormalise"):
        table = OrderedConv(3, 5, neighbours=near, missing=missing).double()
        same = OrderedConv(3, 5, 4, missing=missing).double()
        table.load_state_dict(same.state_dict())
        torch.testing.assert_close(table(x), same(x), atol=1e-13, rtol=0)
    pentagons = OrderedConv(3, 5, neighbours=ordered_neighbours(icosphere(1)), missing="average")
    assert pentagons.taps == 7
    assert pentagons(torch.randn(42, 3)).shape == (42, 5)


def test_isolated_nodes_keep_their_own_matrix():
    layer = OrderedConv(2, 3, neighbours=torch.tensor([[-1, -1], [0, -1]]), missing="renormalise").double()
    x = torch.randn(2, 2, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0], layer.bias + 3 * x[0] @ layer.weight[0])
    empty = OrderedConv(2, 3, edge_index=torch.zeros(2, 0).long(), edge_type=torch.zeros(0).long(), num_nodes=2)
    torch.testing.assert_close(empty(x.float()), x.float() @ empty.weight[0] + empty.bias)


def test_copies_pickles_and_state_dicts_compute_the_same(tmp_path):
    near = healpix_neighbours(4)
    x = torch.randn(192, 2)
    for layer in (OrderedConv(2, 3, 4, missing="average"), OrderedConv(2, 3, neighbours=near), OrderedConv(2, 3)):
        out = layer(x)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(other(x), out)
        assert set(layer.state_dict()) == {"weight", "bias"}
    assert len(pickle.dumps(OrderedConv(2, 3, 16))) < 8000  # tables do not go along


def test_layers_on_one_grid_share_their_tables():
    one, other = OrderedConv(2, 3, 16), OrderedConv(5, 3, 16)
    assert one._plan(3072, torch.device("cpu")) is other._plan(3072, torch.device("cpu"))


def test_tables_made_in_inference_mode_serve_training():
    layer = OrderedConv(2, 3, hops=3, dilation=1)
    x = torch.randn(768, 2)
    with torch.inference_mode():
        layer(x)
    layer(x).square().sum().backward()
    assert bool(layer.weight.grad.abs().sum() > 0)


@pytest.mark.parametrize("options", [{"nside": 4}, {"nside": 4, "path": "gather"}, {"nside": 4, "path": "edge"}])
def test_it_compiles_in_one_graph(options, compiled):
    layer = OrderedConv(2, 3, missing="renormalise", **options)
    spread = OrderedConvTranspose(3, 2, stride=4, **options)
    x = torch.randn(2, 192, 2, requires_grad=True)
    run = compiled(lambda x: spread(layer(x)[:, ::4]), backend="aot_eager")
    torch.testing.assert_close(run(x), spread(layer(x)[:, ::4]), atol=1e-5, rtol=0)
    one, other = (torch.autograd.grad(f.square().sum(), x)[0] for f in (run(x), spread(layer(x)[:, ::4])))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_it_compiles_with_the_default_compiler(compiled):
    layer = OrderedConv(2, 3, 4)
    x = torch.randn(2, 192, 2)
    torch.testing.assert_close(compiled(layer)(x), layer(x), atol=1e-5, rtol=0)


def test_half_precision_by_autocast_and_by_cast():
    layer = OrderedConv(8, 8, 8)
    x = torch.randn(768, 8)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), layer(x), atol=0.05, rtol=0.05)
    cast = copy.deepcopy(layer).to(torch.bfloat16)(x.bfloat16())
    torch.testing.assert_close(cast.float(), layer(x), atol=0.05, rtol=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same():
    for path in ("face", "gather", "edge"):
        layer = OrderedConv(4, 6, 8, path=path, missing="average").double()
        x = torch.randn(2, 768, 4, dtype=torch.float64)
        out = layer(x)
        torch.testing.assert_close(layer.cuda()(x.cuda()).cpu(), out, atol=1e-12, rtol=0)
