"""The sphere's scripts run end to end; in full they meet their claims."""

import pytest
import torch

from tests.examples._run import load


def test_steerable_filters_run_end_to_end(capsys):
    found = load("reproduce/sphere_steerable").main(["--quick"])
    assert found["ok"]
    assert found["Gauss-Legendre 2L x 4L, L=6"] < 1e-2
    assert found["directional"] > 1
    assert "0->1->0" in capsys.readouterr().out


def test_the_random_field_is_white_and_turns_with_its_argument():
    from geomeq import spheres

    script = load("reproduce/sphere_steerable")
    field, grid = script.random_field(6, seed=0), spheres.gauss_legendre(12)
    value = field(grid.pos)
    power = []
    for degree in range(8):
        kernel = (
            (2 * degree + 1)
            / (4 * torch.pi)
            * torch.special.legendre_polynomial_p((grid.pos @ grid.pos.T).clamp(-1, 1), torch.tensor(degree))
        )
        part = kernel @ (grid.area * value)
        power.append(float((grid.area * part.square()).sum()) / (2 * degree + 1))
    assert max(power[6:]) < 1e-20 * sum(power)
    assert min(power[1:6]) > 0.1 * max(power[1:6])


def test_wind_forecast_runs_end_to_end(capsys):
    found = load("reproduce/wind_forecast").main(["--quick"])
    assert found["turned along"] < 1e-4
    assert found["sampled anew"] < 1
    assert -3 < found["persistence"] < 1
    out = capsys.readouterr()
    assert f"SpinNet {found['error']:.3f} m/s" in out.out
    assert "loss=" in out.err  # the progress bar


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sphere_steerable", "wind_forecast"])
def test_scripts_meet_their_claims(name):
    assert load(f"reproduce/{name}").main([])["ok"]
