"""Harmonic transforms: round trips on every sampling, against the matrix of harmonics, bad input."""

import copy
import pickle

import pytest
import torch

from geomeq import groups, spheres
from geomeq.harmonics import SHT, InverseSHT, harmonic_matrix, largest_lmax

LMAX = 6
EXACT = {
    "gauss_legendre": lambda: spheres.gauss_legendre(7, 13),
    "gauss_legendre, odd columns": lambda: spheres.gauss_legendre(8, 15),
    "equiangular": lambda: spheres.equiangular(13),
    "lobatto": lambda: spheres.lobatto(8, 14),
    "driscoll_healy": lambda: spheres.driscoll_healy(7),
    "icosphere": lambda: spheres.icosphere(2),
    "fibonacci": lambda: spheres.fibonacci(150),
    "cubed": lambda: spheres.cubed(6),
    "random": lambda: spheres.random(300, seed=0),
    "rotated": lambda: spheres.gauss_legendre(7, 13).rotated(groups.SO3.random(1, seed=4)[0]),
}
ITERATED = {
    "healpix": lambda: spheres.healpix(4),
    "healpix, ring weights": lambda: spheres.healpix(4, weights="ring"),
    "reduced_gauss_legendre": lambda: spheres.reduced_gauss_legendre(12),
}
ALL = EXACT | ITERATED


def random_coefficients(lmax, spin, dtype=torch.float64, lead=(2,), channels=3):
    c = torch.randn(*lead, (lmax + 1) ** 2, channels, *((2,) if spin else ()), dtype=dtype)
    if spin:
        c[:, : spin**2] = 0
    return c


def by_matrix(s, c, spin):
    matrix = harmonic_matrix(s.pos, LMAX, spin).to(c.dtype)
    if not spin:
        return torch.einsum("nk,bkc->bnc", matrix, c)
    y = torch.einsum("nk,bkc->bnc", torch.view_as_complex(matrix), torch.view_as_complex(c))
    return torch.view_as_real(y)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("spin", [0, -2, 3])
def test_synthesis_is_the_matrix_of_harmonics(name, spin):
    s, c = ALL[name](), random_coefficients(LMAX, spin)
    torch.testing.assert_close(InverseSHT(s, LMAX, spin)(c), by_matrix(s, c, spin), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("spin", [0, 1, -2])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_round_trip_is_exact(name, spin, dtype, tol):
    s, c = EXACT[name](), random_coefficients(LMAX, spin, dtype)
    torch.testing.assert_close(SHT(s, LMAX, spin)(InverseSHT(s, LMAX, spin)(c)), c, atol=tol, rtol=0)


@pytest.mark.parametrize("name", ITERATED)
@pytest.mark.parametrize("spin", [0, -2])
def test_iterations_bring_the_coefficients_back(name, spin):
    s, c = ITERATED[name](), random_coefficients(LMAX, spin)
    x = InverseSHT(s, LMAX, spin)(c)
    once = (SHT(s, LMAX, spin, method="quadrature")(x) - c).abs().max()
    assert (SHT(s, LMAX, spin)(x) - c).abs().max() < max(1e-2 * once, 1e-12)
    torch.testing.assert_close(SHT(s, LMAX, spin, method="jacobi", iterations=20)(x), c, atol=1e-12, rtol=0)
    torch.testing.assert_close(SHT(s, LMAX, spin, method="cg")(x), c, atol=1e-12, rtol=0)
    if "healpix" in name:
        assert once > 1e-5  # one sum would not do


@pytest.mark.parametrize("spin", [0, 2])
@pytest.mark.parametrize("name", ["gauss_legendre", "healpix", "icosphere"])
def test_layouts_agree(name, spin):
    s, c = ALL[name](), random_coefficients(LMAX, spin)
    back, there = InverseSHT(s, LMAX, spin), SHT(s, LMAX, spin)
    x = back(c)
    torch.testing.assert_close(back(c[1]), x[1], atol=1e-13, rtol=0)
    torch.testing.assert_close(back(c[1, :, 2]), x[1, :, 2], atol=1e-13, rtol=0)
    torch.testing.assert_close(there(x[0]), there(x)[0], atol=1e-13, rtol=0)
    torch.testing.assert_close(there(x[0, :, 1]), there(x)[0, :, 1], atol=1e-13, rtol=0)


@pytest.mark.parametrize("spin", [0, 1])
@pytest.mark.parametrize("lmax", [128, pytest.param(512, marks=pytest.mark.slow)])
def test_round_trip_to_high_degree(lmax, spin):
    s = spheres.gauss_legendre(lmax + 1, 2 * lmax + 1)
    c = random_coefficients(lmax, spin, lead=(1,), channels=1)
    again = SHT(s, lmax, spin)(InverseSHT(s, lmax, spin)(c))
    assert (again - c).norm() < 1e-12 * c.norm()
    assert (again - c).abs().max() < 1e-12 * c.abs().max()


@pytest.mark.parametrize("make", [spheres.gauss_legendre, spheres.lobatto, spheres.equiangular])
def test_one_degree_too_many_aliases(make):
    s = make(9, 17)
    most = largest_lmax(s)
    assert most == {"gauss_legendre": 8, "lobatto": 7, "equiangular": 4}[s.kind]
    c = random_coefficients(most + 1, 0)
    x = InverseSHT(s, most + 1)(c)  # a sum is a sum
    assert (SHT(s, most + 1, method="quadrature")(x) - c).abs().max() > 1e-2
    with pytest.raises(ValueError, match=f"the largest lmax of .* is {most} "):
        SHT(s, most + 1)
    x = InverseSHT(s, most)(c[:, : (most + 1) ** 2])
    torch.testing.assert_close(SHT(s, most)(x), c[:, : (most + 1) ** 2], atol=1e-12, rtol=0)


def test_rings_in_any_order_with_any_start_and_no_mirror_image():
    """The general path, by rows that are neither symmetric nor sorted nor equally long."""
    theta = torch.tensor([2.0, 0.3, 1.1, 3.0, 1.5], dtype=torch.float64)
    count, start = torch.tensor([7, 3, 20, 1, 4]), torch.tensor([0.1, 2.0, 0.0, 0.7, 5.0], dtype=torch.float64)
    node = torch.randperm(35)
    rings = spheres.Rings(theta, count, start, node)
    row, phi = torch.arange(5).repeat_interleave(count), rings.longitude
    sin = theta.sin()[row]
    pos = torch.empty(35, 3, dtype=torch.float64)
    pos[node] = torch.stack([sin * phi.cos(), sin * phi.sin(), theta.cos()[row]], dim=1)
    s = spheres.Sampling("own", pos, torch.rand(35, dtype=torch.float64), None, rings)
    for spin in (0, 1, -2):
        c = random_coefficients(LMAX, spin)
        torch.testing.assert_close(InverseSHT(s, LMAX, spin)(c), by_matrix(s, c, spin), atol=1e-12, rtol=0)
        x = InverseSHT(s, 3, spin)(random_coefficients(3, spin))
        dense = spheres.Sampling("own", pos, s.area)
        want = SHT(dense, 3, spin, method="quadrature")(x)
        torch.testing.assert_close(SHT(s, 3, spin, method="quadrature")(x), want, atol=1e-12, rtol=0)


def test_copies_share_tables_and_pickles_find_them():
    s = spheres.gauss_legendre(5)
    sht = SHT(s, 4)
    x = torch.randn(50, 2)
    y = sht(x)
    assert copy.deepcopy(sht).transform is sht.transform
    assert SHT(spheres.gauss_legendre(5), 4).transform is sht.transform
    assert torch.equal(pickle.loads(pickle.dumps(sht))(x), y)
    assert sht.state_dict() == {}
    assert repr(sht) == "SHT(Sampling('gauss_legendre', num_nodes=50), lmax=4, method='quadrature')"


def test_a_cast_of_the_model_costs_no_digits():
    s, c = spheres.gauss_legendre(7, 13), random_coefficients(LMAX, 0)
    model = torch.nn.Sequential(InverseSHT(s, LMAX), SHT(s, LMAX)).float().half().double()
    torch.testing.assert_close(model(c), c, atol=1e-12, rtol=0)
    assert model(c.half()).dtype == torch.float16
    assert (model(c.half()) - c).abs().max() < 2e-2


def test_tables_born_in_inference_mode_serve_training():
    s = spheres.gauss_legendre(6, 11)
    with torch.inference_mode():
        sht = SHT(s, 5)
        sht(torch.randn(66, 1))
    x = torch.randn(66, 1, requires_grad=True)
    sht(x).square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_bad_input():
    s = spheres.gauss_legendre(5)
    sht, back = SHT(s, 4), InverseSHT(s, 4)
    for call, message in (
        (lambda: sht(torch.randn(49, 2)), r"x must have shape \[50, C\], got \[49, 2\]"),
        (lambda: sht(torch.randn(2, 49, 2)), r"x must have shape \[B, 50, C\]"),
        (lambda: SHT(s, 4, spin=1)(torch.randn(50, 3)), r"x must have shape \[50, 2\]"),
        (lambda: back(torch.randn(24, 2)), r"c must have shape \[25, C\]"),
        (lambda: sht(torch.full((50, 1), torch.nan)), "x must be finite, but row 0"),
        (lambda: sht(torch.cat([torch.ones(7), torch.tensor([torch.inf]), torch.ones(42)])), "row 7"),
        (lambda: back(torch.full((25,), torch.nan)), "c must be finite"),
        (lambda: SHT(s, 2, spin=3), "fields of spin 3 have no degree below 3, got lmax=2"),
        (lambda: SHT(s, -1), "lmax must be at least 0"),
        (lambda: SHT(s, 4, method="exact"), "method must be one of"),
        (lambda: SHT(s, 4, method="least_squares"), "take method='cg'"),
        (lambda: SHT(s, 4, iterations=2), "method='quadrature' does not iterate"),
        (lambda: SHT(spheres.healpix(4), 4, iterations=-1), "iterations must be an integer of at least 0"),
        (lambda: SHT(spheres.healpix(4), 12), "is 11 , got 12"),
        (lambda: SHT(spheres.icosphere(1), 6), "42 nodes hold at most degree 5"),
        (lambda: SHT(spheres.fibonacci(100_000), 60), "the largest lmax here is 24, got 60"),
        (lambda: SHT(spheres.healpix(4).part(torch.arange(64)), 7)(torch.ones(64)), "cannot tell the harmonics"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for call in (lambda: SHT(s, 2.0), lambda: SHT(s, 4, spin=True), lambda: SHT("healpix", 4)):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError, match="floating-point"):
        sht(torch.ones(50, dtype=torch.long))
