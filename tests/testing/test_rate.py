"""Bjontegaard's measures: hand-computed cases, the library of that name, and bad input."""

import math
import re

import numpy as np
import pytest
import torch

from geomeq.testing import bd_psnr, bd_rate

RATE, PSNR = [0.1, 0.25, 0.6, 1.1, 2.0], [28.0, 31.0, 34.5, 36.5, 39.0]
OTHER = [0.08, 0.2, 0.55, 1.2], [27.5, 31.2, 35.0, 37.9]
RECORDED = {"pchip": -21.6137506567197, "cubic": -21.43244275128453}
METHODS = pytest.mark.parametrize("method", ["pchip", "cubic"])


@METHODS
def test_a_curve_against_itself_is_zero_and_a_scaled_rate_is_its_factor(method):
    assert bd_rate(RATE, PSNR, RATE, PSNR, method) == pytest.approx(0, abs=1e-10)
    assert bd_rate(RATE, PSNR, np.multiply(RATE, 0.8), PSNR, method) == pytest.approx(-20)
    assert bd_rate(np.multiply(RATE, 0.8), PSNR, RATE, PSNR, method) == pytest.approx(25)
    assert bd_psnr(RATE, PSNR, RATE, np.add(PSNR, 0.7), method) == pytest.approx(0.7)


@METHODS
def test_straight_lines_by_hand(method):
    """log10 R = D / 10 - 3 against D / 10 - 3 + (D - 30) / 100, common qualities 32 to 40: mean gap (2 + 10) / 2 %."""
    a, b = np.array([30.0, 34, 37, 40]), np.array([32.0, 35, 39, 44])
    rate_a, rate_b = 10 ** (a / 10 - 3), 10 ** (b / 10 - 3 + (b - 30) / 100)
    assert bd_rate(rate_a, a, rate_b, b, method) == pytest.approx(100 * (10**0.06 - 1))
    assert bd_rate(rate_b, b, rate_a, a, method) == pytest.approx(100 * (10**-0.06 - 1))


def test_two_points_joined_by_a_line():
    """Anchor 1 to 10 bits from 30 to 40 dB; the other 2 to 10 bits: log10 gap falls from 0.301 to 0."""
    assert bd_rate([1, 10], [30, 40], [2, 10], [30, 40]) == pytest.approx(100 * (10 ** (math.log10(2) / 2) - 1))


@METHODS
def test_agrees_with_the_bjontegaard_library(method):
    library = pytest.importorskip("bjontegaard")
    mine, theirs = (RATE, PSNR, *OTHER), {"min_overlap": 0, "method": method, "require_matching_points": False}
    assert bd_rate(*mine, method) == pytest.approx(library.bd_rate(*map(np.array, mine), **theirs), rel=1e-9)
    assert bd_psnr(*mine, method) == pytest.approx(library.bd_psnr(*map(np.array, mine), **theirs), rel=1e-9)


def test_recorded_values_of_the_bjontegaard_library():
    """Version 1.3.0; kept here because the library is not installed everywhere."""
    assert bd_rate(RATE, PSNR, *OTHER) == pytest.approx(RECORDED["pchip"], rel=1e-9)
    assert bd_rate(RATE, PSNR, *OTHER, "cubic") == pytest.approx(RECORDED["cubic"], rel=1e-9)
    assert abs(RECORDED["pchip"] - RECORDED["cubic"]) > 1e-3  # the two methods are not one


@METHODS
def test_order_and_kind_of_the_numbers_do_not_matter(method):
    expected = bd_rate(RATE, PSNR, *OTHER, method)
    assert bd_rate(RATE[::-1], PSNR[::-1], *(torch.tensor(v, dtype=torch.float64) for v in OTHER), method) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1], [30], [1, 2], [30, 31]), "curve a needs at least 2 rates for method='pchip'"),
        (([1, 2, 3], [30, 31, 32], [1, 2], [30, 31], "cubic"), "curve a needs at least 4 rates for method='cubic'"),
        (([1, 2], [30, 31], [1, 2, 3], [30, 31]), "got shapes [3] and [2]"),
        (([0, 2], [30, 31], [1, 2], [30, 31]), "finite positive rates"),
        (([1, 2], [30, math.inf], [1, 2], [30, 31]), "a lossless point has none"),
        (([1, 2], [31, 30], [1, 2], [30, 31]), "the quality of curve a must grow with its rate"),
        (([1, 1], [30, 31], [1, 2], [30, 31]), "the quality of curve a must grow with its rate"),
        (([1, 2], [30, 31], [1, 2], [31, 32]), "the curves have no quality in common: [30, 31] and [31, 32]"),
        (([1, 2], [30, 31], [1, 2], [30, 31], "akima"), "method must be one of ['pchip', 'cubic'], got 'akima'"),
    ],
)
def test_bad_curves_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bd_rate(*arguments)


def test_rates_without_overlap_are_named():
    with pytest.raises(ValueError, match=r"the curves have no rate in common: .* \(log10\); code at more settings"):
        bd_psnr([1, 2], [30, 31], [2, 4], [30, 31])
