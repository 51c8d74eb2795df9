"""The compression experiment runs end to end; in full it meets its claims."""

import pytest
import torch

from geomeq import spheres
from geomeq.harmonics import InverseSHT
from tests.examples._run import load

pytest.importorskip("constriction", reason="needs constriction: pip install 'geomeq[codec]'")


def test_the_experiment_runs_end_to_end(capsys, tmp_path):
    script = load("reproduce/sphere_compression")
    found = script.main(["--quick", "--picture", str(tmp_path / "curves.png"), "--folder", str(tmp_path)])
    assert found["paths"] < 1e-4
    assert abs(found["bytes"]) < 0.05
    out = capsys.readouterr()
    assert out.out.count("103020 parameters") == 3  # equal for all three
    assert "planar CNN" in out.out
    assert "loss=" in out.err
    assert {path.name for path in tmp_path.iterdir()} >= {"curves.png", "curves_panorama.png", "oslo.pt", "plane.pt"}
    again = script.main(["--quick", "--folder", str(tmp_path)])
    assert again["bytes"] == found["bytes"]  # from the kept networks


def test_pictures_are_the_same_on_every_grid_and_between_zero_and_one():
    script = load("reproduce/sphere_compression")
    rng = torch.Generator()
    seen = []
    for sampling in (spheres.equirectangular(24), spheres.healpix(8)):
        x = script.draw(sampling, InverseSHT(sampling, 8), 3, 8, rng.manual_seed(5))
        assert float(x.min()) >= 0
        assert float(x.max()) <= 1
        weight = sampling.area / sampling.area.sum()
        seen.append(torch.einsum("n,bnc->bc", weight, x))
    assert (seen[0] - seen[1]).abs().max() < 0.02  # one function, sampled twice
    other = script.draw(sampling, InverseSHT(sampling, 8), 3, 8, rng.manual_seed(6))
    assert (torch.einsum("n,bnc->bc", weight, other) - seen[1]).abs().max() > 0.02


@pytest.mark.timeout(7200)  # many minutes, and more beside other work
@pytest.mark.slow
def test_it_meets_its_claims():
    assert load("reproduce/sphere_compression").main([])["ok"]
