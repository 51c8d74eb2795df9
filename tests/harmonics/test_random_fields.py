"""Random fields: the same function on every sampling, and the statistics they were asked for."""

import math

import pytest
import torch
from scipy.stats import chi2, kstest

from geomeq import spheres
from geomeq.harmonics import SHT, gaussian_random_field, power_spectrum, random_coefficients
from tests.harmonics.test_spherical import random_rotations

RED = 1 / (1 + torch.arange(17.0, dtype=torch.float64)) ** 2


def draw(s, spectrum=RED, **options):
    return gaussian_random_field(s, spectrum, torch.Generator().manual_seed(3), **options)


def test_one_seed_is_one_function_on_every_sampling():
    (turn,) = random_rotations(1)
    whole = spheres.gauss_legendre(20)
    x = draw(whole, dtype=torch.float64)
    points = spheres.scattered(whole.pos[::7])  # the same places with no rings
    torch.testing.assert_close(draw(points, dtype=torch.float64), x[::7], atol=1e-12, rtol=0)
    part = torch.arange(0, 800, 3)
    torch.testing.assert_close(draw(whole.part(part), dtype=torch.float64), x[part], atol=1e-12, rtol=0)
    torch.testing.assert_close(draw(whole), x.float(), atol=1e-5, rtol=0)
    moved = draw(whole.rotated(turn), dtype=torch.float64)
    assert (moved - x).abs().max() > 0.1  # other places, other numbers
    again = draw(whole.rotated(turn).rotated(turn.T), dtype=torch.float64)
    torch.testing.assert_close(again, x, atol=1e-12, rtol=0)
    for s in (spheres.healpix(8), spheres.icosphere(3), spheres.reduced_gauss_legendre(24)):
        c = SHT(s, 16, method="cg")(draw(s, dtype=torch.float64))
        want = random_coefficients(RED, torch.Generator().manual_seed(3))
        torch.testing.assert_close(c, want, atol=1e-6, rtol=0)


def test_a_longer_spectrum_adds_details():
    longer = torch.cat([RED, torch.ones(9, dtype=torch.float64)])
    first, second = (random_coefficients(s, torch.Generator().manual_seed(0)) for s in (RED, longer))
    assert torch.equal(second[: len(first)], first)


def test_shapes_and_independence():
    s = spheres.healpix(2)
    assert draw(s).shape == (48,)
    assert draw(s, num_fields=3).shape == (48, 3)
    assert draw(s, num_fields=3, batch=2).shape == (2, 48, 3)
    assert draw(s, batch=2).shape == (2, 48, 1)
    c = random_coefficients(torch.ones(31), torch.Generator().manual_seed(0), num_fields=2)
    assert abs(float((c[:, 0] * c[:, 1]).mean())) < 4 / math.sqrt(len(c))


def test_spectrum_within_its_variance():
    """(2l+1) C_hat / C has the chi-square law with 2l+1 degrees of freedom."""
    s = spheres.gauss_legendre(17, 33)
    x = draw(s, num_fields=200, dtype=torch.float64)
    spectrum = power_spectrum(SHT(s, 16)(x))
    for degree in (0, 1, 5, 16):
        freedom = 2 * degree + 1
        sample = (spectrum[degree] / RED[degree] * freedom).numpy()
        assert kstest(sample, chi2(freedom).cdf).pvalue > 1e-3
        assert kstest(1.3 * sample, chi2(freedom).cdf).pvalue < 0.05 or degree == 0  # a third more would show
    error = (spectrum.mean(1) / RED - 1).abs() * ((2.0 * torch.arange(17) + 1) * 200 / 2).sqrt()
    assert error.max() < 4


def test_covariance_depends_on_the_distance_alone():
    s = spheres.random(12, seed=1)
    x = draw(s, num_fields=20_000, dtype=torch.float64)
    covariance = x @ x.T / x.size(1)
    cos = (s.pos @ s.pos.T).clamp(-1, 1)
    legendre = [torch.ones_like(cos), cos]
    for degree in range(2, 17):
        legendre.append(((2 * degree - 1) * cos * legendre[-1] - (degree - 1) * legendre[-2]) / degree)
    weight = (2 * torch.arange(17.0, dtype=torch.float64) + 1) * RED / (4 * math.pi)
    wanted = torch.einsum("l,lij->ij", weight, torch.stack(legendre))
    assert (covariance - wanted).abs().max() < 5 * float(wanted[0, 0]) * math.sqrt(2 / 20_000)


def test_gradient_of_the_spectrum():
    spectrum = RED[:5].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda c: draw(spheres.healpix(1), c, dtype=torch.float64), spectrum)


def test_bad_input():
    s = spheres.healpix(1)
    for call, message in (
        (lambda: gaussian_random_field(s, torch.tensor([1.0, -1.0])), "not negative, got -1"),
        (lambda: gaussian_random_field(s, torch.tensor([1.0, torch.nan])), "spectrum must be finite"),
        (lambda: gaussian_random_field(s, torch.ones(2, 2)), r"spectrum must have shape \[lmax \+ 1\]"),
        (lambda: gaussian_random_field(s, torch.ones(0)), "at least the degree 0"),
        (lambda: gaussian_random_field(s, torch.ones(3), num_fields=0), "num_fields must be a positive integer"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
