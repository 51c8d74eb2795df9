"""The scripts on segmentation and regression of the sphere run end to end; in full they meet their claims."""

import json
import sys

import pytest
import torch

from tests.examples._run import EXAMPLES, load


@pytest.fixture(autouse=True)
def _beside(monkeypatch):
    """Scripts import what lies beside them."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES / "reproduce"), *sys.path])


def test_train_sphere_runs_end_to_end(tmp_path, capsys):
    found = load("train_sphere").main(["--quick", "--out", str(tmp_path)])
    assert (tmp_path / "train_sphere.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert json.loads((tmp_path / "config.json").read_text())["filters"] == "isotropic"
    assert (tmp_path / "best.pt").exists()
    assert 0 <= found["f1"] <= 1
    assert 0 < found["rotation error"] < 2
    out = capsys.readouterr()
    assert f"F1 of land on kept longitudes: {100 * found['f1']:.1f}" in out.out
    assert "loss=" in out.err  # the progress bar


def test_rotation_error_tells_isotropic_from_directional_filters():
    script = load("train_sphere")
    errors = {}
    for filters in ("isotropic", "directional"):
        torch.manual_seed(0)
        args = script.parse(["--nside", "8", "--width", "4", "--filters", filters])
        model = script.DiscoUNet(script.network(args))
        errors[filters] = script.rotation_error(model, seed=0, places=100)
    assert errors["isotropic"] < errors["directional"] / 2


def test_sphere_digits_run_end_to_end(capsys):
    found = load("reproduce/sphere_digits").main(["--quick"])
    assert all(0 <= found[name] <= 100 for name in ("steerable", "isotropic, turned", "directional"))
    out = capsys.readouterr()
    assert f"{found['steerable']:.1f} % of digits' area right" in out.out
    assert ("SUCCESS" in out.out) == found["ok"]
    assert "loss=" in out.err


def test_votes_go_to_the_digit_with_the_most_area():
    script = load("reproduce/sphere_digits")
    said = torch.tensor([[0, 0, 3, 7, 7]])
    assert script.votes(said, torch.tensor([9.0, 9, 5, 2, 2]))[0] == 3
    assert script.votes(said, torch.ones(5))[0] == 7


@pytest.mark.parametrize("unset", [False, True])
def test_ocean_basins_run_end_to_end(unset, capsys, monkeypatch, tmp_path):
    if unset:  # neither the environment nor the cache has the file
        monkeypatch.delenv("GEOMEQ_DATA", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("GEOMEQ_CACHE", str(tmp_path))
    found = load("reproduce/ocean_basins").main(["--quick"])
    out = capsys.readouterr().out
    assert ("SUCCESS" in out) == found["ok"]
    assert 0 <= found["planar CNN, turned"] <= 100
    if unset:
        assert "GEOMEQ_DATA" in out
        assert "Without it: land or sea" in out


def test_topography_runs_end_to_end(capsys):
    found = load("reproduce/topography").main(["--quick"])
    out = capsys.readouterr().out
    assert ("SUCCESS" in out) == found["ok"]
    assert found["constant"] > 0.5
    assert f"{found['DeepSphere']:.3f} km, turned globes" in out


def test_networks_of_one_size_and_a_planar_one_that_is_circular():
    shared = load("reproduce/_globe_models")
    made = shared.makers(4, 3, 2)
    del made["DISCO, steerable"]  # it is what the others are compared with
    assert [s.num_nodes for s in shared.samplings(4).values()] == [192, 192, 288, 192]
    sizes = {name: shared.count(make(shared.of_size(make, 60_000))) for name, make in made.items()}
    assert all(abs(size - 60_000) < 6000 for size in sizes.values()), sizes
    planar = made["planar CNN"](4).double().eval()
    x = torch.randn(2, 12, 24, 3, dtype=torch.float64)
    y = planar(x.flatten(1, 2)).view(2, 12, 24, 2)
    turned = planar(x.roll(4, 2).flatten(1, 2)).view(2, 12, 24, 2)
    torch.testing.assert_close(turned, y.roll(4, 2), atol=1e-10, rtol=0)
    shifted = planar(x.roll(4, 1).flatten(1, 2)).view(2, 12, 24, 2)
    assert float((shifted - y.roll(4, 1)).detach().abs().max()) > 1e-3  # the poles are ends


@pytest.mark.timeout(7200)  # many minutes, and more beside other work
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sphere_digits", "topography", "ocean_basins"])
def test_scripts_meet_their_claims(name):
    assert load(f"reproduce/{name}").main([])["ok"]
