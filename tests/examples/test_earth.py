"""The tour of the data on the sphere runs and its numbers are those of the earth."""

import pytest

from tests.examples._run import load


def test_the_tour_runs(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'geomeq[plot]'")
    found = load("earth").main(["--quick", "--out", str(tmp_path)])
    pictures = {path.stem for path in tmp_path.glob("*.png")}
    assert pictures == {"sea", "height", "relief", "digits", "digits_turned", "panorama"}
    assert found["land"] == pytest.approx(0.29, abs=0.02)
    assert found["summer"] == pytest.approx(5.4, abs=1.0)
    assert found["same"]
    assert "land covers" in capsys.readouterr().out
