import json

import pytest
import torch

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


def test_turned_images_in_training_and_a_run_that_was_cut(tmp_path, monkeypatch):
    script = load("reproduce/fashion_rotated")
    options = ["--task", "rotated", "--models", "HarmonicNet", "--subset", "--limit", "50", "--batch", "25"]
    options += ["--epochs", "2", "--out", str(tmp_path)]
    whole = script.one_epoch

    def cut(*args):
        raise KeyboardInterrupt

    def once(*args):
        monkeypatch.setattr(script, "one_epoch", cut)
        return whole(*args)

    monkeypatch.setattr(script, "one_epoch", once)
    with pytest.raises(KeyboardInterrupt):
        script.main(options)
    monkeypatch.setattr(script, "one_epoch", whole)
    found = script.main(options)
    assert found["ok"] is None
    result = found["results"]["HarmonicNet"]
    assert len(result["losses"]) == 2
    assert 0 <= result["turned"] <= 100
    assert script.main(options)["results"]["HarmonicNet"]["losses"] == result["losses"]  # nothing is trained again


def test_training_and_test_images_of_the_rotated_task_differ(tmp_path):
    script = load("reproduce/fashion_rotated")
    data, tests = script.rotated(script.parse(["--subset", "--task", "rotated"]))
    assert (len(data), len(tests["turned"])) == (1_000, 2_000)
    assert len({image.numpy().tobytes() for image in torch.cat([data.images, tests["turned"].images])}) == 3_000
    assert data.degrees.unique().numel() == 1_000


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
    assert not script.verdict({"CNN": lost, "ChebLieNet": kept, "GCNN": kept, "HarmonicNet": lost})


def test_verdict_of_the_rotated_task_compares_errors():
    script = load("reproduce/fashion_rotated")
    assert script.verdict({"CNN": {"turned": 80.0}, "HarmonicNet": {"turned": 82.0}}, "rotated")
    assert not script.verdict({"CNN": {"turned": 80.0}, "HarmonicNet": {"turned": 81.9}}, "rotated")
    assert script.verdict({"HarmonicNet": {"turned": 82.0}}, "rotated") is None
