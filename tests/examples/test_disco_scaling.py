"""The scaling script runs end to end; in full it meets its claims."""

import math

import pytest

from tests.examples._run import load


def test_scaling_runs_end_to_end(capsys, tmp_path):
    found = load("reproduce/disco_scaling").main(["--quick", "--plot", str(tmp_path / "scaling.png")])
    assert found["ok"]
    assert [p["pixels"] for p in found["points"]["grid"]] == [512, 2048]
    assert all(p["seconds"] > 0 and 0 < p["base"] <= p["peak"] for p in found["points"]["HEALPix"])
    assert (tmp_path / "scaling.png").stat().st_size > 1000
    assert "exponents: time" in capsys.readouterr().out


def test_the_exponent_is_the_slope():
    script = load("reproduce/disco_scaling")
    points = [{"pixels": n, "seconds": 1e-6 * n**1.5, "base": 100, "peak": 100 + 7 * n} for n in (10, 1000, 8000)]
    assert math.isclose(script.exponent(points, "seconds"), 1.5, rel_tol=1e-9)
    assert math.isclose(script.exponent(points, "memory"), 1.0, rel_tol=1e-9)


def test_the_line_of_memory_is_what_buffers_and_pixels_take():
    script = load("reproduce/disco_scaling")
    points = [{"pixels": n, "base": 100, "peak": 100 + 5000 + 7 * n} for n in (10, 1000, 8000)]
    fixed, each, error = script.affine(points)
    assert math.isclose(fixed, 5000, rel_tol=1e-6)
    assert math.isclose(each, 7, rel_tol=1e-6)
    assert error < 1e-6
    assert script.exponent(points, "memory") < 0.5  # which says little of pixels here
    points[1]["peak"] += 6000
    assert script.affine(points)[2] > 0.1


def test_the_gap_grows_with_the_powers_of_the_resolution():
    script = load("reproduce/disco_scaling")
    small, large = script.spectral_gap(32), script.spectral_gap(64)
    power = {"transforms": (2, 1), "tensor products": (3, 2), "leading powers": (3, 1)}
    for name, powers in power.items():
        for what, exponent in zip(("compute", "memory"), powers, strict=True):
            grown = math.log2(large[f"{name}, {what}"] / small[f"{name}, {what}"])
            assert abs(grown - exponent) < 0.3  # caps of an equiangular grid hold a little more at the poles
    assert 1e9 < script.spectral_gap(2048)["leading powers, compute"] < 1.1e9


@pytest.mark.timeout(7200)  # many minutes, and more beside other work
@pytest.mark.slow
def test_scaling_meets_its_claims():
    assert load("reproduce/disco_scaling").main([])["ok"]
