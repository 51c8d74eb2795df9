"""Pooling over space and orientations, restriction to subgroups, and which sizes a stride keeps symmetric."""

import itertools
import warnings

import pytest
import torch
from torch import nn

from geomeq.groups import PointGroup
from geomeq.nn import (
    AntiAliasedPool2d,
    GlobalGroupPool,
    GroupConv2d,
    GroupPool,
    LiftingConv2d,
    RestrictGroup,
    SpatialPool2d,
    is_legal_stride,
    legal_size,
)

DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def error(layer, group, x):
    wanted = layer(x)
    return max(
        float((layer(group.act_on_field(h, x)) - group.act_on_field(h, wanted)).abs().max())
        for h in group.grid_elements()
    )


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize("name", ["C4", "D4", "D1", "C8"])
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_spatial_pools_follow_the_group_at_legal_sizes(name, reduce, dtype, tol):
    group = PointGroup.parse(name)
    for pool, size in ((SpatialPool2d(2, reduce=reduce), 8), (SpatialPool2d(3, 2, 1, reduce), 9)):
        assert error(pool, group, torch.randn(2, 3, group.order, size, size, dtype=dtype)) < tol


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", ["replicate", "zeros", "circular"])
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_anti_aliased_pools_follow_the_group_at_every_size(stride, mode, reduce, dtype, tol):
    pool, group = AntiAliasedPool2d(stride, reduce, mode), PointGroup.parse("D4")
    for size in ((8, 8), (9, 9), (10, 9), (7, 11)):
        x = torch.randn(2, 3, 8, *size, dtype=dtype)
        assert pool(x).shape[-2:] == tuple(-(-n // stride) for n in size)
        assert error(pool, group, x) < tol


def test_anti_aliased_pooling_is_a_blur():
    pool = AntiAliasedPool2d()
    assert torch.allclose(pool(torch.ones(1, 1, 8, 9)), torch.ones(1, 1, 4, 5))  # a constant stays
    x = torch.zeros(1, 1, 1, 8)
    x[..., 3] = 1
    torch.testing.assert_close(pool(x)[0, 0, 0], torch.tensor([0, 3, 1, 0]) / 8)  # [1, 3, 3, 1] / 8, every second
    x = torch.zeros(1, 1, 1, 9)
    x[..., 3] = 1
    torch.testing.assert_close(pool(x)[0, 0, 0], torch.tensor([0, 1, 1, 0, 0]) / 4)
    torus, x = AntiAliasedPool2d(padding_mode="circular"), torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(torus(x.roll(2, -1)), torus(x).roll(1, -1))
    image = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(pool(image), pool(image[:, :, None])[:, :, 0])


def test_a_small_shift_changes_a_blurred_pool_less():
    line = torch.arange(40.0)
    image = torch.sin(line / 2)[:, None] * torch.sin(line / 3)
    image = (image + torch.sin(2.2 * line))[None, None]
    gaps = []
    for pool in (SpatialPool2d(2), AntiAliasedPool2d()):
        a, b = pool(image)[..., 2:-2, 2:-2], pool(image.roll(1, -1))[..., 2:-2, 2:-2]
        gaps.append(float((a - b).square().mean() / a.var()))
    assert gaps[1] < 0.5 * gaps[0]


def test_the_trap_of_an_even_pool_on_an_odd_size():
    """A 2 x 2 max-pool with stride 2 leaves out the last row of odd sizes (GrouPy issue 26)."""
    pool, group = SpatialPool2d(2), PointGroup.parse("C4")
    x = torch.randn(1, 2, 4, 9, 9)
    with pytest.warns(UserWarning, match="9 x 9 with kernel_size=2"):
        assert error(pool, group, x) > 0.1
    with pytest.raises(ValueError, match="use size 8 or 10"):
        SpatialPool2d(2, on_illegal="error")(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert error(pool, group, x[..., 1:, 1:]) == 0
        assert SpatialPool2d(2, point_group="C1")(x).shape[-1] == 4


def test_28_pixels_and_a_strided_filter_of_3_are_illegal():
    assert not is_legal_stride((28, 28), 3, 2, 1, "C4")
    assert is_legal_stride((29, 29), 3, 2, 1, "C4")
    assert is_legal_stride((28, 28), 2, 2, 0, "C4")
    assert is_legal_stride((28, 28), 3, 2, 1, "C1")
    assert is_legal_stride((28, 29), 3, 2, 1, "D1")
    assert not is_legal_stride((29, 28), 3, 2, 1, "D1")
    layer = LiftingConv2d("C4", 1, 1, 3, stride=2, padding=1)
    with pytest.warns(UserWarning, match="28"):
        layer(torch.zeros(1, 1, 28, 28))


@pytest.mark.parametrize("n", [5, 17, 28, 30, 32])
def test_the_smallest_legal_size_is_found_and_works(n):
    convs = [GroupConv2d("C4", 1, 1, k, s, p, on_illegal="error") for k, s, p in ((3, 2, 1), (5, 1, 0), (3, 2, 1))]
    net = nn.Sequential(*convs, SpatialPool2d(2, on_illegal="error"), nn.ReLU())
    size = legal_size(n, net)

    def runs(size):
        try:
            net(torch.zeros(1, 1, 4, size, size))
        except ValueError:
            return False
        return True

    assert [m for m in range(n, size + 1) if runs(m)] == [size]
    windows = [(3, 2, 1), (5, 1, 0), (3, 2, 1), (2, 2, 0)]
    assert legal_size(n, windows) == size
    assert (
        legal_size(n, [nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 5), nn.Conv2d(1, 1, 3, 2, 1), nn.MaxPool2d(2)]) == size
    )
    assert legal_size(n, [AntiAliasedPool2d(), nn.BatchNorm2d(1)]) == n


def test_windows_of_torch_count_as_they_are():
    assert legal_size(28, [nn.Conv2d(1, 1, 3, padding="same"), nn.MaxPool2d(2)]) == 28
    assert legal_size(28, [nn.Conv2d(1, 1, 4, 2, padding="valid")]) == 28
    assert legal_size(28, [nn.Conv2d(1, 1, 3, 3, dilation=2)]) == 29  # as wide as 5
    assert legal_size(5, [nn.LPPool2d(2, 2)]) == 6


def test_legal_size_of_bad_requests():
    for n in (0, 28.5):  # a fraction is no size: the search would never end
        with pytest.raises(ValueError, match="n must be a positive integer"):
            legal_size(n, [(3, 2, 1)])
    for window in ((3, 0, 1), (3, 2, 0.5)):
        with pytest.raises(ValueError, match="must be positive integers"):
            legal_size(8, [window])
    with pytest.raises(ValueError, match=r"windows must be square to keep turns, got kernel_size=\(3, 5\)"):
        legal_size(8, nn.Conv2d(1, 1, (3, 5)))
    for layer in (nn.ConvTranspose2d(1, 1, 2, 2), nn.MaxPool2d(2, ceil_mode=True)):
        with pytest.raises(ValueError, match="legal_size does not know the sizes of"):
            legal_size(8, [layer])


@pytest.mark.parametrize(("dtype", "tol"), DTYPES)
@pytest.mark.parametrize("name", ["C4", "D4", "D2"])
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_pooling_over_orientations_gives_an_image(name, reduce, dtype, tol):
    group, pool = PointGroup.parse(name), GroupPool(name, reduce=reduce)
    x = torch.randn(2, 3, group.order, 6, 6, dtype=dtype)
    assert pool(x).shape == (2, 3, 6, 6)
    for h in range(group.order):
        gap = pool(group.act_on_field(h, x)) - group.act_on_image(h, pool(x))
        assert gap.abs().max() < tol
    wanted = x.max(2).values if reduce == "max" else x.mean(2)
    torch.testing.assert_close(pool(x), wanted)


@pytest.mark.parametrize(
    ("name", "sub"), [("C4", "C2"), ("D4", "C4"), ("D4", "D2"), ("D4", "D1"), ("D4", "C1"), ("D2", "C2")]
)
def test_pooling_over_cosets_keeps_the_whole_group(name, sub):
    group, pool = PointGroup.parse(name), GroupPool(name, sub)
    order = group.order // PointGroup.parse(sub).order
    cosets = pool.cosets.tolist()
    assert sorted(itertools.chain(*cosets)) == list(range(group.order))
    x = torch.randn(2, 3, group.order, 6, 6)
    y = pool(x)
    assert y.shape == (2, 3, order, 6, 6)
    for h in range(group.order):
        moved = pool(group.act_on_field(h, x))
        place = [next(i for i, c in enumerate(cosets) if group.compose(h, row[0]) in c) for row in cosets]
        wanted = group.act_on_image(h, y)
        for i, j in enumerate(place):  # the map of gK goes to that of hgK
            assert torch.equal(moved[:, :, j], wanted[:, :, i])


@pytest.mark.parametrize(("name", "sub"), [("D4", "C4"), ("D4", "D2"), ("C4", "C2"), ("D4", "C1"), ("C8", "C4")])
def test_restriction_forgets_symmetry_and_no_number(name, sub):
    group, below, layer = PointGroup.parse(name), PointGroup.parse(sub), RestrictGroup(name, sub)
    x = torch.randn(2, 3, group.order, 6, 6, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (2, 3 * group.order // below.order, below.order, 6, 6)
    assert torch.equal(y.flatten().sort().values, x.flatten().sort().values)
    members = group.subgroup(sub)
    deep = GroupConv2d(below, y.size(1), 2, 3).double()
    for k, h in enumerate(members):
        moved = layer(group.act_on_field(h, x))
        assert torch.equal(moved, below.act_on_field(k, y))
        torch.testing.assert_close(deep(moved), below.act_on_field(k, deep(y)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_a_global_pool_is_invariant_and_shares_gradients_among_ties(reduce):
    group, pool = PointGroup.parse("D4"), GlobalGroupPool(reduce)
    x = torch.randn(2, 3, 8, 5, 5, dtype=torch.float64)
    for h in range(8):
        torch.testing.assert_close(pool(group.act_on_field(h, x)), pool(x), atol=1e-12, rtol=0)
    flat = torch.zeros(1, 1, 8, 3, 3, requires_grad=True)
    pool(flat).sum().backward()
    assert torch.equal(flat.grad, torch.full_like(flat, 1 / 72))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpatialPool2d(0), "kernel_size must be a positive integer, got 0"),
        (lambda: SpatialPool2d((2, 2)), r"kernel_size must be a positive integer, got \(2, 2\)"),
        (lambda: SpatialPool2d(2, 0), "stride must be a positive integer, got 0"),
        (lambda: SpatialPool2d(2, padding=-1), "padding must be an integer from 0 to kernel_size // 2 = 1, got -1"),
        (lambda: SpatialPool2d(2, padding=2), "padding must be an integer from 0 to kernel_size // 2 = 1, got 2"),
        (lambda: SpatialPool2d(2, reduce="min"), "reduce must be one of"),
        (lambda: SpatialPool2d(2, on_illegal="shout"), "on_illegal must be one of"),
        (lambda: AntiAliasedPool2d(0), "stride must be a positive integer, got 0"),
        (lambda: AntiAliasedPool2d(2.0), "stride must be a positive integer, got 2.0"),
        (lambda: AntiAliasedPool2d(2, padding_mode="valid"), "padding_mode must be one of"),
        (lambda: GroupPool("C4", "C3"), "C3 is no subgroup of C4"),
        (lambda: RestrictGroup("C4", "D2"), "D2 is no subgroup of C4"),
        (lambda: GroupPool("C4")(torch.zeros(1, 2, 8, 3, 3)), "the layer was built for C4"),
        (lambda: RestrictGroup("C4", "C2")(torch.zeros(1, 2, 3, 3)), "the layer was built for C4"),
        (lambda: SpatialPool2d(2)(torch.zeros(3, 4, 4)), "x must have shape .B, C, Y, X. or"),
        (lambda: AntiAliasedPool2d()(torch.zeros(3, 4)), "x must have shape .B, C, Y, X. or"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
