"""SO(2) layers: they commute with turns about the edge, and are Clebsch-Gordan products in other clothes."""

import math

import pytest
import torch
from e3nn import o3

from geomeq.groups.wigner import wigner_blocks
from geomeq.harmonics import edge_wigner, spherical_harmonics
from geomeq.nn import SO2Linear, paths_from_so2, so2_from_paths, so2_paths
from geomeq.ops import EdgeLayout, EdgeRotation

DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def rolled(h, layout, angle):
    """Rows of a feature after a turn about the axis of the frame."""
    out = h.clone()
    for order in layout.orders[1:]:
        c, s = math.cos(order.m * angle), math.sin(order.m * angle)
        out[:, order.plus] = c * h[:, order.plus] - s * h[:, order.minus]
        out[:, order.minus] = c * h[:, order.minus] + s * h[:, order.plus]
    return out


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize("reflections", [False, True])
@pytest.mark.parametrize(("lmax", "lmax_out", "mmax"), [(0, 0, 0), (2, 2, 2), (6, 6, 2), (2, 4, 1), (4, 1, 1)])
def test_commutes_with_turns_about_the_edge(dtype, tol, reflections, lmax, lmax_out, mmax):
    layer = SO2Linear(3, 4, lmax, mmax, edge_channels=5, extra_scalars=2, reflections=reflections, lmax_out=lmax_out)
    layer = layer.to(dtype)
    torch.nn.init.normal_(layer.bias)
    h, scalars = torch.randn(7, layer.layout.num_rows, 3, dtype=dtype), torch.randn(7, 5, dtype=dtype)
    out, extra = layer(h, scalars)
    assert out.shape == (7, layer.layout_out.num_rows, 4)
    turned, same = layer(rolled(h, layer.layout, 0.7), scalars)
    torch.testing.assert_close(turned, rolled(out, layer.layout_out, 0.7), atol=tol * 5, rtol=tol)
    torch.testing.assert_close(same, extra, atol=tol, rtol=tol)


def test_other_linear_maps_do_not_commute():
    layout = EdgeLayout(2, 2)
    h, layer = torch.randn(7, layout.num_rows, 3), torch.nn.Linear(layout.num_rows, layout.num_rows)
    out = layer(h.mT).mT
    assert not torch.allclose(layer(rolled(h, layout, 0.7).mT).mT, rolled(out, layout, 0.7), atol=0.1)


def test_the_roll_of_the_test_is_a_rotation_about_the_axis():
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = o3.matrix_y(angle)[None]
    x = torch.randn(1, 9, 2, dtype=torch.float64)
    moved = torch.cat([d[0] @ x[0, l * l : (l + 1) ** 2] for l, d in enumerate(wigner_blocks(turn, 2))])  # noqa: E741
    layout = EdgeLayout(2)
    index = torch.tensor(layout.coefficient_index())
    torch.testing.assert_close(rolled(x[:, index], layout, 0.7)[0], moved[index], atol=1e-13, rtol=0)


def product(weights, x, vec, lmax_out):
    """The Clebsch-Gordan product with the harmonics of the edge, path by path from its formula."""
    out = x.new_zeros(len(x), (lmax_out + 1) ** 2, next(iter(weights.values())).size(1))
    for (l1, l2, l3), w in weights.items():
        symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * math.sqrt(2 * l3 + 1)
        y = spherical_harmonics(vec, l2)[:, l2 * l2 :]
        part = torch.einsum("abk,eac,eb,cd->ekd", symbol, x[:, l1 * l1 : (l1 + 1) ** 2], y, w)
        out[:, l3 * l3 : (l3 + 1) ** 2] += part
    return out


def in_frame(layer, x, vec):
    """The same by an SO(2) layer: edge e reads and writes node e."""
    own = torch.arange(len(x)).repeat(2, 1)
    turns = [
        EdgeRotation(edge_wigner(vec, lay.lmax, lay.mmax), own, len(x), lay) for lay in (layer.layout, layer.layout_out)
    ]
    return turns[1].out_of_frame(layer(turns[0].into_frame(x)))


def layer_of(weights, lmax, lmax_out, c_in, c_out):
    layer = SO2Linear(c_in, c_out, lmax, min(lmax, lmax_out), lmax_out=lmax_out, bias=False).double()
    with torch.no_grad():
        for own, made in zip(layer.weights, so2_from_paths(weights, lmax, lmax_out), strict=True):
            own.copy_(made)
    return layer


VECTORS = torch.cat([torch.randn(12, 3), torch.eye(3), -torch.eye(3), torch.eye(3) + 1e-9]).double()


@pytest.mark.parametrize("l1", [0, 1, 2])
@pytest.mark.parametrize("l3", [0, 1, 2])
def test_every_pair_of_degrees_is_its_clebsch_gordan_product(l1, l3):
    weights = {p: torch.randn(1, 1, dtype=torch.float64) for p in so2_paths(2) if (p[0], p[2]) == (l1, l3)}
    x = torch.randn(len(VECTORS), 9, 1, dtype=torch.float64)
    want = product(weights, x, VECTORS, 2)
    torch.testing.assert_close(in_frame(layer_of(weights, 2, 2, 1, 1), x, VECTORS), want, atol=5e-14, rtol=0)
    assert want.abs().max() > 0.01


@pytest.mark.parametrize(("lmax", "lmax_out"), [(0, 0), (3, 3), (2, 3), (3, 1)])
def test_all_paths_together_and_back_again(lmax, lmax_out):
    weights = {p: torch.randn(2, 3, dtype=torch.float64) for p in so2_paths(lmax, lmax_out)}
    x = torch.randn(len(VECTORS), (lmax + 1) ** 2, 2, dtype=torch.float64)
    layer = layer_of(weights, lmax, lmax_out, 2, 3)
    torch.testing.assert_close(in_frame(layer, x, VECTORS), product(weights, x, VECTORS, lmax_out), atol=1e-13, rtol=0)
    back = paths_from_so2(list(layer.weights), lmax, lmax_out)
    assert back.keys() == weights.keys()
    for path, weight in weights.items():
        torch.testing.assert_close(back[path], weight, atol=5e-14, rtol=0)


@pytest.mark.parametrize("reflections", [False, True])
def test_conversion_is_a_bijection(reflections):
    layer = SO2Linear(2, 3, 4, 4, bias=False, reflections=reflections).double()
    paths = paths_from_so2(list(layer.weights), 4)
    if reflections:
        assert all(w.abs().max() == 0 for (l1, l2, l3), w in paths.items() if (l1 + l2 + l3) % 2)
    count = sum(w.numel() for w in paths.values() if not reflections or w.abs().max() > 0)
    assert count == sum(w.numel() for w in layer.weights)
    again = so2_from_paths(paths, 4)
    for own, made in zip(layer.weights, again, strict=True):
        torch.testing.assert_close(made[: len(own)], own.detach(), atol=5e-14, rtol=0)
        assert made[len(own) :].abs().max() < 5e-14 if len(made) > len(own) else True


@pytest.mark.parametrize("reflections", [False, True])
def test_mirror_images(reflections):
    layer = SO2Linear(2, 3, 2, 2, bias=False, reflections=reflections).double()
    parity = torch.tensor([(-1.0) ** l for l in range(3) for _ in range(2 * l + 1)], dtype=torch.float64)[:, None]  # noqa: E741
    x, vec = torch.randn(20, 9, 2, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    gap = (in_frame(layer, x * parity, -vec) - in_frame(layer, x, vec) * parity).abs().max()
    assert (gap < 1e-13) == reflections


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
def test_rotations_of_everything(dtype, tol):
    layer = SO2Linear(2, 3, 3, 2).to(dtype)
    turn = o3.rand_matrix(dtype=torch.float64)
    vec, x = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, 16, 2, dtype=torch.float64)
    blocks = wigner_blocks(turn[None], 3)

    def rotate(t):
        return torch.cat([d.to(t) @ t[:, l * l : (l + 1) ** 2] for l, d in enumerate(blocks)], dim=1)  # noqa: E741

    moved = in_frame(layer, rotate(x).to(dtype), (vec @ turn.T).to(dtype))
    torch.testing.assert_close(moved, rotate(in_frame(layer, x.to(dtype), vec.to(dtype))), atol=20 * tol, rtol=tol)


def test_variance_is_kept():
    layer = SO2Linear(16, 16, 3, 3, extra_scalars=16)
    out, extra = layer(torch.randn(2000, 16, 16))
    assert 0.9 < out.var().item() < 1.1
    assert 0.8 < extra.var().item() < 1.2


def test_bias_reaches_degree_zero_only():
    layer = SO2Linear(2, 3, 2, 2)
    torch.nn.init.ones_(layer.bias)
    out = layer(torch.zeros(4, 9, 2))
    assert torch.equal(out[:, 0], torch.ones(4, 3))
    assert out[:, 1:].abs().max() == 0


def test_derivatives_to_second_order():
    layer = SO2Linear(2, 2, 2, 1, edge_channels=2, extra_scalars=1, hidden=(3,)).double()
    h = torch.randn(3, 7, 2, dtype=torch.float64, requires_grad=True)
    s = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (h, s), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, (h, s), fast_mode=True)


def test_compiles_in_one_graph(compiled):
    layer, h = SO2Linear(4, 4, 2, 1), torch.randn(5, 7, 4)
    torch.testing.assert_close(compiled(layer)(h), layer(h), atol=1e-5, rtol=1e-5)


def test_saved_and_loaded():
    one, two = (SO2Linear(4, 4, 2, 1, edge_channels=3, extra_scalars=2) for _ in range(2))
    two.load_state_dict(one.state_dict())
    h, s = torch.randn(5, 7, 4), torch.randn(5, 3)
    assert torch.equal(one(h, s)[0], two(h, s)[0])


def test_no_edges():
    assert SO2Linear(4, 5, 2, 1)(torch.empty(0, 7, 4)).shape == (0, 7, 5)


def test_bad_input_is_refused():
    layer = SO2Linear(4, 4, 2, 1, edge_channels=3)
    h = torch.randn(5, 7, 4)
    with pytest.raises(ValueError, match="h must have shape"):
        layer(torch.randn(5, 9, 4), torch.randn(5, 3))
    with pytest.raises(ValueError, match="edge_scalars are missing"):
        layer(h)
    with pytest.raises(ValueError, match="edge_scalars must have shape"):
        layer(h, torch.randn(5, 2))
    with pytest.raises(ValueError, match="without edge_channels"):
        SO2Linear(4, 4, 2, 1)(h, torch.randn(5, 3))
    with pytest.raises(ValueError, match="mmax"):
        SO2Linear(4, 4, 2, 2, lmax_out=1)
    with pytest.raises(ValueError, match="out_channels"):
        SO2Linear(4, 0, 2, 2)
    with pytest.raises(ValueError, match=r"\(0, 2, 1\)"):
        so2_from_paths({(0, 2, 1): torch.ones(1, 1)}, 2)
    with pytest.raises(ValueError, match="one shape"):
        so2_from_paths({(0, 0, 0): torch.ones(1, 1), (1, 0, 1): torch.ones(1, 2)}, 1)
    with pytest.raises(ValueError, match="all 3 orders"):
        paths_from_so2(list(SO2Linear(1, 1, 2, 1).weights), 2)
    with pytest.raises(ValueError, match="order 1 must have shape"):
        paths_from_so2([torch.ones(1, 2, 2), torch.ones(2, 3, 1)], 1)
