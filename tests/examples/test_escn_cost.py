"""The cost of messages over L: the script runs, both layers are one map; in full it meets its claims."""

import math

import pytest
import torch

from tests.examples._run import load


def test_runs_end_to_end(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "cost.png"
    found = load("reproduce/escn_cost").main(["--quick", "--picture", str(picture)])
    assert found["ok"]
    assert found["agreement"] < 1e-12  # the layer is the product, with converted weights
    assert picture.stat().st_size > 10_000
    assert "exponents of L" in capsys.readouterr().out


def test_layouts_hold_the_same_numbers():
    script = load("reproduce/escn_cost")
    x = torch.arange(2 * 4 * 32.0).view(2, 4, 32)
    flat = script.flat(x, 1)
    assert flat.shape == (2, script.irreps(1).dim)
    torch.testing.assert_close(flat[1, :32], x[1, 0])
    torch.testing.assert_close(flat[1, 32:35], x[1, 1:, 0])  # the vector of the first channel


def test_exponents_and_crossovers():
    script = load("reproduce/escn_cost")
    degrees = (1, 2, 3, 4)
    assert script.exponent(degrees, [9.0, *(1e-3 * d**3.5 for d in degrees[1:])]) == pytest.approx(3.5)
    assert script.crossover(degrees, [0.5, 2, 8, 32]) == pytest.approx(1.5)
    assert script.crossover(degrees, [1.5, 2, 8, 32]) == 0
    assert script.crossover(degrees, [0.1, 0.2, 0.3, 0.4]) == math.inf


@pytest.mark.slow
def test_meets_its_claims():
    assert load("reproduce/escn_cost").main([])["ok"]
