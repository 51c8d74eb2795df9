"""Group axioms, exp and log, Haar measure, quadrature, representations."""

import math

import numpy as np
import pytest
import torch
from e3nn import o3
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from geomeq.groups import (
    O3,
    SO2,
    SO3,
    cube_rotations,
    geodesic_distance,
    icosahedral_rotations,
    inversion,
    nearest_orthogonal,
    random_orthogonal,
    random_rotations,
    reflection,
    representation,
    rotation_from_vector,
    rotation_grid,
    split_parity,
    vector_from_rotation,
    wrap_angle,
)

GROUPS = [SO2, SO3, O3]
ANGLES = [0.0, 1e-300, 1e-12, 1e-8, 1e-5, 1e-3, 0.0999999, 0.1000001, 0.3, 1.0, 3.0, math.pi - 1e-5, math.pi - 1e-9]


def close(group, a, b, atol=1e-13):
    if group is SO2:
        torch.testing.assert_close(wrap_angle(a - b), torch.zeros_like(a), atol=atol, rtol=0)
    else:
        torch.testing.assert_close(a, b, atol=atol, rtol=0)


@pytest.mark.parametrize("group", GROUPS)
def test_axioms(group):
    a, b, c = (group.random(20, seed=s) for s in range(3))
    identity = group.identity(20)
    close(group, group.compose(group.compose(a, b), c), group.compose(a, group.compose(b, c)))
    close(group, group.compose(a, group.inverse(a)), identity)
    close(group, group.compose(group.inverse(a), a), identity)
    close(group, group.compose(a, identity), a)
    assert a.shape == (20, *group.element_shape)


@pytest.mark.parametrize("group", GROUPS)
def test_acting_in_turn_is_acting_by_the_product(group):
    a, b = group.random(20, seed=0), group.random(20, seed=1)
    x = torch.randn(20, group.space_dim, dtype=torch.float64)
    both = group.act(group.compose(a, b), x)
    torch.testing.assert_close(group.act(a, group.act(b, x)), both, atol=1e-13, rtol=0)
    torch.testing.assert_close(both.norm(dim=-1), x.norm(dim=-1))
    if group is not SO2:  # rotations of space do not commute: the check has teeth
        assert not torch.allclose(group.act(group.compose(b, a), x), both)


@pytest.mark.parametrize("group", GROUPS)
def test_adjoint_conjugates_exponentials(group):
    g = group.random(20, seed=0)
    v = 0.5 * torch.randn(20, group.dim, dtype=torch.float64)
    conjugate = group.compose(group.compose(g, group.exp(v)), group.inverse(g))
    moved = (group.adjoint(g) @ v[..., None])[..., 0]
    close(group, conjugate, group.exp(moved))


@pytest.mark.parametrize("angle", ANGLES)
def test_log_inverts_exp_at_every_angle(angle):
    axis = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=1)
    v = angle * axis
    back = SO3.log(SO3.exp(v))
    # relative to the angle: also the smallest rotations keep their digits
    torch.testing.assert_close(back, v, atol=1e-14 * min(1.0, max(angle, 1e-30)) * 10, rtol=1e-13)
    torch.testing.assert_close(SO3.exp(v), torch.from_numpy(Rotation.from_rotvec(v).as_matrix()), atol=1e-15, rtol=0)


def test_log_at_exactly_half_a_turn():
    axis = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=1)
    axis = torch.cat([axis, torch.eye(3, dtype=torch.float64)])
    turn = 2 * axis[:, :, None] * axis[:, None, :] - torch.eye(3, dtype=torch.float64)
    v = SO3.log(turn)
    torch.testing.assert_close(v.norm(dim=1), torch.full((53,), math.pi, dtype=torch.float64), atol=1e-14, rtol=0)
    torch.testing.assert_close(SO3.exp(v), turn, atol=1e-14, rtol=0)


@given(v=arrays(np.float64, (4, 3), elements=st.floats(-40, 40)))
@settings(max_examples=100, deadline=None)
def test_exp_inverts_log(v):
    rotation = SO3.exp(torch.from_numpy(v))
    torch.testing.assert_close(SO3.exp(SO3.log(rotation)), rotation, atol=1e-13, rtol=0)
    assert float(SO3.log(rotation).norm(dim=1).max()) <= math.pi + 1e-14


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.1, 1.0, 3.0])
def test_derivatives_of_exp_and_log(angle):
    v = (torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64) * angle).requires_grad_()
    assert torch.autograd.gradcheck(rotation_from_vector, v)
    assert torch.autograd.gradgradcheck(rotation_from_vector, v)
    jacobian = torch.autograd.functional.jacobian(lambda v: vector_from_rotation(rotation_from_vector(v)), v.detach())
    torch.testing.assert_close(jacobian[0, :, 0], torch.eye(3, dtype=torch.float64), atol=1e-8, rtol=0)


def test_float32_stays_accurate():
    v = torch.randn(200, 3)
    exact = SO3.exp(v.double())
    assert SO3.exp(v).dtype == torch.float32
    torch.testing.assert_close(SO3.exp(v).double(), exact, atol=5e-7, rtol=0)


def test_geodesic_distance():
    a = random_rotations(20, seed=0)
    v = torch.randn(20, 3, dtype=torch.float64)
    torch.testing.assert_close(geodesic_distance(a, a @ SO3.exp(1e-9 * v)), 1e-9 * v.norm(dim=1), atol=0, rtol=1e-6)
    b, g = random_rotations(20, seed=1), random_rotations(20, seed=2)
    torch.testing.assert_close(geodesic_distance(g @ a, g @ b), geodesic_distance(a, b))
    assert torch.isinf(O3.distance(a, -a)).all()


@given(a=st.floats(-1e3, 1e3), b=st.floats(-1e3, 1e3))
def test_angles_compose_modulo_a_turn(a, b):
    a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    total = SO2.compose(a, b)
    assert -math.pi < float(total) <= math.pi
    torch.testing.assert_close(SO2.matrix(total), SO2.matrix(a) @ SO2.matrix(b), atol=1e-12, rtol=0)


def test_half_a_turn_keeps_its_sign():
    pi = torch.tensor(math.pi, dtype=torch.float64)
    assert float(wrap_angle(pi)) == math.pi
    assert float(wrap_angle(-pi)) == math.pi
    assert float(wrap_angle(3 * pi)) == pytest.approx(math.pi)


@pytest.mark.parametrize(("draw", "group"), [(random_rotations, SO3), (random_orthogonal, O3)])
def test_random_elements_follow_the_haar_measure(draw, group):
    g = draw(40_000, seed=0)
    # matrix elements of irreps are orthogonal: the mean of D_ij D_kl is delta_ik delta_jl / (2l + 1)
    for irrep in ("1x1o", "1x2e"):
        d = representation(irrep, g).flatten(1)
        gram = d.T @ d / g.size(0)
        torch.testing.assert_close(
            gram, torch.eye(d.size(1), dtype=torch.float64) / d.size(1) ** 0.5, atol=0.01, rtol=0
        )
        torch.testing.assert_close(d.mean(0), torch.zeros(d.size(1), dtype=torch.float64), atol=0.015, rtol=0)
    sign = torch.linalg.det(g)
    assert abs(float(sign.mean()) - (group is SO3)) < 0.02


def test_random_repeats_with_its_seed():
    assert torch.equal(random_rotations(3, seed=5), random_rotations(3, seed=5))
    generator = torch.Generator().manual_seed(5)
    first, second = random_orthogonal(3, seed=generator), random_orthogonal(3, seed=generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, random_orthogonal(3, seed=5))
    state = torch.get_rng_state()
    SO2.random(3, seed=0)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("elements", "order"), [(cube_rotations(), 24), (icosahedral_rotations(), 60)])
def test_finite_subgroups_are_closed(elements, order):
    assert elements.shape == (order, 3, 3)
    assert torch.equal(elements[0], torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(torch.linalg.det(elements), torch.ones(order, dtype=torch.float64))
    products = elements[:, None] @ elements[None]
    match = (products[:, :, None] - elements).abs().amax(dim=(-1, -2)) < 1e-14
    assert (match.sum(-1) == 1).all()  # each product is exactly one element
    table = match.long().argmax(-1)
    assert all(sorted(row) == list(range(order)) for row in table.tolist())  # a Latin square


def test_icosahedral_group_maps_vertices_to_vertices():
    phi = (1 + 5**0.5) / 2
    vertices = torch.tensor([[0, s, t * phi] for s in (1, -1) for t in (1, -1)], dtype=torch.float64)
    vertices = torch.cat([vertices.roll(r, dims=1) for r in range(3)])
    moved = vertices @ icosahedral_rotations().transpose(1, 2)
    assert float(torch.cdist(moved, vertices.expand(60, -1, -1)).amin(dim=-1).max()) < 1e-7


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 6])
def test_grid_integrates_exactly_to_its_degree(degree):
    rotations, weights = rotation_grid(degree)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-14)
    for order in range(degree + 2):
        mean = torch.einsum("g,gij->ij", weights, representation(f"1x{order}e", rotations))
        error = float((mean - float(order == 0)).abs().max())
        assert error < 1e-13 if order <= degree else error > 1e-3  # and no farther: the statement is sharp


def test_grids_of_the_other_groups():
    angle, weight = SO2.grid(4)
    for m in range(5):
        assert float((weight * torch.cos(m * angle)).sum()) == pytest.approx(float(m == 0), abs=1e-14)
    g, weight = O3.grid(1)
    assert float(weight.sum()) == pytest.approx(1)
    assert float((weight * torch.linalg.det(g)).sum()) == pytest.approx(0, abs=1e-15)


IRREPS = "2x0e + 1x0o + 2x1o + 1x1e + 1x2e + 1x3o"


def test_representation_is_a_homomorphism():
    a, b = random_orthogonal(20, seed=0), random_orthogonal(20, seed=1)
    da, db = representation(IRREPS, a), representation(IRREPS, b)
    torch.testing.assert_close(da @ db, representation(IRREPS, a @ b), atol=1e-13, rtol=0)
    torch.testing.assert_close(da @ da.transpose(1, 2), torch.eye(da.size(-1), dtype=torch.float64).expand_as(da))
    assert representation(IRREPS, a[0]).shape == da.shape[1:]


def test_representation_agrees_with_e3nn():
    g = random_orthogonal(20, seed=0)
    ours = representation(IRREPS, g)
    torch.testing.assert_close(ours, o3.Irreps(IRREPS).D_from_matrix(g), atol=1e-5, rtol=0)  # e3nn goes through angles
    x = torch.randn(20, 3, dtype=torch.float64)
    irreps = o3.Irreps.spherical_harmonics(3)
    before = o3.spherical_harmonics(irreps, x, True)
    after = o3.spherical_harmonics(irreps, SO3.act(g, x), True)
    turned = (representation(irreps, g) @ before[..., None])[..., 0]
    torch.testing.assert_close(turned, after, atol=1e-12, rtol=0)


def test_representation_of_inversion_is_parity():
    d = representation(IRREPS, inversion()).diagonal()
    parity = torch.tensor([ir.p for mul, ir in o3.Irreps(IRREPS) for _ in range(mul * ir.dim)], dtype=torch.float64)
    torch.testing.assert_close(d, parity, atol=1e-14, rtol=0)


def test_representation_is_differentiable_at_the_identity():
    v = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: representation("1x1o + 1x2e", rotation_from_vector(v)), v)


def test_reflections_and_parity():
    normal = torch.randn(10, 3, dtype=torch.float64)
    mirror = reflection(normal)
    torch.testing.assert_close(SO3.act(mirror, normal), -normal)
    torch.testing.assert_close(mirror @ mirror, SO3.identity(10))
    rotation, sign = split_parity(mirror)
    assert (sign == -1).all()
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(10, dtype=torch.float64))
    rounded = nearest_orthogonal(mirror + 1e-4 * torch.randn(10, 3, 3, dtype=torch.float64))
    split_parity(rounded)
    torch.testing.assert_close(rounded, mirror, atol=1e-3, rtol=0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="orthogonal"):
        representation("1x1o", 2 * torch.eye(3))
    with pytest.raises(ValueError, match="nearest_orthogonal"):
        split_parity(torch.full((3, 3), torch.nan))
    with pytest.raises(ValueError, match="determinant -1"):
        O3.log(inversion())
    with pytest.raises(ValueError, match="must not be zero"):
        reflection(torch.zeros(3))
    with pytest.raises(ValueError, match="degree"):
        rotation_grid(-1)
    with pytest.raises(ValueError, match=r"v must have shape"):
        SO3.exp(torch.zeros(4))
    with pytest.raises(ValueError, match=r"rotation must have shape"):
        SO3.log(torch.zeros(3, 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_elements_on_cuda():
    v = torch.randn(50, 3, dtype=torch.float64)
    torch.testing.assert_close(SO3.exp(v.cuda()).cpu(), SO3.exp(v), atol=1e-14, rtol=0)
    g = random_orthogonal(20, seed=0)
    torch.testing.assert_close(representation(IRREPS, g.cuda()).cpu(), representation(IRREPS, g), atol=1e-13, rtol=0)
