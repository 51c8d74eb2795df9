import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("harness")
    sys.modules.pop("harness", None)


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(FOLDER / "run.py"), *arguments], capture_output=True, text=True)


def test_a_quick_case_emits_valid_json(tmp_path):
    done = run("stencil", "segment_sum", "--quick", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["machine"]["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    rows = [row for row in figures["results"] if row["case"] == "stencil"]
    assert {"geomeq", "messages + index_add"} <= {row["contender"] for row in rows}
    for row in rows:
        assert 0 < row["min"] <= row["median"]
        assert row["iqr"] >= 0
        assert row["peak_bytes"] > 0
        assert row["saved_bytes"] > 0
        assert 0 < row["error"] < 1e-5  # float32 against float64: not zero, not wrong
        assert row["runs"] == 3
    peer = next(row for row in rows if row["contender"] == "messages + index_add")
    assert peer["ratio_to_peer"] == 1


def test_json_to_the_terminal_is_nothing_but_json():
    done = run("stencil", "--quick", "--json")
    assert json.loads(done.stdout)["results"]


def test_list_and_unknown_case():
    listed = run("--list").stdout
    assert all(name in listed for name in ("stencil", "stencil_coef_grad", "segment_softmax", "import_time"))
    unknown = run("stencyl")
    assert unknown.returncode == 2
    assert "unknown case stencyl; there are: " in unknown.stderr


@pytest.mark.slow
def test_every_case_runs_quickly():
    done = run("--quick", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert all(row["error"] is None or row["error"] < 1e-4 for row in results)


def test_a_wrong_or_missing_contender_is_seen(harness):
    def missing(problem):
        raise harness.Unavailable("needs something: pip install something")

    case = harness.Case(
        "double",
        "",
        sizes={},
        quick={},
        setup=lambda: {"x": torch.arange(1.0, 5.0)},
        contenders={
            "right": lambda p: lambda: {"y": 2 * p["x"]},
            "wrong": lambda p: lambda: {"y": 3 * p["x"]},
            "missing": missing,
        },
        peer="right",
        reference=lambda p: {"y": 2 * p["x"]},
        claims=(harness.Claim("", "wrong", "right", times=1e9), harness.Claim("", "wrong", "right", times=1e-9)),
    )
    rows, skipped = harness.measure(case, "one", {}, rounds=4, device="cpu")
    assert {row.contender: row.error for row in rows} == {"right": 0.0, "wrong": 0.5}
    assert skipped == ["double [one] missing: left out, needs something: pip install something"]
    assert [verdict["met"] for verdict in harness.judge(case, rows)] == [True, False]


def test_memory_is_counted_at_its_peak_and_by_storage(harness):
    mebibyte = 2**20

    def two_at_once_then_one():
        a = torch.empty(mebibyte, dtype=torch.uint8)
        b = torch.empty(2 * mebibyte, dtype=torch.uint8)
        del a, b
        return torch.empty(mebibyte, dtype=torch.uint8)

    assert harness.peak_bytes(two_at_once_then_one, "cpu") == 3 * mebibyte
    x = torch.ones(mebibyte // 4, requires_grad=True)
    assert harness.saved_bytes(lambda: x * x) == mebibyte  # one storage, saved for both factors
    assert harness.saved_bytes(lambda: x.exp()) == mebibyte
    assert harness.saved_bytes(lambda: x + x) == 0


def test_turns_are_interleaved(harness):
    order = []
    harness.interleave({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2, device="cpu")
    assert "".join(order) == "ab" + "ab" + "ba"  # warm-up, then rotating
