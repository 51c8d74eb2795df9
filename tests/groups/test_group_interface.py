"""What every group and the sphere share, against matrices written down from the definition."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from geomeq.groups import O3, S2, SE2, SE3, SO2, SO3, Group, GroupSample, Rn, ScaleTranslation, Space, wrap_angle
from tests.groups._oracles import GROUPS, algebra_matrix, algebra_vectors, element_matrix, names, tolerance

DTYPES = [torch.float64, torch.float32]
SIZES = {"Rn": lambda n: (4, 3, 2)[:n], "ScaleTranslation": lambda n: (*(4, 3, 2)[: n - 1], 3)}


def size_of(group):
    plain = {SO2: 5, SE2: (4, 3, 6), SO3: (1, 4), SE3: (2, 3, 2, 12), O3: (1, 2), S2: 1}
    return plain.get(type(group)) or SIZES[type(group).__name__](group.dim)


def same(group, a, b, **tolerance):
    """Equal as elements: angles up to whole turns."""
    if isinstance(group, (SO2, SE2)):
        turn = wrap_angle(b - a) if isinstance(group, SO2) else wrap_angle(b[..., 2] - a[..., 2])
        torch.testing.assert_close(turn, torch.zeros_like(turn), **tolerance)
        a, b = (a, a) if isinstance(group, SO2) else (a[..., :2], b[..., :2])
    torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize("group", **names)
def test_is_a_group_by_the_protocol(group):
    assert isinstance(group, Group)
    assert isinstance(group, Space)
    assert group.random(7, seed=0).shape == (7, *group.element_shape)
    assert group.identity(2, 3).shape == (2, 3, *group.element_shape)
    assert not isinstance(S2(), Group)
    assert isinstance(S2(), Space)
    assert not isinstance(object(), Space)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group", **names)
def test_axioms(group, dtype):
    a, b, c = (group.random(30, seed=seed).to(dtype) for seed in range(3))
    identity = group.identity(30).to(dtype)
    close = {key: 100 * value for key, value in tolerance(dtype).items()}  # scales multiply up
    same(group, group.compose(group.compose(a, b), c), group.compose(a, group.compose(b, c)), **close)
    same(group, group.compose(a, identity), a, **close)
    same(group, group.compose(identity, a), a, **close)
    same(group, group.compose(a, group.inverse(a)), identity, **close)
    same(group, group.compose(group.inverse(a), a), identity, **close)
    assert group.compose(a, b).dtype == dtype


@pytest.mark.parametrize("group", **names)
def test_products_and_actions_are_those_of_the_matrices(group):
    a, b = group.random(10, seed=0), group.random(10, seed=1)
    x = torch.randn(10, group.space_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    product, moved = group.compose(a, b), group.act(a, x)
    for i in range(10):
        wanted = element_matrix(group, a[i]) @ element_matrix(group, b[i])
        np.testing.assert_allclose(element_matrix(group, product[i]), wanted, atol=1e-12)
        image = element_matrix(group, a[i]) @ np.append(x[i].numpy(), 1.0)
        np.testing.assert_allclose(moved[i].numpy(), image[:-1], atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group", **names)
def test_acting_in_turn_is_acting_by_the_product(group, dtype):
    a, b = group.random(30, seed=0).to(dtype), group.random(30, seed=1).to(dtype)
    x = torch.randn(30, group.space_dim, generator=torch.Generator().manual_seed(2)).to(dtype)
    close = {key: 100 * value for key, value in tolerance(dtype).items()}
    torch.testing.assert_close(group.act(group.compose(a, b), x), group.act(a, group.act(b, x)), **close)
    torch.testing.assert_close(group.act(group.identity(30).to(dtype), x), x, **close)
    if not isinstance(group, (Rn, SO2)):  # the others do not commute, so the order matters
        wrong = group.act(group.compose(b, a), x)
        assert not torch.allclose(wrong, group.act(a, group.act(b, x)), atol=1e-2) or group.dim == 1


@pytest.mark.parametrize("group", **names)
def test_exp_is_the_matrix_exponential_and_log_the_matrix_logarithm(group):
    v = algebra_vectors(group, 20, reach=3.0)
    a = group.exp(v)
    for i in range(20):
        np.testing.assert_allclose(
            element_matrix(group, a[i]), scipy.linalg.expm(algebra_matrix(group, v[i])), atol=1e-12
        )
        logm = scipy.linalg.logm(element_matrix(group, a[i]))
        np.testing.assert_allclose(algebra_matrix(group, group.log(a)[i]), np.real(logm), atol=1e-10)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 2e-3)])
@pytest.mark.parametrize("reach", [1e-300, 1e-12, 1e-5, 0.03, 0.3, 2.0, math.pi - 1e-3])
@pytest.mark.parametrize("group", **names)
def test_log_undoes_exp_at_every_size(group, reach, dtype, bound):
    v = algebra_vectors(group, 50, reach=math.pi - 1e-3)
    v = (v * min(1.0, reach / (math.pi - 1e-3))).to(dtype)
    back = group.log(group.exp(v))
    assert back.dtype == dtype
    # relative to the vector: small ones keep their digits in float64
    error = float((back - v).norm(dim=-1).amax() / max(float(v.norm(dim=-1).amax()), 1e-30))
    assert error <= bound


@pytest.mark.parametrize("group", **names)
def test_log_of_the_inverse_is_minus_the_log(group):
    a = group.exp(algebra_vectors(group, 50))
    torch.testing.assert_close(group.log(group.inverse(a)), -group.log(a), atol=1e-11, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group", **names)
def test_adjoint_is_conjugation(group, dtype):
    a, v = group.random(30, seed=3).to(dtype), algebra_vectors(group, 30, reach=1.0).to(dtype)
    turned = (group.adjoint(a) @ v[..., None])[..., 0]
    conjugate = group.compose(group.compose(a, group.exp(v)), group.inverse(a))
    close = {key: 100 * value for key, value in tolerance(dtype).items()}
    same(group, group.exp(turned), conjugate, **close)
    ab = group.adjoint(group.compose(a, a.flip(0)))
    torch.testing.assert_close(ab, group.adjoint(a) @ group.adjoint(a.flip(0)), **close)


@pytest.mark.parametrize("group", **names)
def test_local_log_is_left_invariant(group):
    a, b, u = (group.random(200, seed=seed) for seed in range(3))
    moved = group.local_log(group.compose(u, a), group.compose(u, b))
    still = group.local_log(a, b)
    scale = still.norm(dim=-1).clamp(min=1)
    assert float(((moved.norm(dim=-1) - still.norm(dim=-1)).abs() / scale).median()) < 1e-14
    torch.testing.assert_close(still, group.log(group.compose(group.inverse(a), b)), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("where", [0.0, 1.0])
@pytest.mark.parametrize("group", **names)
def test_gradients_of_exp_and_log_are_right_at_the_identity_and_off_it(group, where):
    v = (algebra_vectors(group, 3, reach=2.5) * where).requires_grad_()
    assert torch.autograd.gradcheck(group.exp, v, atol=1e-7)
    a = group.exp(v.detach()).requires_grad_()
    assert torch.autograd.gradcheck(group.log, a, atol=1e-7)
    b = group.random(3, seed=8).requires_grad_()
    assert torch.autograd.gradcheck(group.local_log, (a, b), atol=1e-7)


@pytest.mark.parametrize("group", **names)
def test_gradients_of_log_of_exp_are_finite_in_float32(group):
    v = torch.zeros(4, group.dim, requires_grad=True)
    group.log(group.exp(v)).sum().backward()
    torch.testing.assert_close(v.grad, torch.ones_like(v))


@pytest.mark.parametrize("group", [*GROUPS, O3(), S2()], ids=repr)
def test_sample_has_the_promised_form(group):
    sample = group.sample(size_of(group))
    nodes = sample.num_orientations * sample.num_spatial
    assert sample.num_nodes == nodes
    assert sample.element.shape == (nodes, *group.element_shape)
    assert sample.weight.shape == (nodes,)
    assert bool((sample.weight > 0).all())
    assert sample.pos.size(0) == nodes
    assert sample.pos.size(1) in (1, 2, 3, 4)
    assert {sample.element.dtype, sample.weight.dtype, sample.pos.dtype} == {torch.float64}
    if sample.grid is not None:
        assert math.prod(sample.grid) == sample.num_spatial
    assert len(torch.unique(sample.pos.round(decimals=9), dim=0)) == nodes  # no two on one spot


@pytest.mark.parametrize("group", [SO2(), SO3(), O3(), S2()], ids=repr)
def test_weights_of_a_compact_sample_add_up_to_one(group):
    assert float(group.sample(size_of(group)).weight.sum()) == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("group", [*GROUPS, O3(), S2()], ids=repr)
def test_random_follows_its_seed_and_dtype(group):
    torch.testing.assert_close(group.random(4, seed=1), group.random(4, seed=1), atol=0, rtol=0)
    generator = torch.Generator().manual_seed(1)
    torch.testing.assert_close(group.random(4, seed=generator), group.random(4, seed=1), atol=0, rtol=0)
    assert not torch.equal(group.random(4, seed=1), group.random(4, seed=2))
    assert group.random(2, 3, seed=1, dtype=torch.float32).dtype == torch.float32
    assert group.random(2, 3, seed=1).shape == (2, 3, *group.element_shape)


@pytest.mark.parametrize("group", [*GROUPS, S2()], ids=repr)
def test_bad_shapes_and_sizes_are_refused(group):
    with pytest.raises(ValueError, match="must have shape"):
        group.exp(torch.zeros(5, group.dim + 1))
    if not isinstance(group, SO2):
        with pytest.raises(ValueError, match="must have shape"):
            group.log(torch.zeros(*group.element_shape[:-1], group.element_shape[-1] + 1))
    with pytest.raises(ValueError, match="must have shape"):
        group.act(SO3.identity() if isinstance(group, S2) else group.identity(), torch.zeros(group.space_dim + 1))
    for size in [(), (2, 2, 2, 2, 2, 2), -3, (1.5,)]:
        with pytest.raises(ValueError, match="is sampled by|level must be"):
            group.sample(size)


@pytest.mark.parametrize("kind", [SE2, SO3])
def test_period_is_a_half_or_a_whole_turn(kind):
    assert len(kind().symmetry) == 2
    assert len(kind(period=2 * math.pi).symmetry) == 1
    with pytest.raises(ValueError, match="period must be"):
        kind(period=1.0)
    assert repr(kind()) == f"{kind.__name__}()"
    assert repr(kind(2 * math.pi)) == f"{kind.__name__}(period=2*pi)"


@pytest.mark.parametrize("group", **names)
def test_symmetry_is_a_subgroup_with_the_identity_first(group):
    elements = group.symmetry
    same(group, elements[0], group.identity(), atol=1e-15, rtol=0)
    squares = group.compose(elements, elements)  # of order 1 or 2
    same(group, squares, group.identity(len(elements)), atol=1e-15, rtol=0)


def test_a_class_of_ones_own_gets_local_log():
    class Twice(Rn):
        """R^n on which a step counts double."""

        def log(self, a):
            return 2 * a

    group = Twice(2)
    torch.testing.assert_close(group.local_log(torch.zeros(2), torch.ones(2)), torch.full((2,), 2.0))


def test_a_sample_with_a_missing_row_is_refused():
    rows = torch.zeros(3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="element must have one row for each of the 2 x 2 nodes"):
        GroupSample(rows, rows[:, 0], rows, 2, 2, None, ())


@pytest.mark.parametrize("group", [ScaleTranslation(2), Rn(2), SE2(), SE3()], ids=repr)
def test_grid_nodes_are_numbered_by_orientation_then_place(group):
    size = {3: (4, 3, 6), 2: (4, 3), 6: (4, 3, 2, 12)}[group.dim]
    sample = group.sample(size)
    nx, ny = sample.grid[:2]
    origin = torch.zeros(group.space_dim, dtype=torch.float64)
    place = group.act(sample.element, origin.expand(sample.num_nodes, -1))
    k, iy, ix = 0, 2, 3
    node = k * sample.num_spatial + iy * nx + ix
    torch.testing.assert_close(place[node, 0].item(), (ix - (nx - 1) / 2) / max(sample.grid))
    torch.testing.assert_close(place[node, 1].item(), (iy - (ny - 1) / 2) / max(sample.grid))
    assert sample.spacing[0] == pytest.approx(1 / max(sample.grid))
    if sample.num_orientations > 1:
        torch.testing.assert_close(place[: sample.num_spatial], place[-sample.num_spatial :])
