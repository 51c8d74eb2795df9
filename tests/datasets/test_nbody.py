"""N-body data: the protocol, conservation laws, a second integrator written from the formulas."""

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from geomeq.datasets import NBody
from geomeq.datasets import _simulate as simulate

FRAMES = (0, 30, 40)


@pytest.fixture(scope="module")
def test_set():
    return NBody(split="test")


@pytest.fixture(scope="module")
def run():
    """400 charged systems: initial state and the states at ``FRAMES``."""
    pos, vel, charge = simulate.start_charged(400, np.random.SeedSequence(7))
    return pos, vel, charge, simulate.run_charged(pos, vel, charge, FRAMES)


def plain_loop(pos, vel, charge, frames):
    """One system, particle by particle, as the formulas say."""
    x, v, n = pos.copy(), vel.copy(), len(pos)

    def force(x):
        total = np.zeros_like(x)
        for i in range(n):
            for j in range(n):
                if i != j:
                    r = x[i] - x[j]
                    total[i] += charge[i, 0] * charge[j, 0] * r / (r @ r) ** 1.5
        return np.clip(total, -100.0, 100.0)

    found = []
    v += 1e-3 * force(x)
    for step in range(1, 100 * (max(frames) + 1) + 1):
        x += 1e-3 * v
        if step % 100 == 0 and step // 100 - 1 in frames:
            found.append((x.copy(), v.copy()))
        v += 1e-3 * force(x)
    return found


def energy(x, v_half, charge):
    """Kinetic and potential energy ``[S]``; the stored velocity is half a step behind the position."""
    r = x[:, :, None] - x[:, None]
    distance = np.linalg.norm(r, axis=-1) + np.diag([np.inf] * x.shape[1])
    product = charge * charge.transpose(0, 2, 1)
    v = v_half + 0.5e-3 * ((product / distance**3)[..., None] * r).sum(axis=2)
    return 0.5 * (v**2).sum(axis=(1, 2)) + 0.5 * (product / distance).sum(axis=(1, 2))


def test_charged_equals_a_plain_loop(run):
    pos, vel, charge, frames = run
    momentum = np.abs(frames[-1][1].sum(axis=1) - vel.sum(axis=1)).max(axis=-1)
    system = int(np.argmin(momentum > 1e-12))  # the first without a clipped encounter: chaos would magnify rounding
    plain = plain_loop(pos[system], vel[system], charge[system], FRAMES)
    for (x, v), (x_plain, v_plain) in zip(frames, plain, strict=True):
        np.testing.assert_allclose(x[system], x_plain, rtol=0, atol=1e-12)
        np.testing.assert_allclose(v[system], v_plain, rtol=0, atol=1e-12)


def test_charged_conserves_what_it_should_unless_forces_were_clipped(run):
    _, vel, charge, frames = run
    (x0, v0), (x1, v1), (x2, v2) = frames
    whole = np.abs(v2.sum(axis=1) - vel.sum(axis=1)).max(axis=-1) < 1e-12  # clipping breaks Newton's third law
    assert 0.4 < whole.mean() < 0.8
    drift = np.abs(energy(x2, v2, charge) - energy(x0, v0, charge))
    assert np.quantile(drift[whole], 0.9) < 1e-4
    assert drift[whole].max() < 0.02
    assert np.median(drift[~whole]) > 0.1  # the check has teeth
    centre = x2.mean(axis=1) - x1.mean(axis=1) - 1.0 * v1.mean(axis=1)  # 1,000 steps of 1e-3
    assert np.abs(centre[whole]).max() < 1e-12


def test_a_system_does_not_depend_on_its_batch(run):
    pos, vel, charge, frames = run
    alone = simulate.run_charged(pos[3:5], vel[3:5], charge[3:5], (0,))
    assert np.array_equal(alone[0][0], frames[0][0][3:5])


def test_initial_state_of_the_charged_system(run):
    pos, vel, charge, _ = run
    assert abs(pos.std() - 1) < 0.05
    np.testing.assert_allclose(np.linalg.norm(vel, axis=-1), 0.5, rtol=1e-12)
    assert set(np.unique(charge)) == {-1.0, 1.0}
    assert abs(charge.mean()) < 0.1


def test_attributes_of_a_charged_sample(test_set):
    data = test_set[5]
    assert len(test_set) == 2000
    assert {k: tuple(v.shape) for k, v in data.to_dict().items()} == {
        **{"pos": (5, 3), "vel": (5, 3), "charge": (5, 1), "y": (5, 3), "vel_target": (5, 3)},
        **{"edge_index": (2, 20), "edge_scalar": (20, 1)},
    }
    source, target = data.edge_index
    assert torch.equal(data.edge_scalar, data.charge[source] * data.charge[target])
    order = target * 5 + source
    assert (order.diff() > 0).all()  # sorted by target, then source, no pair twice
    assert not (source == target).any()


def test_the_motion_runs_back_from_the_target_with_the_velocity_reversed():
    state = simulate.charged(20, np.random.SeedSequence(3))

    def miss(vel: np.ndarray) -> np.ndarray:
        pos = state["pos_target"].copy()
        for _ in range(1000):
            vel = vel + simulate.DT * simulate.charged_force(pos, state["charge"])
            pos = pos + simulate.DT * vel
        return np.abs(pos - state["pos"]).max(axis=(1, 2))

    # The median: close encounters amplify rounding errors.
    assert np.median(miss(-state["vel_target"])) < 1e-12
    assert np.median(miss(-state["vel"])) > 1e-2


def test_trivial_errors_are_those_of_the_published_protocol(test_set):
    data = test_set._data
    stay = (data.pos - data.y).square().mean().item()
    straight = (data.pos + data.vel - data.y).square().mean().item()
    assert stay == pytest.approx(0.274, rel=0.1)
    assert straight == pytest.approx(0.108, rel=0.1)


def test_splits_and_seeds_differ_and_a_small_set_begins_a_large_one():
    def first(**kw):
        return NBody(**{"num_systems": 3, **kw})[0].pos

    base = first()
    assert torch.equal(base, first(num_systems=5))
    for other in (first(split="valid"), first(split="test"), first(seed=1)):
        assert not torch.isclose(base, other).any()


def test_gravity_force_is_the_sum_over_pairs():
    x = np.random.default_rng(0).standard_normal((2, 30, 3))
    r = x[:, None] - x[:, :, None]  # r[s, i, j] = x_j - x_i
    expected = (r / ((r**2).sum(-1, keepdims=True) + 0.01) ** 1.5).sum(axis=2)
    np.testing.assert_allclose(simulate.attraction(x), expected, rtol=0, atol=1e-10)


def test_gravity_conserves_energy_momentum_and_centre():
    pos, vel = simulate.start_gravity(2, np.random.SeedSequence(0), n=30)
    (x0, v0, _), (x1, v1, _) = simulate.run_gravity(pos, vel, (0, 5))

    def total(x, v):
        square = ((x[:, None] - x[:, :, None]) ** 2).sum(-1) + 0.01
        return 0.5 * (v**2).sum((1, 2)) - 0.5 * (square**-0.5).sum((1, 2))

    np.testing.assert_allclose(total(x1, v1), total(x0, v0), rtol=1e-4)
    np.testing.assert_allclose(v1.sum(axis=1), 0, atol=1e-10)
    np.testing.assert_allclose(x1.mean(axis=1), x0.mean(axis=1), atol=1e-12)
    assert np.abs(x1 - x0).max() > 0.5


def test_gravity_samples_for_both_targets():
    position, force = (NBody(system="gravity", split="test", num_systems=2, target=t) for t in ("position", "force"))
    a, b = position[1], force[1]
    assert {k: tuple(v.shape) for k, v in a.to_dict().items()} == {
        **{"pos": (100, 3), "vel": (100, 3), "force": (100, 3), "mass": (100, 1), "y": (100, 3)}
    }
    assert torch.equal(a.pos, b.pos)
    np.testing.assert_allclose(b.y, simulate.attraction(a.y[None].double().numpy())[0], rtol=0, atol=1e-3)
    assert position[0].num_edges == 0


def test_batches(test_set):
    batch = next(iter(DataLoader(test_set, batch_size=100)))
    assert batch.edge_index.shape == (2, 2000)
    assert int(batch.edge_index.max()) == 499


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"system": "springs"}, "system must be one of 'charged', 'gravity', got 'springs'"),
        ({"split": "val"}, "split must be one of 'train', 'valid', 'test', got 'val'"),
        ({"target": "force"}, "target must be one of 'position', got 'force'"),
        ({"num_systems": 0}, "num_systems must be at least 1, got 0"),
    ],
)
def test_a_wrong_choice_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        NBody(**arguments)
