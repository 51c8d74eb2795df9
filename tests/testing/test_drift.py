"""The drift of a trajectory: closed forms, a real integrator, and forces that are no gradient."""

import math
import re

import numpy as np
import pytest
import torch

from geomeq.testing import nve_drift


def oscillator(steps, dt, friction=0.0):
    """Velocity Verlet of a particle on a spring; ``friction`` spoils the forces."""
    x, v, f = 1.0, 0.0, -1.0
    samples = []
    for _ in range(steps):
        v += dt / 2 * f
        x += dt * v
        f = -x - friction * v
        v += dt / 2 * f
        samples.append((0.5 * v * v, 0.5 * x * x))
    kinetic, potential = np.array(samples).T
    return dt * np.arange(1, steps + 1), kinetic + potential, kinetic


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_line_has_its_own_slope(dtype):
    time = torch.linspace(0, 4, 101, dtype=dtype)
    found = nve_drift(time, 3 - 0.01 * time, torch.full_like(time, 0.5))
    assert found.drift == pytest.approx(0.08, rel=1e-4)
    assert found.deviation == pytest.approx(0.08, rel=1e-4)
    assert found.slope == pytest.approx(-0.01, rel=1e-4)
    assert found.fluctuation < 1e-5
    assert (found.kinetic, found.duration) == pytest.approx((0.5, 4.0))


def test_a_swing_is_no_drift():
    time = np.arange(2000) * 2 * math.pi / 100  # twenty whole periods
    found = nve_drift(time, 0.3 * np.cos(time), np.ones(2000))
    assert found.drift < 0.01  # what is left of a fit over whole periods
    assert found.deviation == pytest.approx(0.6, rel=1e-3)
    assert found.fluctuation == pytest.approx(0.3 / 2**0.5, rel=1e-2)


def test_a_symplectic_integrator_does_not_drift_and_its_swing_falls_with_the_step_squared():
    coarse, fine = (nve_drift(*oscillator(round(500 / dt), dt)) for dt in (0.1, 0.05))
    assert coarse.drift < 1e-4  # what is left of a fit that does not end with a period: far below the swing
    assert coarse.fluctuation / fine.fluctuation == pytest.approx(4, rel=0.05)


def test_forces_that_are_no_gradient_drift():
    assert nve_drift(*oscillator(5000, 0.1, friction=1e-4)).drift > 0.03
    assert nve_drift(*oscillator(5000, 0.1, friction=-1e-4)).slope > 0


def test_a_run_that_blew_up_has_an_infinite_drift():
    found = nve_drift([0, 1, 2, 3], [1, 1, math.inf, math.nan], [1, 1, 1, math.nan])
    assert found.drift == found.deviation == math.inf
    assert "drift inf" in str(found)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (([0, 1], [1, 1], [1, 1]), "a trend needs at least 3 samples, got 2"),
        (([0, 1, 2], [1, 1], [1, 1, 1]), "must be equally long, got 3, 2 and 3"),
        (([0, 2, 1], [1, 1, 1], [1, 1, 1]), "time must grow"),
        (([0, math.nan, 1], [1, 1, 1], [1, 1, 1]), "time must grow"),
        (([0, 1, 2], [1, 1, 1], [1, -1, 1]), "kinetic energies must not be negative"),
        (([0, 1, 2], [1, 1, 1], [0, 0, 0]), "nor all zero"),
        ((torch.ones(3, 2), [1, 1, 1], [1, 1, 1]), "time must be one number for each sample, [K], got [3, 2]"),
    ],
)
def test_bad_series_are_named(series, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        nve_drift(*series)
