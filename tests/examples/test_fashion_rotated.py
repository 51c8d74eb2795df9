import json

import pytest

from tests.examples._run import load

TESTS = ("upright", "quarter turns", "any angle")


def test_two_networks_train_and_are_tested_in_three_ways(tmp_path):
    script = load("reproduce/fashion_rotated")
    options = ["--subset", "--limit", "100", "--epochs", "1", "--batch", "25", "--out", str(tmp_path)]
    found = script.main(["--models", "GCNN", *options])
    assert found["ok"] is None  # the others are missing
    results = script.main(["--models", "isotropic", *options])["results"]
    assert list(results) == ["isotropic", "GCNN"]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    for result in results.values():
        assert all(0 <= result[kind] <= 100 for kind in TESTS)
        assert result["quarter turns"] == pytest.approx(result["upright"], abs=1.01)  # a tie may flip


def test_networks_are_of_one_size():
    script = load("reproduce/fashion_rotated")
    weights = [sum(p.numel() for p in make().parameters()) for make in script.MODELS.values()]
    assert all(21_000 < count < 26_000 for count in weights)


def test_verdict_asks_for_exact_quarter_turns_and_a_cnn_that_falls():
    script = load("reproduce/fashion_rotated")
    kept, lost = {"upright": 90.0, "quarter turns": 90.0}, {"upright": 90.0, "quarter turns": 40.0}
    assert script.verdict({"CNN": lost, "ChebLieNet": kept, "GCNN": kept})
    assert not script.verdict({"CNN": kept, "ChebLieNet": kept, "GCNN": kept})
    assert not script.verdict({"CNN": lost, "ChebLieNet": lost, "GCNN": kept})
    assert script.verdict({"CNN": lost, "GCNN": kept}) is None
