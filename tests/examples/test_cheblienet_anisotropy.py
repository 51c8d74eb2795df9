import pytest
import torch

from tests.examples._run import load

NAME = "reproduce/cheblienet_anisotropy"


def example():
    return load(NAME)


def test_runs_end_to_end_and_counts_what_holds(capsys):
    held = example().main(["--quick"])
    assert len(held) == 7
    assert all(count in (0, 1) for count in held.values())
    printed = capsys.readouterr().out
    assert "R2 isotropic" in printed
    assert "turned" in printed


def test_all_chebyshev_networks_are_equally_large():
    script = example()
    for task in (script.DIGITS, script.TEXTURES):
        weights = {
            name: sum(p.numel() for p in script.network(name, task)[0].parameters())
            for name in task.networks
            if name != script.CNN
        }
        assert len(set(weights.values())) == 1


def test_turned_digits_are_the_upright_ones_turned():
    script = example()
    upright, turned = script.digits("test", script.DIGITS)[0], script.digits("test", script.DIGITS, turned=True)[0]
    steps = torch.randint(12, (len(upright),), generator=torch.Generator().manual_seed(1))
    for count in range(4):
        chosen = steps == 3 * count
        torch.testing.assert_close(turned[chosen], torch.rot90(upright[chosen], count, (2, 3)), atol=1e-5, rtol=0)
    assert (turned - upright)[steps == 1].abs().mean() > 0.01


def test_judging_counts_seeds_and_a_missed_claim_ends_with_status_1(monkeypatch):
    script = example()
    good = {"upright": 99.0, "turned": 95.0, "weights": 1, "seconds": 0.0}
    poor = {"upright": 50.0, "turned": 10.0, "weights": 1, "seconds": 0.0}

    def results(of_sweet):
        return lambda name, task_name, task, seed: of_sweet if name in script.SWEET else poor

    monkeypatch.setattr(script, "train", results(good))
    assert set(script.main(["--workers", "1"]).values()) == {5}
    monkeypatch.setattr(script, "train", results(poor))
    with pytest.raises(SystemExit, match="1"):
        script.main(["--workers", "1"])
