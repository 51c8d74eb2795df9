"""SE(2): the sign of its logarithm, exact symmetry, its samples."""

import math

import pytest
import torch

from geomeq.groups import SE2, SO2, left_invariant_distance
from tests.groups._oracles import algebra_vectors


def log_with_the_wrong_sign(a):
    """What one published implementation computes: c2 = -h (x + y cot h)."""
    x, y, h = a[..., 0], a[..., 1], a[..., 2] / 2
    return torch.stack([h * x / torch.tan(h) + h * y, -h * (x + y / torch.tan(h)), 2 * h], dim=-1)


def test_log_has_the_right_sign():
    a = torch.tensor([0.3, 0.5, 1.0], dtype=torch.float64)
    c = SE2.log(a)
    assert c[1].item() == pytest.approx(0.3076, abs=1e-4)
    assert log_with_the_wrong_sign(a)[1].item() == pytest.approx(-0.608, abs=1e-3)
    torch.testing.assert_close(SE2.exp(c), a, atol=1e-15, rtol=0)
    assert not torch.allclose(SE2.exp(log_with_the_wrong_sign(a)), a, atol=0.1)


def test_distance_is_symmetric_to_the_last_bit_and_the_wrong_sign_is_not():
    a, b = SE2.random(500, seed=0), SE2.random(500, seed=1)
    assert torch.equal(SE2.local_log(a, b), -SE2.local_log(b, a))
    assert torch.equal(SE2.distance(a, b), SE2.distance(b, a))
    there, back = (log_with_the_wrong_sign(SE2.compose(SE2.inverse(p), q)).norm(dim=-1) for p, q in ((a, b), (b, a)))
    assert float(((there - back).abs() / there).median()) > 0.05


@pytest.mark.parametrize("turn", [math.pi, -math.pi, 3.0, 1e-9, 0.0])
def test_local_log_near_and_at_a_half_turn(turn):
    a = torch.tensor([0.2, -0.1, 0.4], dtype=torch.float64)
    b = torch.tensor([-0.5, 0.3, 0.4 + turn], dtype=torch.float64)
    c = SE2.local_log(a, b)
    reached = SE2.compose(a, SE2.exp(c))
    torch.testing.assert_close(reached[:2], b[:2], atol=1e-14, rtol=0)
    assert float(SO2.distance(reached[2], b[2])) < 1e-14
    assert float(SE2.local_log(b, a).norm() - c.norm()) == 0


@pytest.mark.parametrize("turns", [-2, -1, 1, 3])
def test_local_log_takes_angles_beyond_a_whole_turn(turns):
    a, b = SE2.random(50, seed=0), SE2.random(50, seed=1)
    beyond = b + torch.tensor([0, 0, 2 * math.pi * turns], dtype=torch.float64)
    torch.testing.assert_close(SE2.local_log(a, beyond), SE2.local_log(a, b), atol=1e-13, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_series_and_formula_meet(dtype):
    """Both sides of the threshold of the series give the same curve."""
    eps = torch.finfo(dtype).eps
    threshold = (1e-3 if dtype == torch.float64 else 0.1) ** 0.5
    angles = threshold * torch.tensor([1 - 1e-9, 1 + 1e-9], dtype=torch.float64)
    a = torch.stack([torch.ones(2).double(), torch.full((2,), 2.0).double(), angles], dim=-1)
    for function in (SE2.log, SE2.exp):
        below, above = function(a.to(dtype))
        wide = function(a)
        assert float((below - above).abs().max()) <= 8 * eps + 1e-8
        assert float((below.double() - wide[0]).abs().max()) <= 8 * eps


@pytest.mark.parametrize(("period", "count"), [(math.pi, 6), (math.pi, 5), (2 * math.pi, 8)])
def test_sample_holds_each_class_once(period, count):
    group = SE2(period)
    sample = group.sample((5, 4, count))
    angle = sample.element[:, 2].view(count, 20)
    torch.testing.assert_close(angle[:, 0], angle[:, -1], atol=0, rtol=0)
    assert angle[0, 0].item() == -period / 2
    wanted = torch.full((count,), period / count, dtype=torch.float64)
    steps = angle[:, 0].diff(append=angle[:1, 0] + period)
    torch.testing.assert_close(steps, wanted, atol=1e-14, rtol=0)
    assert float(sample.weight.sum()) == pytest.approx(5 * 4 / 25)
    assert sample.grid == (5, 4)
    assert sample.spacing == (0.2, 0.2, period / count)
    d = left_invariant_distance(group, sample.element[:, None], sample.element[None])
    assert float((d + torch.eye(len(d)) * 9).min()) > 0.9 * min(0.2, period / count)  # no class occurs twice


def test_positions_are_centred_exactly():
    element = SE2().sample((28, 28, 2)).element.view(2, 28, 28, 3)
    assert torch.equal(element[..., 0], -element[..., 0].flip(2))
    assert torch.equal(element[..., 1], -element[..., 1].flip(1))
    assert torch.equal(element[..., 0], element[..., 1].transpose(1, 2))


def test_sample_weights_integrate():
    sample = SE2(period=2 * math.pi).sample((40, 40, 8))
    x, y, angle = sample.element.T
    area = lambda f: float((sample.weight * f).sum())  # noqa: E731
    assert area(x**2) == pytest.approx(1 / 12, rel=1e-3)
    assert area(torch.cos(3 * angle) * (1 + x)) == pytest.approx(0, abs=1e-14)
    assert area(torch.cos(angle) ** 2 * y**2) == pytest.approx(1 / 24, rel=1e-3)


def angles_look_uniform(angle, count):
    """Every low trigonometric moment within five standard errors of zero."""
    moments = torch.stack([torch.exp(1j * m * angle).mean().abs() for m in range(1, 7)])
    return bool((moments < 5 / count**0.5).all())


def test_random_angles_are_haar_and_the_check_has_teeth():
    a = SE2.random(20000, seed=0)
    shifted = SE2.compose(SE2.exp(algebra_vectors(SE2(), 1)), a)
    assert angles_look_uniform(a[:, 2], 20000)
    assert angles_look_uniform(shifted[:, 2], 20000)
    assert not angles_look_uniform(SE2.exp(algebra_vectors(SE2(), 20000) * 0.7)[:, 2], 20000)
    assert float(a[:, :2].std()) == pytest.approx(1, abs=0.02)


def test_acting_on_the_plane_keeps_distances_and_handedness():
    a = SE2.random(20, seed=0)
    triangle = torch.tensor([[0.0, 0], [1, 0], [0, 2]], dtype=torch.float64)
    moved = SE2.act(a[:, None], triangle)
    sides = moved[:, 1:] - moved[:, :1]
    torch.testing.assert_close(torch.linalg.det(sides), torch.full((20,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(sides.norm(dim=-1), torch.tensor([[1.0, 2.0]], dtype=torch.float64).expand(20, 2))
