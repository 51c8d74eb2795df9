import pytest
import torch

from geomeq.groups import icosphere
from geomeq.nn import GridPool, GridUnpool, IcospherePool, IcosphereUnpool, from_batch, global_pool, to_batch
from tests.nn._group_graphs import quarter_turn

DTYPES = (torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("q", [1, 2, 3])
def test_grid_pool_is_that_of_images(dtype, q):
    images = torch.randn(2, 3, 6, 12, dtype=dtype)  # ny = 6, nx = 12
    for reduce, pool in (("max", torch.nn.functional.max_pool2d), ("mean", torch.nn.functional.avg_pool2d)):
        got = from_batch(GridPool((12, 6), q=q, reduce=reduce)(to_batch(images)), (12 // q, 6 // q))
        torch.testing.assert_close(got, pool(images, q))


def test_grid_pool_of_volumes_is_that_of_volumes():
    volumes = torch.randn(2, 3, 2, 4, 6)
    got = from_batch(GridPool((6, 4, 2), reduce="max")(to_batch(volumes)), (3, 2, 1))
    torch.testing.assert_close(got, torch.nn.functional.max_pool3d(volumes, 2))


@pytest.mark.parametrize("reduce", ["max", "mean", "random"])
@pytest.mark.parametrize("grid", [(4, 6), (4, 2, 6)])
def test_pool_undoes_unpool(reduce, grid):
    x = torch.randn(3, 2 * torch.Size(grid).numel() // 2 ** len(grid), 5)
    torch.testing.assert_close(GridPool(grid, 2, 2, reduce)(GridUnpool(grid, 2, 2)(x)), x)
    y = torch.randn(3, 2 * torch.Size(grid).numel(), 5)
    assert not torch.allclose(GridUnpool(grid, 2, 2)(GridPool(grid, 2, 2, "mean")(y)), y)  # it loses what it must


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_grid_pool_commutes_with_a_quarter_turn(reduce):
    fine, coarse = quarter_turn(6, 4), quarter_turn(3, 4)
    x, pool, unpool = torch.randn(6 * 6 * 4, 3), GridPool((6, 6), 4, 2, reduce), GridUnpool((6, 6), 4, 2)
    torch.testing.assert_close(pool(x[fine]), pool(x)[coarse])
    torch.testing.assert_close(unpool(pool(x)[coarse]), unpool(pool(x))[fine])
    shifted = torch.arange(6 * 6 * 4).view(4, 6, 6).roll(1, 2).reshape(-1)  # the check has teeth
    assert not torch.allclose(pool(x[shifted]).sort(0).values, pool(x).sort(0).values)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_icosphere_clusters_are_a_vertex_and_its_neighbours(level):
    pool, sphere = IcospherePool(level, reduce="mean"), icosphere(level)
    neighbours = [{v} for v in range(len(sphere.pos))]
    for a, b in sphere.edge.T.tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)
    assert pool.table.shape == (10 * 4 ** (level - 1) + 2, 7)
    for vertex, (members, count) in enumerate(zip(pool.table.tolist(), pool.count.tolist(), strict=True)):
        assert set(members) == neighbours[vertex]
        assert members[0] == vertex
        assert count == (6 if vertex < 12 else 7)


@pytest.mark.parametrize("reduce", ["max", "mean", "random"])
def test_icosphere_pool_of_each_orientation_by_itself(reduce):
    x, pool = torch.randn(2, 3, 162, 4), IcospherePool(2, reduce=reduce).eval()
    over = IcospherePool(2, 3, reduce).eval()(x.flatten(1, 2))
    torch.testing.assert_close(over.unflatten(1, (3, 42)), torch.stack([pool(x[:, k]) for k in range(3)], dim=1))
    both = IcosphereUnpool(2, 3)(over).unflatten(1, (3, 162))
    torch.testing.assert_close(both[:, 1], IcosphereUnpool(2)(over.unflatten(1, (3, 42))[:, 1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_icosphere_means_keep_constants_and_nearly_keep_linear_functions(dtype):
    pool, unpool, sphere = IcospherePool(4, reduce="mean"), IcosphereUnpool(4), icosphere(4).pos.to(dtype)
    torch.testing.assert_close(pool(unpool(torch.ones(642, 1, dtype=dtype))), torch.ones(642, 1, dtype=dtype))
    assert (unpool(sphere[:642]) - sphere).abs().max() < 0.01  # chords instead of arcs
    assert (pool(sphere) - sphere[:642]).abs().max() < 0.01
    torch.testing.assert_close(unpool(sphere[:642])[:642], sphere[:642])


def test_icosphere_unpool_by_max_takes_the_larger_end():
    x, parents = torch.randn(42, 2), icosphere(2).parents
    torch.testing.assert_close(IcosphereUnpool(2, reduce="max")(x), torch.maximum(x[parents[:, 0]], x[parents[:, 1]]))


def test_random_draws_members_anew_while_training_and_means_afterwards():
    pool, x = IcospherePool(1, reduce="random"), torch.randn(42, 3)
    drawn = torch.stack([pool(x) for _ in range(400)])
    members = x[pool.table]
    assert (drawn[:, :, None] == members).all(-1).any(-1).all()  # always one member, in all channels alike
    assert not torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(drawn.mean(0), pool.eval()(x), atol=0.25, rtol=0)  # 400 draws, sigma / 20
    torch.testing.assert_close(pool(x), IcospherePool(1, reduce="mean")(x))


def test_gradients_of_a_maximum_are_shared_among_equals():
    x = torch.zeros(4, 1, requires_grad=True)
    GridPool((2, 2))(x).sum().backward()
    assert x.grad.flatten().tolist() == [0.25] * 4


def test_global_pool_and_quadrature():
    x, area = torch.randn(2, 42, 3, dtype=torch.float64), icosphere(1).area
    torch.testing.assert_close(global_pool(x), x.max(1).values)
    torch.testing.assert_close(global_pool(x, "mean"), x.mean(1))
    mean_z2 = global_pool(icosphere(4).pos[:, 2:].square(), "mean", icosphere(4).area)
    torch.testing.assert_close(mean_z2, torch.tensor([1 / 3], dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(global_pool(x, "mean", area), (x * area[:, None]).sum(1) / area.sum())


def test_compiles_and_holds_nothing_in_the_state(compiled):
    pool, unpool, x = GridPool((4, 4), 2), GridUnpool((4, 4), 2), torch.randn(3, 32, 5)
    function = compiled(lambda x: unpool(pool(x)), backend="aot_eager")
    torch.testing.assert_close(function(x), unpool(pool(x)))
    assert not pool.state_dict()
    assert not unpool.state_dict()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: GridPool((4, 5)),
            r"every side of the grid \(4, 5\) must be a multiple of q = 2.*resample to \(4, 4\)",
        ),
        (lambda: GridUnpool((4, 5)), "must be a multiple of q = 2"),
        (lambda: GridPool((4, 4), q=0), "must be positive integers"),
        (lambda: GridPool((), q=2), "must be positive integers"),
        (lambda: GridPool((4, 4), reduce="sum"), "reduce must be one of max, mean, random, got 'sum'"),
        (lambda: IcospherePool(0), "level must be an integer from 1, got 0"),
        (lambda: IcospherePool(1, 0), "num_orientations must be a positive integer, got 0"),
        (lambda: IcosphereUnpool(1, reduce="random"), "reduce must be 'max' or 'mean'"),
        (lambda: GridPool((4, 4))(torch.zeros(3, 15, 2)), r"x must have shape \[..., 16, C\], got \[3, 15, 2\]"),
        (lambda: GridUnpool((4, 4))(torch.zeros(3, 16, 2)), r"x must have shape \[..., 4, C\]"),
        (lambda: global_pool(torch.zeros(3, 2), "sum"), "reduce must be 'max' or 'mean'"),
        (lambda: global_pool(torch.zeros(3, 2), "max", torch.ones(3)), "area weighs a mean"),
        (lambda: global_pool(torch.zeros(3, 2), "mean", torch.ones(2)), "area must have shape"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
