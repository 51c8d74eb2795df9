import pytest
import torch

from geomeq.groups import coset_space, dihedral, icosahedral
from geomeq.nn import CosetPool, FourierFeatures, GroupBatchNorm, GroupConv, Pointwise, check_pointwise

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def trained_norm(channels, layout, dtype, shape):
    norm = GroupBatchNorm(channels, layout).to(dtype)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    norm(torch.randn(shape, dtype=dtype) * 3 + 1)
    return norm


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("training", [True, False])
def test_norm_on_nodes_commutes_with_the_group(dtype, training):
    group = dihedral(6)
    norm = trained_norm(3, "nodes", dtype, (5, 12, 3)).train(training)
    x = torch.randn(5, 12, 3, dtype=dtype)
    out = norm(x)
    if training:
        wanted = torch.nn.functional.batch_norm(x.flatten(0, 1), None, None, norm.weight, norm.bias, True)
        torch.testing.assert_close(out, wanted.view_as(x), atol=TOLERANCE[dtype], rtol=0)
    for g in range(12):
        back = group.cayley[group.inv[g]]
        torch.testing.assert_close(norm(x[:, back]), norm(x)[:, back], atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_norm_on_grids_commutes_with_a_quarter_turn_and_a_plain_one_does_not(training):
    norm = trained_norm(3, "grid", torch.float64, (5, 3, 4, 6, 6)).train(training)
    plain = torch.nn.BatchNorm2d(12).double().train(training)
    torch.nn.init.normal_(plain.weight)

    def turn(x):
        return torch.rot90(x, 1, (-2, -1)).roll(1, dims=2)

    x = torch.randn(5, 3, 4, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(norm(turn(x)), turn(norm(x)), atol=1e-12, rtol=0)
    by_channel = plain(turn(x).flatten(1, 2)).view_as(x)
    assert not torch.allclose(by_channel, turn(plain(x.flatten(1, 2)).view_as(x)), atol=1e-2)


def test_layouts_agree_and_statistics_are_those_of_all_places():
    x = torch.randn(5, 3, 4, 6, 6, dtype=torch.float64) * 2 + 1
    grid, nodes = GroupBatchNorm(3, "grid").double(), GroupBatchNorm(3, "nodes").double()
    out = nodes(x.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(x)
    torch.testing.assert_close(grid(x), out, atol=1e-12, rtol=0)
    torch.testing.assert_close(grid.running_mean, nodes.running_mean)
    torch.testing.assert_close(grid.running_mean, 0.1 * x.mean(dim=(0, 2, 3, 4)))
    assert out.mean(dim=(0, 2, 3, 4)).abs().max() < 1e-12


def test_norm_saves_and_loads():
    norm = trained_norm(3, "nodes", torch.float32, (5, 12, 3)).eval()
    other = GroupBatchNorm(3).eval()
    other.load_state_dict(norm.state_dict())
    x = torch.randn(2, 12, 3)
    torch.testing.assert_close(other(x), norm(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupBatchNorm(3, "rows"), "layout must be one of nodes, grid"),
        (lambda: GroupBatchNorm(3)(torch.randn(2, 12, 4)), r"x must have shape \[\.\.\., N, 3\].*channels last"),
        (lambda: GroupBatchNorm(3, "grid")(torch.randn(2, 4, 4, 6, 6)), r"\[B, 3, \|H\|, \.\.\.\], got \[2, 4"),
        (lambda: GroupBatchNorm(3)(torch.randn(1, 3)), "more than 1 value per channel"),
    ],
)
def test_norm_refuses_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("reduce", ["max", "mean", "sum"])
def test_coset_pool_is_the_reduction_over_each_coset_and_commutes(reduce):
    group = icosahedral()
    subgroup = group.subgroup([int((group.element_orders == 5).nonzero()[0])])
    pool = CosetPool(group, subgroup, reduce)
    x = torch.randn(2, 60, 3, dtype=torch.float64)
    out = pool(x)
    space = coset_space(group, subgroup)
    for place, g in enumerate(space.representatives.tolist()):
        values = x[:, group.cayley[g, subgroup]]
        wanted = values.amax(1) if reduce == "max" else getattr(values, reduce)(1)
        torch.testing.assert_close(out[:, place], wanted)
    for g in group.generators.tolist():
        back = group.cayley[group.inv[g]]
        torch.testing.assert_close(pool(x[:, back]), space.act(g, out, dim=1), atol=1e-12, rtol=0)
    right = group.cayley[:, int((group.element_orders == 3).nonzero()[0])]  # tears cosets apart
    assert not torch.allclose(pool(x[:, right]).sort(1).values, out.sort(1).values, atol=1e-3)


def test_pooling_over_the_whole_group_is_invariant_and_feeds_the_next_layer():
    group = dihedral(4)
    pool = CosetPool(group, [0, 4])
    conv = GroupConv(group, 3, 2, space_in=pool.space)
    assert conv(pool(torch.randn(5, 8, 3))).shape == (5, 8, 2)
    assert CosetPool(group, range(8))(torch.randn(5, 8, 3)).shape == (5, 1, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosetPool(dihedral(4), [0, 1]), "no subgroup"),
        (lambda: CosetPool(dihedral(4), [0, 4], "min"), "reduce must be one of"),
        (lambda: CosetPool(dihedral(4), [0, 4])(torch.randn(2, 7, 3)), r"\[\.\.\., 8, C\], got \[2, 7, 3\]"),
    ],
)
def test_coset_pool_refuses_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pointwise_functions_are_for_permutations():
    group = dihedral(4)
    signs = torch.diag(torch.tensor([1.0, -1.0])).expand(1, 2, 2)
    assert check_pointwise(group)
    assert check_pointwise(coset_space(group, [0, 4]))
    assert check_pointwise(coset_space(group, [0, 4]).permutation(range(8)))
    assert check_pointwise("8x0e")
    assert check_pointwise("8x0e + 4x0o", odd=True)
    assert check_pointwise(signs, odd=True)
    for bad in (group.real_irreps[-1], "4x1o", "4x0o", signs):
        with pytest.raises(ValueError, match="a pointwise non-linearity on irreps"):
            Pointwise(torch.relu, bad)
        with pytest.warns(UserWarning, match="a pointwise non-linearity on irreps"):
            assert not check_pointwise(bad, strict=False)
    with pytest.raises(TypeError, match="representation must be"):
        check_pointwise(3)


def test_the_check_is_right_about_what_commutes():
    group = dihedral(3)
    x = torch.randn(50, 2, dtype=torch.float64)
    turn = group.real_irreps[-1][1]
    assert not torch.allclose(torch.relu(x @ turn.T), torch.relu(x) @ turn.T, atol=1e-2)
    swap = torch.tensor([[0.0, 1], [1, 0]], dtype=torch.float64)
    assert check_pointwise(swap[None])
    torch.testing.assert_close(torch.relu(x @ swap), torch.relu(x) @ swap)


def test_fourier_features_are_linear_and_refuse_everything_else():
    group = dihedral(3)
    x, y = torch.randn(2, 5, 6, 2, dtype=torch.float64)
    features = FourierFeatures.of(group, x) + 2 * FourierFeatures.of(group, y)
    torch.testing.assert_close(features.signal(), x + 2 * y)
    for function in (torch.relu, torch.sigmoid, torch.nn.functional.gelu):
        with pytest.raises(ValueError, match="a pointwise non-linearity on irreps"):
            function(features)
    with pytest.raises(ValueError, match="one for each of the 3 irreps, got 1"):
        FourierFeatures(group, features.blocks[:1])
    for other in (1, FourierFeatures.of(dihedral(4), torch.randn(2, 8, 1))):
        with pytest.raises(ValueError, match="only features of the same group add"):
            features + other
    with pytest.raises(TypeError, match="group must be a FiniteGroup, got str"):
        CosetPool("D4", [0])
    abelian = FourierFeatures.of(dihedral(1), torch.randn(2, 2, 1))
    with pytest.raises(ValueError, match="a pointwise non-linearity on irreps"):
        torch.tanh(abelian)
