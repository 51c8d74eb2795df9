"""Spectra, rotations, derivatives and the conventions of other libraries."""

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from geomeq import spheres
from geomeq.groups import SO3
from geomeq.groups.so3 import sphere_frame
from geomeq.harmonics import (
    SHT,
    InverseSHT,
    cross_spectrum,
    curl,
    degrees,
    divergence,
    from_complex,
    from_e3nn,
    from_healpy,
    gradient,
    harmonic_matrix,
    lower_spin,
    orders,
    power_spectrum,
    raise_spin,
    rotate,
    spherical_harmonics,
    to_complex,
    to_e3nn,
    to_healpy,
)
from tests.harmonics.test_spherical import random_rotations
from tests.nn._spin_harmonics import wigner_d

LMAX = 5
COUNT = (LMAX + 1) ** 2


def unit(count=20):
    return torch.nn.functional.normalize(torch.randn(count, 3, dtype=torch.float64), dim=1)


def spin_harmonic(spin, degree, m, pos):
    if degree < abs(spin):
        return torch.zeros(len(pos), dtype=torch.complex128)
    size = math.sqrt((2 * degree + 1) / (4 * math.pi)) * wigner_d(degree, m, -spin, torch.acos(pos[:, 2]))
    return size * torch.polar(torch.ones_like(size), m * torch.atan2(pos[:, 1], pos[:, 0]))


def complex_matrix(spin, pos):
    """The real basis from Wigner's own sum, by its definition."""
    columns = []
    for degree, order in zip(degrees(LMAX).tolist(), orders(LMAX).tolist(), strict=True):
        m = abs(order)
        up, down = (-1) ** m * spin_harmonic(spin, degree, m, pos), spin_harmonic(spin, degree, -m, pos)
        if order == 0:
            columns.append(up)
        else:
            columns.append((up + down) / math.sqrt(2) if order > 0 else (up - down) / (1j * math.sqrt(2)))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("spin", [0, 1, -1, 2, -3, 4])
def test_harmonics_are_those_of_wigners_sum(spin):
    pos = unit()
    got = harmonic_matrix(pos, LMAX, spin)
    got = torch.view_as_complex(got) if spin else got.to(torch.complex128)
    torch.testing.assert_close(got, complex_matrix(spin, pos), atol=1e-13, rtol=0)
    if spin:
        assert (got - complex_matrix(-spin, pos)).abs().max() > 0.1


def test_scalar_harmonics_are_those_of_scipy():
    pos, c = unit(), torch.randn(COUNT, dtype=torch.float64)
    theta, phi = torch.acos(pos[:, 2]).numpy(), torch.atan2(pos[:, 1], pos[:, 0]).numpy()
    a = to_complex(c).numpy()
    total = np.zeros(len(pos))
    for degree in range(LMAX + 1):
        for order in range(degree + 1):
            twice = 2 if order else 1
            total += twice * (a[degree, order] * sph_harm_y(degree, order, theta, phi)).real
    assert np.abs(total - (harmonic_matrix(pos, LMAX) @ c).numpy()).max() < 1e-12


@pytest.mark.parametrize("shape", [(COUNT,), (COUNT, 3), (2, COUNT, 3)])
def test_other_conventions_and_back(shape):
    c = torch.randn(shape, dtype=torch.float64)
    for there, back in ((to_complex, from_complex), (to_healpy, from_healpy), (to_e3nn, from_e3nn)):
        torch.testing.assert_close(back(there(c)), c, atol=1e-13, rtol=0)
        assert there(c).shape != c.shape or not torch.allclose(there(c), c)


def test_e3nn_has_its_polar_axis_elsewhere():
    pos, c = unit(), torch.randn(COUNT, dtype=torch.float64)
    ours, theirs = harmonic_matrix(pos, LMAX), spherical_harmonics(pos, LMAX, "integral")
    torch.testing.assert_close(theirs @ to_e3nn(c), ours @ c, atol=1e-13, rtol=0)
    torch.testing.assert_close(spherical_harmonics(pos[:, [1, 2, 0]], LMAX, "integral"), ours, atol=1e-13, rtol=0)
    assert not torch.allclose(theirs, ours)
    component = spherical_harmonics(pos, LMAX) @ to_e3nn(c) / math.sqrt(4 * math.pi)
    torch.testing.assert_close(component, ours @ c, atol=1e-13, rtol=0)


@pytest.mark.parametrize("spin", [0, 1, 2, -3])
def test_rotation_of_coefficients_is_rotation_of_the_field(spin):
    """A spin field at a turned point, in the turned frame, has the number that it had before."""
    (turn,), pos = random_rotations(1), unit()
    c = torch.randn(COUNT, *((2,) if spin else ()), dtype=torch.float64)
    c = c * (degrees(LMAX) >= abs(spin)).view(-1, *(1,) * (c.dim() - 1))
    moved = pos @ turn.T
    before, after = (harmonic_matrix(p, LMAX, spin) for p in (pos, moved))
    if not spin:
        torch.testing.assert_close(after @ rotate(c, turn), before @ c, atol=1e-12, rtol=0)
        assert not torch.allclose(after @ c, before @ c)
        return
    z = torch.view_as_complex(before) @ torch.view_as_complex(c)
    w = torch.view_as_complex(after) @ torch.view_as_complex(rotate(c, turn, spin).contiguous())
    south = turn @ sphere_frame(pos)[:, :, 0, None]  # e1, carried along
    there = (sphere_frame(moved).mT @ south).squeeze(-1)
    angle = torch.atan2(there[:, 1], there[:, 0])  # from the meridian's frame to the one carried along
    torch.testing.assert_close(torch.polar(torch.ones_like(angle), -spin * angle) * w, z, atol=1e-12, rtol=0)
    assert (torch.polar(torch.ones_like(angle), spin * angle) * w - z).abs().max() > 0.1


@pytest.mark.parametrize("spin", [0, 1])
def test_a_turn_about_the_axis_is_a_phase_and_a_shift_of_columns(spin):
    s = spheres.gauss_legendre(6, 12)
    x = torch.randn(72, *((2,) if spin else ()), dtype=torch.float64)
    x = InverseSHT(s, LMAX, spin)(SHT(s, LMAX, spin)(x))
    shifted = x.unflatten(0, (6, 12)).roll(1, dims=1).flatten(0, 1)
    turn = SO3.exp(torch.tensor([0.0, 0.0, 2 * math.pi / 12], dtype=torch.float64))
    want = rotate(SHT(s, LMAX, spin)(x), turn, spin)
    torch.testing.assert_close(SHT(s, LMAX, spin)(shifted), want, atol=1e-13, rtol=0)
    if not spin:
        a, b = to_complex(SHT(s, LMAX)(x)), to_complex(want)
        phase = torch.polar(torch.ones(LMAX + 1).double(), -2 * math.pi / 12 * torch.arange(LMAX + 1).double())
        torch.testing.assert_close(b, a * phase, atol=1e-13, rtol=0)


def test_rotations_compose_and_have_derivatives():
    (a, b), c = random_rotations(2), torch.randn(2, COUNT, 3, dtype=torch.float64)
    torch.testing.assert_close(rotate(rotate(c, b), a), rotate(c, a @ b), atol=1e-12, rtol=0)
    torch.testing.assert_close(power_spectrum(rotate(c, a)), power_spectrum(c), atol=1e-12, rtol=0)
    turn = a.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda r: rotate(c[0, :, 0], r), turn)


@pytest.mark.parametrize("spin", [-2, -1, 0, 1, 2])
def test_derivatives_that_raise_and_lower_the_spin(spin):
    """Against finite differences in colatitude and longitude."""
    pos, step = unit(), 1e-5
    theta, phi = torch.acos(pos[:, 2]), torch.atan2(pos[:, 1], pos[:, 0])
    z = torch.randn(COUNT, 2, dtype=torch.float64) * (degrees(LMAX) >= abs(spin))[:, None]
    z = z if spin else z * torch.tensor([1.0, 0.0])

    def field(theta, phi, z, spin):
        at = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], dim=1)
        y = harmonic_matrix(at, LMAX, spin)
        return (torch.view_as_complex(y) if spin else y.to(torch.complex128)) @ torch.view_as_complex(z)

    south = (field(theta + step, phi, z, spin) - field(theta - step, phi, z, spin)) / (2 * step)
    east = (field(theta, phi + step, z, spin) - field(theta, phi - step, z, spin)) / (2 * step) / theta.sin()
    twist = spin * field(theta, phi, z, spin) / theta.tan()
    c = z if spin else z[:, 0]
    torch.testing.assert_close(
        field(theta, phi, raise_spin(c, spin), spin + 1), south + 1j * east - twist, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        field(theta, phi, lower_spin(c, spin), spin - 1), south - 1j * east + twist, atol=1e-6, rtol=0
    )


def test_gradient_divergence_and_curl():
    c = torch.randn(2, COUNT, 3, dtype=torch.float64)
    size = (degrees(LMAX) * (degrees(LMAX) + 1)).double()[:, None]
    torch.testing.assert_close(divergence(gradient(c)), -size * c)
    assert not curl(gradient(c)).any()
    stream = gradient(c)[..., [1, 0]] * torch.tensor([-1.0, 1.0])  # turned by 90 degrees: i times
    assert not divergence(stream).any()
    torch.testing.assert_close(curl(stream), -size * c)


def test_gradient_of_the_height_points_north():
    s = spheres.healpix(4)
    c = SHT(s, 1)(s.pos[:, 2])
    v = InverseSHT(s, 1, spin=1)(gradient(c))
    sin = s.pos[:, :2].norm(dim=1)
    torch.testing.assert_close(v, torch.stack([-sin, torch.zeros_like(sin)], dim=1), atol=1e-8, rtol=0)


def test_parseval_and_spectra():
    s = spheres.gauss_legendre(6, 11)
    c = torch.randn(2, COUNT, 3, dtype=torch.float64)
    x = InverseSHT(s, LMAX)(c)
    energy = torch.einsum("n,bnc->bc", s.area, x.square())
    torch.testing.assert_close(energy, c.square().sum(1))
    weight = 2.0 * torch.arange(LMAX + 1) + 1
    torch.testing.assert_close(energy, torch.einsum("l,blc->bc", weight.double(), power_spectrum(c)))
    d = torch.randn_like(c)
    torch.testing.assert_close(cross_spectrum(c, d)[0, 1, 2], (c * d)[0, 1:4, 2].mean())
    z = torch.randn(COUNT, 1, 2, dtype=torch.float64)
    z[0] = 0
    v = InverseSHT(s, LMAX, 1)(z)
    torch.testing.assert_close(torch.einsum("n,nck->", s.area, v.square()), z.square().sum())


def test_bad_input():
    for call, message in (
        (lambda: power_spectrum(torch.ones(8)), r"\(lmax \+ 1\)\^2 coefficients, a square number"),
        (lambda: cross_spectrum(torch.ones(9), torch.ones(16)), "same degree, got lmax=2 and 3"),
        (lambda: rotate(torch.ones(9), -torch.eye(3)), "determinant 1"),
        (lambda: rotate(torch.ones(9), torch.full((3, 3), torch.nan)), "orthogonal"),
        (lambda: rotate(torch.ones(9, 3), torch.eye(3), spin=1), r"\[K, 2\]"),
        (lambda: from_complex(torch.ones(3, 3)), "must be complex"),
        (lambda: from_complex(torch.ones(3, 2) + 0j), "as many orders as degrees"),
        (lambda: from_healpy(torch.ones(5) + 0j), "mmax < lmax"),
        (lambda: harmonic_matrix(torch.ones(4, 2), 2), "pos must have shape"),
        (lambda: harmonic_matrix(torch.ones(4, 3), 1, spin=-2), "begin at degree 2"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
