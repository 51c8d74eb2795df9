"""Left-invariant distances: invariance, symmetry, the quotient by half turns, exact special cases, bad metrics."""

import math

import numpy as np
import pytest
import torch

from geomeq.groups import (
    O3,
    S2,
    SE2,
    SE3,
    SO2,
    SO3,
    Rn,
    ScaleTranslation,
    homogeneous_length,
    left_invariant_distance,
    metric_matrix,
    squared_length,
)
from tests.groups._oracles import GROUPS, names

ANISOTROPIC = (1.0, 10.0, 0.3)


def spread_metric(group):
    return torch.linspace(0.5, 4.0, group.dim, dtype=torch.float64)


@pytest.mark.parametrize("group", **names)
def test_distance_is_left_invariant_but_not_right_invariant(group):
    a, b, u = (group.exp(0.5 * torch.randn(200, group.dim, dtype=torch.float64)) for _ in range(3))
    d = left_invariant_distance(group, a, b, spread_metric(group))
    moved = left_invariant_distance(group, group.compose(u, a), group.compose(u, b), spread_metric(group))
    assert float((moved - d).abs().max()) <= 1e-13 * max(1.0, float(d.max()))
    if not isinstance(group, (Rn, SO2)):
        right = left_invariant_distance(group, group.compose(a, u), group.compose(b, u), spread_metric(group))
        assert not torch.allclose(right, d, rtol=0.05)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("group", [*GROUPS, S2()], ids=repr)
def test_distance_is_symmetric_and_zero_on_the_diagonal(group, dtype, bound):
    metric = None if isinstance(group, S2) else spread_metric(group)
    a, b = group.random(500, seed=0).to(dtype), group.random(500, seed=1).to(dtype)
    there, back = left_invariant_distance(group, a, b, metric), left_invariant_distance(group, b, a, metric)
    assert there.dtype == dtype
    assert float(((there - back).abs() / there.clamp(min=1)).max()) <= bound
    same = left_invariant_distance(group, a, a, metric)
    assert bool(torch.isfinite(same).all())  # by the arc cosine, rounding makes some of these NaN
    assert float((same / a.reshape(500, -1).norm(dim=1).clamp(min=1)).max()) <= (
        1e-14 if dtype == torch.float64 else 3e-6
    )


@pytest.mark.parametrize("group", [SE2(), SO3()], ids=repr)
@pytest.mark.parametrize("dist", ["log", "rho_b"])
def test_half_turns_are_divided_out(group, dist):
    whole = type(group)(period=2 * math.pi)
    a, b = group.random(200, seed=0), group.random(200, seed=1)
    half_turn = group.symmetry[1]
    d = left_invariant_distance(group, a, b, ANISOTROPIC, dist=dist)
    for p, q in ((a, group.compose(b, half_turn)), (group.compose(a, half_turn), b)):
        torch.testing.assert_close(left_invariant_distance(group, p, q, ANISOTROPIC, dist=dist), d)
    plain = left_invariant_distance(whole, a, b, ANISOTROPIC, dist=dist)
    other = left_invariant_distance(whole, a, group.compose(b, half_turn), ANISOTROPIC, dist=dist)
    torch.testing.assert_close(d, torch.minimum(plain, other))
    assert not torch.allclose(d, plain)


def test_a_half_turn_is_the_two_offsets_that_matter():
    """The formula with three offsets -pi, 0, pi and unwrapped angles finds nothing shorter."""
    a, b = SE2.random(500, seed=0), SE2.random(500, seed=1)
    relative = SE2.compose(SE2.inverse(a), b)
    images = [SE2.log(relative + torch.tensor([0, 0, k * math.pi], dtype=torch.float64)) for k in (-1, 0, 1)]
    metric = torch.diag(torch.tensor(ANISOTROPIC, dtype=torch.float64))
    best = torch.stack([squared_length(c, metric) for c in images]).amin(dim=0).sqrt()
    torch.testing.assert_close(left_invariant_distance(SE2(), a, b, ANISOTROPIC), best)


ISOTROPIC = [
    (Rn(3), (1.0, 2.0, 3.0)),
    (SO2(), (4.0,)),
    (SE2(), (2.0, 2.0, 0.5)),
    (SE2(period=2 * math.pi), (2.0, 2.0, 0.5)),
    (SO3(), (2.0, 2.0, 2.0)),
    (SE3(), (2.0, 2.0, 2.0, 0.5, 0.5, 0.5)),
    (ScaleTranslation(2), (2.0, 2.0, 0.5)),
    (S2(), (3.0, 3.0)),
]


@pytest.mark.parametrize(("group", "metric"), ISOTROPIC, ids=lambda value: repr(value))
def test_log_distance_agrees_with_the_geodesic_nearby_and_is_never_below_it(group, metric):
    a, b = group.random(300, seed=0), group.random(300, seed=1)
    exact = left_invariant_distance(group, a, b, metric, dist="geodesic")
    log = left_invariant_distance(group, a, b, metric)
    assert bool((log >= exact * (1 - 1e-12)).all())
    if isinstance(group, (Rn, SO2, SO3, S2)):  # bi-invariant: the same everywhere
        torch.testing.assert_close(log, exact, atol=1e-12, rtol=1e-12)
        return
    assert float((log / exact).max()) > 1.01
    near = group.compose(a, group.exp(1e-3 * torch.randn(300, group.dim, dtype=torch.float64)))
    exact = left_invariant_distance(group, a, near, metric, dist="geodesic")
    torch.testing.assert_close(left_invariant_distance(group, a, near, metric), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("group", "metric"), ISOTROPIC[2:7], ids=lambda value: repr(value))
def test_geodesic_distance_obeys_the_triangle_inequality(group, metric):
    a, b, c = (group.exp(0.7 * torch.randn(300, group.dim, dtype=torch.float64)) for _ in range(3))
    ab, bc, ac = (left_invariant_distance(group, p, q, metric, dist="geodesic") for p, q in ((a, b), (b, c), (a, c)))
    assert bool((ac <= ab + bc + 1e-12).all())


def test_hyperbolic_distance_of_a_pure_scaling_and_of_a_short_shift():
    group = ScaleTranslation(1)
    a = torch.tensor([[0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[0.0, 2.0], [1e-4, 0.0]], dtype=torch.float64)
    d = left_invariant_distance(group, a, b, (9.0, 4.0), dist="geodesic")
    torch.testing.assert_close(d, torch.tensor([4.0, 3e-4], dtype=torch.float64), rtol=1e-8, atol=0)


@pytest.mark.parametrize("group", [SE2(period=2 * math.pi), SO3(period=2 * math.pi)], ids=repr)
def test_rho_b_is_the_free_directions_alone_and_the_root_sideways(group):
    metric = torch.diag(torch.tensor([4.0, 1e9, 9.0], dtype=torch.float64))
    forward = homogeneous_length(torch.tensor([0.3, 0.0, 0.2], dtype=torch.float64), metric)
    assert forward.item() == pytest.approx((4 * 0.09 + 9 * 0.04) ** 0.5)
    side = [homogeneous_length(torch.tensor([0.0, s, 0.0], dtype=torch.float64), metric).item() for s in (0.01, 0.04)]
    assert side[1] / side[0] == pytest.approx(2)  # four times as far costs twice as much
    exact = homogeneous_length(torch.tensor([0.0, 0.01, 0.0], dtype=torch.float64), metric, nu=16 * math.pi**2)
    assert exact.item() == pytest.approx(math.sqrt(4 * math.pi * 0.01 * 6))  # the isoperimetric problem


def shortest_parking_manoeuvre(shift, steps=400):
    """Sub-Riemannian length of the best closed loop of (forward, turn) found that moves sideways by ``shift``."""
    best = math.inf
    t = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    for ratio in np.linspace(0.6, 1.6, 41):
        turn = math.sqrt(4 * math.pi * shift) * ratio
        for forward in np.linspace(0.5, 2.0, 151) * math.sqrt(4 * math.pi * shift) / ratio:
            ahead, swing = forward * torch.sin(2 * math.pi * t), turn * torch.cos(2 * math.pi * t)
            heading = torch.cumsum(swing, 0) / steps - swing / (2 * steps)
            end = float((ahead * torch.sin(heading)).mean())
            if abs(abs(end) - shift) < 0.02 * shift:
                best = min(best, float((ahead.square() + swing.square()).sqrt().mean()))
    return best


def test_small_sideways_steps_cost_what_the_best_manoeuvre_costs():
    shift = 0.01
    metric = torch.eye(3, dtype=torch.float64)
    c = torch.tensor([0.0, shift, 0.0], dtype=torch.float64)
    best = shortest_parking_manoeuvre(shift)
    assert homogeneous_length(c, metric, nu=16 * math.pi**2).item() == pytest.approx(best, rel=0.03)
    assert homogeneous_length(c, metric).item() < best


def test_metrics_are_learned_through_the_distance():
    metric = torch.tensor(ANISOTROPIC, dtype=torch.float64, requires_grad=True)
    a, b = SE2.random(5, seed=0), SE2.random(5, seed=1)
    assert torch.autograd.gradcheck(lambda r: left_invariant_distance(SE2(), a, b, r), metric)
    c = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, r: squared_length(v, torch.diag(r)), (c, metric))


def test_a_full_metric_is_a_quadratic_form():
    c = torch.randn(5, 3, dtype=torch.float64)
    root = torch.randn(3, 3, dtype=torch.float64)
    torch.testing.assert_close(squared_length(c, root.T @ root), (c @ root.T).square().sum(dim=1))
    assert torch.equal(metric_matrix(SO3()), torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ((1.0, 1.0), "metric must have shape"),
        ((1.0, 0.0, 1.0), "positive definite, but its smallest eigenvalue is 0"),
        ((1.0, -2.0, 1.0), "positive definite, but its smallest eigenvalue is -2"),
        ((1.0, math.nan, 1.0), "metric must be finite"),
        (torch.tensor([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 1]]), "metric must be symmetric"),
        (torch.tensor([[1.0, 2.0, 0], [2.0, 1, 0], [0, 0, 1]]), "positive definite"),
        (torch.tensor([[1.0, 0, 0.5], [0, 1, 0], [0.5, 0, 1]]), "look the same after a half turn"),
    ],
)
@pytest.mark.parametrize("group", [SE2(), SO3()], ids=repr)
def test_bad_metrics_are_refused(group, metric, message):
    with pytest.raises(ValueError, match=message):
        left_invariant_distance(group, group.identity(2), group.identity(2), metric)


def test_a_metric_that_mixes_axes_is_fine_without_the_half_turn():
    mixed = torch.tensor([[1.0, 0, 0.5], [0, 1, 0], [0.5, 0, 1]], dtype=torch.float64)
    a, b, u = (SE2.random(50, seed=seed) for seed in range(3))
    group = SE2(period=2 * math.pi)
    d = left_invariant_distance(group, a, b, mixed)
    moved = left_invariant_distance(group, SE2.compose(u, a), SE2.compose(u, b), mixed)
    torch.testing.assert_close(moved, d, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("group", "metric", "dist", "message"),
    [
        (SE2(), None, "euclid", "dist must be 'log', 'rho_b' or 'geodesic'"),
        (SE3(), None, "rho_b", "defined for SE2 and SO3"),
        (S2(), None, "rho_b", "defined for SE2 and SO3"),
        (SE2(), ANISOTROPIC, "geodesic", "closed form only for metrics diag"),
        (SO3(), (1.0, 1.0, 2.0), "geodesic", "closed form only for metrics diag"),
        (SE3(), (1.0, 1.0, 2.0, 1.0, 1.0, 1.0), "geodesic", "closed form only for metrics diag"),
        (ScaleTranslation(2), (1.0, 2.0, 1.0), "geodesic", "closed form only for metrics diag"),
    ],
)
def test_a_distance_that_is_not_defined_is_refused(group, metric, dist, message):
    with pytest.raises(ValueError, match=message):
        left_invariant_distance(group, group.identity(2), group.identity(2), metric, dist=dist)


def test_mirror_images_have_no_distance_by_the_log():
    a = O3.identity(1)
    with pytest.raises(ValueError, match="no logarithm"):
        left_invariant_distance(O3(), a, -a)
