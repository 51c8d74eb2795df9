"""Taps that keep their directions of the compass: where they point, what that buys, and misuse."""

import math

import pytest
import torch
from torch import Tensor

from geomeq.nn import OrderedConv, OrderedConvTranspose
from geomeq.nn._ordered_compass import DIRECTIONS
from geomeq.spheres import healpix, healpix_neighbours

from ._healpix import moved, quarter_turn


def tap_directions(oriented: bool) -> Tensor:
    """How far each tap points from its mean direction, degrees, ``[N, 8]``: taps are applied to the positions."""
    pos = healpix(16).pos
    east = torch.nn.functional.normalize(torch.stack([-pos[:, 1], pos[:, 0], 0 * pos[:, 0]], dim=1), dim=1)
    south = torch.linalg.cross(east, pos)
    layer = OrderedConv(3, 24, 16, oriented=oriented, bias=False).double()
    with torch.no_grad():
        layer.weight.zero_()
        for k in range(8):
            layer.weight[k + 1, :, 3 * k : 3 * k + 3] = torch.eye(3)
        seen = layer(pos).view(-1, 8, 3)
    angle = torch.atan2((seen * east[:, None]).sum(-1), (seen * south[:, None]).sum(-1)).rad2deg()
    apart = ((angle - torch.tensor(DIRECTIONS) + 180) % 360 - 180).abs()
    return apart.masked_fill(healpix_neighbours(16) < 0, 0)


def test_taps_point_the_same_way_everywhere():
    plain, oriented = tap_directions(False), tap_directions(True)
    caps = healpix(16).pos[:, 2].abs() > 2 / 3 - 1e-9
    assert 45 < float(plain[caps].max()) < 53
    assert float(plain[~caps].max()) < 16.5
    assert float(oriented.max()) < 9


def spread_on_rings(layer: OrderedConv, order: int) -> float:
    """How much the response to a wave differs along the rings of the caps: the error of turns about the axis."""
    s = healpix(16)
    phi = torch.atan2(s.pos[:, 1], s.pos[:, 0])
    profile = (1 - s.pos[:, 2].square()) ** (order / 2)
    wave = torch.stack([profile * (order * phi).cos(), profile * (order * phi).sin()])[..., None]
    out = torch.complex(*layer(wave).detach()) * torch.polar(torch.ones_like(phi), -order * phi)[:, None]
    ring = torch.empty_like(s.rings.node)
    ring[s.rings.node] = torch.arange(len(s.rings.count)).repeat_interleave(s.rings.count)
    count = s.rings.count[:, None]
    mean = torch.zeros(len(count), out.size(1), dtype=out.dtype).index_add(0, ring, out) / count
    caps = s.pos[:, 2].abs() > 2 / 3
    return float((out - mean[ring])[caps].abs().pow(2).mean().sqrt() / out[caps].abs().pow(2).mean().sqrt())


@pytest.mark.parametrize("order", [1, 2, 3])
def test_turns_about_the_axis_by_any_angle_are_followed_more_closely(order):
    plain, oriented = (OrderedConv(1, 8, 16, oriented=o, bias=False).double() for o in (False, True))
    with torch.no_grad():  # differences between taps: what has a direction
        plain.weight[0] = -plain.weight[1:].sum(dim=0)
    oriented.load_state_dict(plain.state_dict())
    assert spread_on_rings(oriented, order) < 0.5 * spread_on_rings(plain, order)


def test_it_is_nearly_the_plain_layer_in_the_belt():
    s = healpix(16)
    plain, oriented = OrderedConv(3, 4, 16).double(), OrderedConv(3, 4, 16, oriented=True).double()
    oriented.load_state_dict(plain.state_dict())
    apart = (plain(s.pos) - oriented(s.pos)).detach().abs().max(dim=1).values
    belt = s.pos[:, 2].abs() < 0.5
    assert float(apart[belt].max()) < 0.2 * float(apart.max())


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("stride", [1, 4])
def test_quarter_turns_constants_strides_and_adjoints(dtype, tol, stride):
    layer = OrderedConv(2, 4, 8, oriented=True, stride=stride, groups=2).to(dtype)
    x, turn = torch.randn(2, 768, 2, dtype=dtype), quarter_turn(8)
    coarse = quarter_turn(4) if stride == 4 else turn
    torch.testing.assert_close(layer(moved(x, turn)), moved(layer(x), coarse), atol=tol, rtol=0)
    one = layer(torch.ones(768, 2, dtype=dtype))
    torch.testing.assert_close(one, one[:1].expand_as(one), atol=tol, rtol=0)  # nothing is missing
    whole = OrderedConv(2, 4, 8, oriented=True, groups=2).to(dtype)
    whole.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), whole(x)[:, ::stride], atol=tol, rtol=0)
    back = OrderedConvTranspose(4, 2, 8, oriented=True, stride=stride, groups=2, bias=False).to(dtype)
    back.weight = layer.weight
    y = torch.randn(2, 768 // stride, 4, dtype=dtype)
    left, right = ((layer(x) - layer.bias) * y).sum(), (x * back(y)).sum()
    torch.testing.assert_close(left, right, atol=100 * tol, rtol=0)


def test_derivatives_transforms_and_compilation(compiled):
    layer = OrderedConv(1, 2, 2, oriented=True).double()
    x = torch.randn(2, 48, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x[:1],))
    torch.testing.assert_close(torch.func.vmap(layer)(x[:, None]), layer(x)[:, None])
    _, tangent = torch.func.jvp(layer, (x,), (x,))
    torch.testing.assert_close(tangent + layer.bias, layer(x))
    torch.testing.assert_close(compiled(layer, backend="aot_eager")(x), layer(x))


@pytest.mark.parametrize(
    "options",
    [
        {"hops": 2},
        {"dilation": 2},
        {"distance": True},
        {"missing": "average"},
        {"path": "face"},
        {"pixels": torch.arange(4)},
    ],
    ids=lambda o: next(iter(o)),
)
def test_options_that_do_not_go_with_it(options):
    with pytest.raises(ValueError, match="oriented=True"):
        OrderedConv(2, 3, 4, oriented=True, **options)


def test_patches_have_no_compass():
    with pytest.raises(ValueError, match="whole sphere"):
        OrderedConv(2, 3, oriented=True)(torch.zeros(16, 2))
    assert math.isfinite(float(OrderedConv(2, 3, oriented=True)(torch.zeros(48, 2)).sum().detach()))
