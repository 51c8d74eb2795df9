"""Directional messages: the script runs, judges as it says, and in full meets its claims."""

import pytest

from tests.examples._run import load


def test_the_script_runs_and_its_networks_differ_as_named(capsys):
    found = load("reproduce/scn_directional").main(["--quick", "--models", "abd"])
    assert found["d"]["rotation"] < 1e-4
    assert found["b"]["rotation"] > 1e-2
    assert all(found[key]["force"] > 0 for key in "abd")
    out = capsys.readouterr().out
    assert found["ok"]
    assert "no claims" in out
    assert "SUCCESS" not in out
    assert "MISSED" not in out


def test_the_verdict_follows_the_figures():
    judge = load("reproduce/scn_directional").judge
    row = {"force": 1.0, "seconds": 1.0, "rotation": 1e-6}
    good = {"a": row, "b": {**row, "rotation": 0.1}, "c": {**row, "force": 0.8}, "d": {**row, "force": 0.8}}
    assert judge(good)
    for key, change in (
        ("c", {"force": 0.9}),
        ("d", {"seconds": 2.1}),
        ("d", {"rotation": 1e-3}),
        ("b", {"rotation": 0}),
    ):
        assert not judge({**good, key: {**good[key], **change}})


@pytest.mark.slow
def test_claims():
    assert load("reproduce/scn_directional").main([])["ok"]
