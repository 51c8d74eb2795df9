"""Weights that are exact to a degree: by the definition, against the old ones, and what they do for a convolution."""

import math

import pytest
import torch

from geomeq import groups, spheres
from geomeq.harmonics import SHT, InverseSHT, exact_weights, harmonic_matrix

SAMPLINGS = {
    "healpix": (lambda: spheres.healpix(4), 9),
    "icosphere": (lambda: spheres.icosphere(3), 14),
    "fibonacci": (lambda: spheres.fibonacci(700), 16),
    "cubed": (lambda: spheres.cubed(10), 14),
    "random": (lambda: spheres.random(900), 9),
}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_integrals_are_exact_to_the_degree_and_weights_stay_near(name):
    make, degree = SAMPLINGS[name]
    s = make()
    exact = exact_weights(s, degree)
    assert exact.exact_degree == degree
    assert torch.equal(exact.pos, s.pos)
    wanted = torch.zeros((degree + 1) ** 2, dtype=torch.float64)
    wanted[0] = math.sqrt(4 * math.pi)
    table = harmonic_matrix(s.pos, degree + 6)
    inside = slice(0, (degree + 1) ** 2)
    torch.testing.assert_close(exact.area @ table[:, inside], wanted, rtol=0, atol=1e-12)
    assert float((s.area @ table[:, inside] - wanted).abs().max()) > 1e-9  # the old ones are not exact
    assert float((exact.area @ table).abs().max()) > 0
    assert bool((exact.area > 0).all())
    assert float(((exact.area / s.area - 1) ** 2).mean().sqrt()) < 0.35


def test_no_other_exact_weights_are_nearer():
    s = spheres.fibonacci(300)
    exact = exact_weights(s, 8)
    # the change over the old weights is a polynomial of that degree: orthogonal to all that would keep the integrals
    table = harmonic_matrix(s.pos, 8)
    change = exact.area / s.area - 1
    fit = torch.linalg.lstsq(table, change[:, None]).solution
    torch.testing.assert_close((table @ fit)[:, 0], change, rtol=0, atol=1e-11)


def test_symmetries_of_the_points_are_those_of_the_weights():
    exact = exact_weights(spheres.healpix(4), 9)
    faces = exact.area.view(3, 4, 16)
    torch.testing.assert_close(faces, faces[:, :1].expand_as(faces), rtol=1e-11, atol=0)


def test_a_transform_by_quadrature_becomes_exact():
    s = spheres.icosphere(3)
    c = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for sampling in (s, exact_weights(s, 14)):
        x = InverseSHT(sampling, 7)(c)
        errors.append(float((SHT(sampling, 7, method="quadrature")(x) - c).abs().max()))
    assert errors[0] > 1e-3
    assert errors[1] < 1e-12


def test_turned_points_have_the_same_weights():
    s = spheres.cubed(8)
    turned = s.rotated(groups.SO3.random(1, seed=1)[0])
    torch.testing.assert_close(exact_weights(turned, 9).area, exact_weights(s, 9).area, rtol=1e-10, atol=0)


def test_what_is_exact_already_stays_as_it_is():
    s = spheres.gauss_legendre(8)
    assert exact_weights(s, 15) is s


@pytest.mark.parametrize(
    ("make", "degree", "message"),
    [
        (lambda: spheres.healpix(2), 7, "fewer nodes than there are polynomials of degree 7; at most 5 can do"),
        (lambda: spheres.random(400, seed=2), 17, "no positive weights|no weights exact"),
        (lambda: spheres.equiangular(12, 24), 13, "no weights exact to degree 13"),
        (lambda: spheres.healpix(4).part(torch.arange(100)), 3, "this is a part"),
        (lambda: spheres.healpix(4), -1, "degree must be an integer of at least 0, got -1"),
        (lambda: spheres.healpix(4), 2.0, "degree must be an integer"),
    ],
)
def test_degrees_that_cannot_be_had(make, degree, message):
    with pytest.raises(ValueError, match=message):
        exact_weights(make(), degree)
