"""Equivariance by sampling and filter: the script runs, its functions are white; in full it meets its claims."""

import pytest
import torch

from geomeq import spheres
from tests.examples._run import load


def test_runs_end_to_end(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "errors.png"
    found = load("reproduce/sphere_equivariance").main(["--quick", "--picture", str(picture)])
    assert found["ok"]
    assert found["hann2"] < found["hann"] < 5e-3 < found["hats"] < 0.1
    assert found["steerable"] < 2e-3
    assert found["directional"] > 1  # a filter read in the frame of the meridian is not equivariant at all
    assert found["slope"] < -1.5
    assert picture.stat().st_size > 10_000
    assert "icosphere" in capsys.readouterr().out


def test_random_functions_are_white_and_of_bounded_degree():
    script, grid = load("reproduce/sphere_equivariance"), spheres.gauss_legendre(12)
    values = script.random_fields(6, seed=0)(grid.pos)
    power = []
    for degree in range(8):
        cosine = (grid.pos @ grid.pos.T).clamp(-1, 1)
        kernel = (2 * degree + 1) / (4 * torch.pi) * torch.special.legendre_polynomial_p(cosine, torch.tensor(degree))
        part = (grid.area * values) @ kernel
        power.append(float((grid.area * part.square()).sum()) / (2 * degree + 1) / len(values))
    assert max(power[6:]) < 1e-20
    assert min(power[:6]) > 0.4
    assert max(power[:6]) < 2.5


def test_misses_are_named():
    script = load("reproduce/sphere_equivariance")
    good = {"hann": 1e-4, "hann2": 1e-5, "hats": 1e-3, "directional": 1.4, "steerable": 1e-3, "gated": 1e-3}
    own = {name: {kind: [error] for kind, error in good.items()} for name in script.SAMPLINGS}
    assert script.judge(own, 0, -2.0) == []
    own["HEALPix"]["hats"] = [0.1]
    own["Gauss-Legendre"]["steerable"] = [3e-3]
    own["icosphere"]["directional"] = [0.5]
    missed = script.judge(own, 0, -1.0)
    assert len(missed) == 4
    assert missed[0].startswith("hats on HEALPix: 1.0e-01")


@pytest.mark.timeout(7200)  # many minutes, and more beside other work
@pytest.mark.slow
def test_meets_its_claims():
    assert load("reproduce/sphere_equivariance").main([])["ok"]
