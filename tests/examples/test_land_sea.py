"""The segmentation example runs end to end; in full it meets its claims."""

import pytest
import torch

from tests.examples._run import load


def test_land_sea_runs_end_to_end(tmp_path, capsys):
    found = load("land_sea").main(["--quick", "--out", str(tmp_path)])
    assert (tmp_path / "land_sea.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    scores = [found[name] for name in ("anisotropic, SO(3)", "isotropic, sphere", "one node")]
    assert all(0 <= score <= 1 for score in scores)
    assert found["gain"] == pytest.approx(100 * (scores[0] - scores[1]))
    assert found["ok"] == (found["gain"] >= -1 and min(scores[:2]) > scores[2])
    out = capsys.readouterr()
    assert f"gain of anisotropy: {found['gain']:+.1f} points of F1" in out.out
    assert "loss=" in out.err  # the progress bar


def test_networks_have_equal_weights_and_one_of_them_sees_one_node():
    example = load("land_sea")
    args = example.parse(["--quick"])
    networks = {name: model for name, (model, _) in example.networks(args).items()}
    first, second = (dict(networks[name].named_parameters()) for name in ("anisotropic, SO(3)", "isotropic, sphere"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    data, (model, graph) = example.LandSea(2, samples=2), example.networks(args)["one node"]
    (batch,) = example.SharedGraphLoader(data.on(graph), batch_size=2)
    before = model(batch)
    batch.x = batch.x.clone()
    batch.x[:, 5] += 1
    changed = (model(batch) != before).any(-1).any(0)
    assert changed.nonzero().flatten().tolist() == [5]


@pytest.mark.slow
def test_land_sea_meets_its_claims(tmp_path):
    found = load("land_sea").main(["--out", str(tmp_path)])
    assert found["ok"]
    assert found["isotropic, sphere"] > found["one node"] + 0.2
