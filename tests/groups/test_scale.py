"""Translations and scales: the left Haar measure, bad input."""

import math

import pytest
import torch

from geomeq.groups import ScaleTranslation


def test_weight_is_the_left_haar_measure_of_the_region():
    group = ScaleTranslation(2, ratio=2.0)
    sample = group.sample((4, 3, 3))
    reach = 1.5 * math.log(2)
    exact = (12 / 16) * (math.exp(2 * reach) - math.exp(-2 * reach)) / 2
    assert float(sample.weight.sum()) == pytest.approx(exact, rel=1e-14)
    ratio = sample.weight.view(3, 12)[:, 0]
    torch.testing.assert_close(ratio[:-1] / ratio[1:], torch.full((2,), 4.0, dtype=torch.float64))


def bump(a):
    """Smooth, far below rounding at the border of the region that is summed over."""
    return torch.exp(-40 * (a[..., :1].square().sum(-1) + (a[..., -1]).square()))


def test_sums_are_left_invariant_and_flat_weights_are_not():
    group = ScaleTranslation(1, ratio=2 ** (1 / 16))
    sample = group.sample((400, 160))
    element = sample.element * torch.tensor([6.0, 1.0], dtype=torch.float64)  # a wider strip of places
    u = torch.tensor([0.2, 0.5], dtype=torch.float64)
    moved = group.compose(u.expand_as(element), element)
    flat = torch.ones_like(sample.weight)
    for weight, holds in ((sample.weight, True), (flat, False)):
        still, shifted = float((weight * bump(element)).sum()), float((weight * bump(moved)).sum())
        assert (abs(shifted / still - 1) < 1e-3) is holds
    assert abs(float((flat * bump(moved)).sum() / (flat * bump(element)).sum()) - 1) > 0.2


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 2.5}, {"ratio": 1.0}, {"ratio": 0.5}, {"ratio": math.nan}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        ScaleTranslation(**options)


def test_log_is_defined_for_extreme_scales():
    group = ScaleTranslation(1)
    a = torch.tensor([[1.0, 50.0], [1.0, -50.0], [1.0, 0.0], [1.0, 1e-200]], dtype=torch.float64)
    torch.testing.assert_close(group.exp(group.log(a)), a, atol=0, rtol=1e-14)


def test_the_group_does_not_commute():
    group = ScaleTranslation(2)
    a, b = group.random(5, seed=0), group.random(5, seed=1)
    assert not torch.allclose(group.compose(a, b), group.compose(b, a), atol=0.1)


def test_repr_names_what_differs_from_the_default():
    assert repr(ScaleTranslation()) == "ScaleTranslation(2)"
    assert repr(ScaleTranslation(3, ratio=2.0)) == "ScaleTranslation(3, ratio=2.0)"
