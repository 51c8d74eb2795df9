"""The sphere: local coordinates by the horizontal lift, distances, weights."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from geomeq.groups import S2, SO3, left_invariant_distance, sphere_frame
from tests.groups._oracles import algebra_matrix

POLES = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0, 0, 1]], dtype=torch.float64)


def zyz(gamma, beta, alpha):
    """The rotation by three turns, each a matrix exponential."""
    turn = lambda v: scipy.linalg.expm(algebra_matrix(SO3(), torch.tensor(v, dtype=torch.float64))[:3, :3])  # noqa: E731
    return turn([0.0, 0, gamma]) @ turn([0.0, beta, 0]) @ turn([0.0, 0, alpha])


def test_frame_is_the_turn_by_polar_angle_and_azimuth():
    p = S2.random(20, seed=0)
    for point, frame in zip(p, sphere_frame(p), strict=True):
        x, y, z = point.tolist()
        np.testing.assert_allclose(frame.numpy(), zyz(math.atan2(y, x), math.atan2(math.hypot(x, y), z), 0), atol=1e-14)
    poles = sphere_frame(POLES)
    torch.testing.assert_close(poles[:, :, 2], POLES)
    torch.testing.assert_close(torch.linalg.det(poles), torch.ones(3, dtype=torch.float64))


def test_local_log_is_the_horizontal_lift():
    """log of Rz(g) Ry(b) Rz(-g) for the angles of the relative rotation, third entry zero."""
    a, b = S2.random(20, seed=0), S2.random(20, seed=1)
    relative = sphere_frame(a).transpose(1, 2) @ sphere_frame(b)
    got = S2.local_log(a, b)
    for q, c in zip(relative, got, strict=True):
        x, y, z = q[:, 2].tolist()
        gamma, beta = math.atan2(y, x), math.atan2(math.hypot(x, y), z)
        lift = SO3.log(torch.from_numpy(zyz(gamma, beta, -gamma)))
        torch.testing.assert_close(lift, torch.cat([c, c.new_zeros(1)]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_length_of_local_log_is_the_great_circle_distance(dtype, bound):
    a, b = S2.random(200, seed=0), S2.random(200, seed=1)
    b[:50] = a[:50] + 1e-6 * b[:50]  # close pairs
    b = b / b.norm(dim=1, keepdim=True)
    a, b = a.to(dtype), b.to(dtype)
    torch.testing.assert_close(S2.local_log(a, b).norm(dim=1), S2.distance(a, b), atol=4 * bound, rtol=0)
    torch.testing.assert_close(S2.distance(a, b), S2.distance(b, a), atol=0, rtol=0)
    assert bool((S2.distance(a, a) == 0).all())
    assert float((S2.distance(a, -a) - math.pi).abs().max()) < bound * 4


def test_distance_keeps_digits_where_the_arc_cosine_loses_them():
    a = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    b = S2.act(SO3.exp(torch.tensor([0.0, 1e-9, 0.0], dtype=torch.float64)), a)
    assert float(S2.distance(a, b)) == pytest.approx(1e-9, rel=1e-6)
    assert abs(float(torch.arccos((a * b).sum().clamp(max=1))) - 1e-9) > 1e-10


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
@pytest.mark.parametrize("angle", [0.0, 1e-200, 1e-9, 0.0316, 0.0317, 0.17, 0.18, 1.0, 3.0, math.pi - 1e-5])
def test_log_undoes_exp(angle, dtype, bound):
    v = torch.tensor([[0.6, 0.8], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).mul(angle).to(dtype)
    p = S2.exp(v)
    torch.testing.assert_close(p.norm(dim=1), torch.ones(3, dtype=dtype), atol=bound, rtol=0)
    torch.testing.assert_close(S2.log(p), v, atol=bound * (1 if angle < 3.1 else 1e2), rtol=0)
    lifted = SO3.act(SO3.exp(torch.nn.functional.pad(v, (0, 1))), POLES.to(dtype)[:1])
    torch.testing.assert_close(p, lifted, atol=bound, rtol=0)


def test_poles_and_gradients_are_finite():
    assert torch.equal(S2.log(POLES), torch.tensor([[0, 0], [0, math.pi], [0, 0]], dtype=torch.float64))
    v = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(S2.exp, v)
    p = torch.cat([POLES[:1], S2.random(4, seed=3)]).requires_grad_()
    assert torch.autograd.gradcheck(S2.log, p)
    p.grad = None
    S2.local_log(p[1:], p[1:].flip(0)).sum().backward()
    assert bool(torch.isfinite(p.grad).all())


def test_distance_is_invariant_under_rotations():
    a, b, g = S2.random(100, seed=0), S2.random(100, seed=1), SO3.random(100, seed=2)
    moved = left_invariant_distance(S2(), S2.act(g, a), S2.act(g, b), metric=(2.0, 2.0))
    torch.testing.assert_close(moved, 2**0.5 * S2.distance(a, b), atol=1e-13, rtol=0)


def test_an_anisotropic_metric_is_refused():
    with pytest.raises(ValueError, match="multiple of the unit matrix.*lift to SO3"):
        left_invariant_distance(S2(), POLES, POLES, metric=(1.0, 10.0))


@pytest.mark.parametrize("level", [0, 1, 3])
def test_weights_integrate_polynomials(level):
    """Up to degree 5 the symmetry of the icosahedron makes every sum exact; degree 6 shows the error of the weights."""
    sample = S2().sample(level)
    x, y, z = sample.element.T
    mean = lambda f: float((sample.weight * f).sum())  # noqa: E731
    assert mean(x**2) == pytest.approx(1 / 3, abs=1e-15)
    assert mean(x**4) == pytest.approx(1 / 5, abs=1e-15)
    assert mean(x**2 * y**2) == pytest.approx(1 / 15, abs=1e-15)
    assert mean(x * y * z**2 + z + x**3) == pytest.approx(0, abs=1e-15)
    # the invariant of degree 6 along a vertex: its mean over the sphere is 1/7
    vertex = sample.element[0]
    assert mean((sample.element @ vertex) ** 6) == pytest.approx(1 / 7, abs=[0.08, 0.01, 0, 2e-4][level])


def looks_uniform(p):
    """Moments of degree 1 and 2 within five standard errors."""
    count = len(p)
    second = p.T @ p / count - torch.eye(3, dtype=p.dtype) / 3
    return bool(p.mean(dim=0).abs().max() < 5 / count**0.5) and bool(second.abs().max() < 5 / count**0.5)


def test_random_points_are_uniform_and_the_check_has_teeth():
    assert looks_uniform(S2.random(20000, seed=0))
    beta, gamma = math.pi * torch.rand(20000).double(), 2 * math.pi * torch.rand(20000).double()
    crowded = torch.stack([beta.sin() * gamma.cos(), beta.sin() * gamma.sin(), beta.cos()], dim=1)
    assert not looks_uniform(crowded)  # uniform angles crowd at the poles


def test_sample_of_so3_lies_over_the_sphere_and_integrates():
    group, level, count = SO3(period=2 * math.pi), 1, 5
    sample = group.sample((level, count))
    points = S2().sample(level).element
    torch.testing.assert_close(sample.element[:, :, 2].view(count, -1, 3), points.expand(count, -1, -1))
    directions = sample.element.view(count, -1, 3, 3)
    step = directions[:-1].transpose(-1, -2) @ directions[1:]
    wanted = torch.tensor([0, 0, 2 * math.pi / count], dtype=torch.float64).expand(count - 1, len(points), 3)
    torch.testing.assert_close(SO3.log(step), wanted, atol=1e-13, rtol=0)
    weighted = sample.weight[:, None, None] * sample.element
    assert float(weighted.sum(dim=0).abs().max()) < 1e-15
    second = torch.einsum("nij,nkl->ijkl", weighted, sample.element)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(second, torch.einsum("ik,jl->ijkl", eye, eye) / 3, atol=1e-15, rtol=0)
    x, y, z = points[3].tolist()
    gamma, beta = math.atan2(y, x), math.atan2(math.hypot(x, y), z)
    np.testing.assert_allclose(directions[0, 3].numpy(), zyz(gamma, beta, -math.pi), atol=1e-14)


@pytest.mark.parametrize("size", [(1,), (1, 0), (-1, 3), 2, (1, 2, 3)])
def test_bad_sizes_of_so3_are_refused(size):
    with pytest.raises(ValueError, match="is sampled by|level must be"):
        SO3().sample(size)
