"""Filters on a disc: torch-harmonics as an oracle, smoothness, symmetry, norms, bad input."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch

from geomeq.harmonics import filter_basis
from geomeq.harmonics._disc_bases import FILTER_BASES

CUTOFF = 0.3
PEERS = {
    "piecewise_linear": ("piecewise linear", [(3, 3), (5, 4), (4, 3), (2, 5), (4, 1), 3, (1, 1), (1, 3)]),
    "harmonic": ("harmonic", [(3, 3), 2, (2, 5)]),
    "morlet": ("morlet", [(3, 4)]),
    "zernike": ("zernike", [1, 4]),
    "fourier_bessel": ("fourier-bessel", [(3, 3), (2, 4), 3]),
}
SHAPES = {"zernike": [3], "fourier_bessel": [(2, 3)], "steerable": [(2, 3), (1, 1)]}
RINGS = [(1, 1), (3, 3), (4, 3), (5, 4), (2, 5)]
EVERY = [(name, shape) for name in FILTER_BASES for shape in SHAPES.get(name, RINGS)]


def points(count=500, reach=1.2):
    generator = torch.Generator().manual_seed(0)
    r = torch.rand(count, generator=generator, dtype=torch.float64) * reach * CUTOFF
    return r, torch.rand(count, generator=generator, dtype=torch.float64) * 2 * math.pi


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, (_, shapes) in PEERS.items() for shape in shapes])
@pytest.mark.filterwarnings("ignore:The 'morlet' basis type is deprecated")
def test_values_and_supports_are_those_of_torch_harmonics(name, shape):
    peers = pytest.importorskip("torch_harmonics.filter_basis")
    theirs = peers.get_filter_basis(shape, PEERS[name][0])
    r, angle = points()
    r[:20], angle[20:40], angle[40:60] = 0, 0, math.pi
    where, values = theirs.compute_support_vals(r[None], angle[None], r_cutoff=CUTOFF)
    expected = torch.zeros(theirs.kernel_size, 1, len(r), dtype=torch.float64)
    inside = torch.zeros(expected.shape, dtype=torch.bool)
    expected[tuple(where.T)], inside[tuple(where.T)] = values, True

    ours = filter_basis(name, shape, CUTOFF)

    assert ours.size == theirs.kernel_size
    assert ours.isotropic.tolist() == theirs.isotropic_mask
    torch.testing.assert_close(ours(r, angle), expected[:, 0].T, atol=1e-10, rtol=1e-10)
    away = ~((angle == 0) | (angle == math.pi))  # there a node can lie on the foot of a hat, to the last digit
    assert torch.equal(ours.support(r, angle)[away], inside[:, 0].T[away])


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_zero_outside_one_turn_and_both_precisions(name, shape):
    basis = filter_basis(name, shape, CUTOFF)
    r, angle = points()
    psi = basis(r, angle)
    assert psi.shape == (len(r), basis.size)
    assert torch.all(psi[r > CUTOFF] == 0)
    assert torch.all(psi[~basis.support(r, angle)] == 0)
    assert bool((psi[r < CUTOFF].abs().amax(dim=0) > 0.02).all())  # every function is there
    for turns in (-3, -1, 1, 2):
        torch.testing.assert_close(basis(r, angle + turns * 2 * math.pi), psi, atol=1e-12, rtol=0)
    torch.testing.assert_close(basis(r.float(), angle.float()), psi.float(), atol=2e-5, rtol=0)
    other = basis(r, (angle + 1.0) % (2 * math.pi))
    moved = (other - psi).abs().amax(dim=0) > 1e-6
    assert torch.equal(~moved, basis.isotropic)


def slopes(basis, x, y, step=1e-6):
    """Central differences in the plane, ``[2, K]``."""

    def at(dx, dy):
        place = torch.tensor([x + dx, y + dy], dtype=torch.float64)
        return basis(place.norm(), torch.atan2(place[1], place[0]))

    return torch.stack([at(step, 0) - at(-step, 0), at(0, step) - at(0, -step)]) / (2 * step)


@pytest.mark.parametrize(("name", "shape"), [(n, s) for n, s in EVERY if n in ("hann", "hann2", "steerable")])
def test_smooth_at_the_rim_and_of_one_value_at_the_centre(name, shape):
    basis = filter_basis(name, shape, CUTOFF)
    angle = torch.arange(12, dtype=torch.float64) / 2
    centre = basis(torch.full_like(angle, 1e-9), angle)
    torch.testing.assert_close(centre, centre[:1].expand_as(centre), atol=1e-6, rtol=0)
    assert float(basis(torch.full_like(angle, CUTOFF), angle).abs().max()) < 1e-12
    assert float(slopes(basis, 0.999999 * CUTOFF, 0.0).abs().max()) < 1e-3
    torch.testing.assert_close(slopes(basis, 1e-5, 0.0), slopes(basis, 0.0, -1e-5), atol=1e-2, rtol=0)


def test_hats_are_not_smooth_so_the_check_has_teeth():
    assert float(slopes(filter_basis("piecewise_linear", 3, CUTOFF), 0.999999 * CUTOFF, 0.0).abs().max()) > 1


def test_hann_has_the_rings_of_the_hats_and_its_single_bump_is_a_squared_cosine():
    for shape in RINGS:
        hann, hats = filter_basis("hann", shape, CUTOFF), filter_basis("piecewise_linear", shape, CUTOFF)
        assert hann.size == hats.size
    r, angle = points(reach=1.0)
    torch.testing.assert_close(
        filter_basis("hann", 1, CUTOFF)(r, angle)[:, 0], (math.pi * r / (2 * CUTOFF)).cos() ** 2, atol=1e-12, rtol=0
    )
    inner = r < 2 / 3 * CUTOFF  # the bumps of order 0 sum to one, up to the last ring
    total = filter_basis("hann", (5, 1), CUTOFF)(r, angle).sum(dim=1)
    torch.testing.assert_close(total[inner], torch.ones_like(total[inner]))
    assert float(total[~inner].min()) < 0.1


def test_a_turn_of_the_frame_is_a_matrix_for_steerable_filters_and_whole_pairs():
    r, angle = points()
    basis = filter_basis("steerable", (3, 3), CUTOFF)
    for turn in (0.0, 0.7, -2.0):
        torch.testing.assert_close(basis(r, angle) @ basis.turn(turn).T, basis(r, angle - turn), atol=1e-12, rtol=0)
    for name, shape, steers in (("hann", (3, 3), True), ("hann", (3, 2), False), ("piecewise_linear", (3, 3), False)):
        psi = filter_basis(name, shape, CUTOFF)(r, angle)
        turned = filter_basis(name, shape, CUTOFF)(r, angle - 0.7)
        left = turned - psi @ torch.linalg.lstsq(psi, turned).solution
        assert (float(left.abs().max()) < 1e-10) == steers


def disc_integral(basis, count=400):
    """Gram matrix on the unit disc by Gauss-Legendre in the radius and equal steps in the azimuth."""
    node, weight = np.polynomial.legendre.leggauss(count)
    u, w = torch.from_numpy((node + 1) / 2), torch.from_numpy(weight / 2)
    angle = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
    psi = basis((u * basis.cutoff)[:, None].expand(-1, 64), angle.expand(count, 64))
    return torch.einsum("rak,ral,r->kl", psi, psi, w * u) * (2 * math.pi / 64)


@pytest.mark.parametrize(("name", "shape", "tol"), [("zernike", 5, 1e-10), ("fourier_bessel", (3, 4), 1e-10)])
def test_orthonormal_on_the_unit_disc(name, shape, tol):
    basis = filter_basis(name, shape, CUTOFF)
    torch.testing.assert_close(disc_integral(basis), torch.eye(basis.size, dtype=torch.float64), atol=tol, rtol=0)


def test_harmonic_has_norm_one_and_morlet_has_not():
    norm = disc_integral(filter_basis("harmonic", (3, 3), CUTOFF)).diagonal()
    torch.testing.assert_close(norm, torch.ones(9, dtype=torch.float64), atol=1e-3, rtol=0)
    assert float(disc_integral(filter_basis("morlet", (3, 3), CUTOFF)).diagonal()[0]) < 0.9


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_copies_and_pickles(name, shape):
    basis = filter_basis(name, shape, CUTOFF)
    r, angle = points(20)
    for twin in (copy.deepcopy(basis), pickle.loads(pickle.dumps(basis))):
        torch.testing.assert_close(twin(r, angle), basis(r, angle))
    assert str(CUTOFF) in repr(basis)


@pytest.mark.parametrize(
    ("name", "shape", "cutoff", "message"),
    [
        ("gauss", (3, 3), 0.1, "basis must be one of hann, hann2, .* got 'gauss'"),
        ("hann", (3, 3), 0.0, "more than 0, got 0.0"),
        ("hann", (3, 3), math.nan, "more than 0, got nan"),
        ("hann", (3, 0), 0.1, "at least 1"),
        ("hann", (3, 3, 3), 0.1, "one or two integers"),
        ("hann", 2.5, 0.1, "integer"),
        ("hann", (2.5, 1), 0.1, "integer or a tuple"),
        ("zernike", (3, 2), 0.1, "one integer"),
        ("fourier_bessel", (0, 2), 0.1, "at least 1"),
    ],
)
def test_bad_arguments(name, shape, cutoff, message):
    with pytest.raises((ValueError, TypeError), match=message):
        filter_basis(name, shape, cutoff)


def test_bad_places():
    basis = filter_basis("hann", (3, 3), CUTOFF)
    with pytest.raises(ValueError, match="angle must have shape"):
        basis(torch.zeros(3), torch.zeros(4))
    with pytest.raises(TypeError, match="floating point"):
        basis(torch.zeros(3, dtype=torch.long), torch.zeros(3))
