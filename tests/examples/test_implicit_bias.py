"""The script on implicit bias: its quick mode, its checks, and every claim (slow)."""

import pytest
import torch

from tests.examples._run import load


@pytest.fixture
def example():
    return load("reproduce/implicit_bias")


def test_quick_mode_runs_and_draws(example, tmp_path, capsys):
    assert example.main(["--quick", "--picture", str(tmp_path / "spectra.png")]) == 0
    printed = capsys.readouterr().out
    assert "D15: n = 30, 8 samples, 4 seeds" in printed
    assert "G(4)" in printed
    assert (tmp_path / "spectra.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_checks_fail_where_there_is_no_bias(example):
    flat = torch.tensor([5.0, 5.1, 4.9, 5.0])
    names = ("FC(3)", "G(1)", "G(2)", "G(3)", "CNN(3)")
    full = torch.full((4,), 8.0)
    good = example.check(
        8, dict(zip(names, (6 + flat, 6 + flat, 3 + flat, flat, 4 + flat), strict=True)),
        {"G(3)": full / 2, "FC(3)": full}, torch.ones(4),
    )  # fmt: skip
    assert all(passed for _, passed in good)
    bad = example.check(8, dict.fromkeys(names, flat), {"G(3)": full, "FC(3)": full - 1}, torch.zeros(4))
    assert not any(passed for _, passed in bad)


def test_each_seed_has_its_own_data_whatever_the_number_of_seeds(example):
    few, many = example.samples(8, 3, 2), example.samples(8, 3, 5)
    torch.testing.assert_close(many[0][:2], few[0])
    assert not torch.equal(few[0][0], few[0][1])


@pytest.mark.slow
def test_every_claim(example):
    assert example.main([]) == 0
