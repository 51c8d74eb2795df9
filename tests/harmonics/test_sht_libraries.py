"""Harmonic transforms against healpy, ducc and torch-harmonics."""

import numpy as np
import pytest
import torch

from geomeq import spheres
from geomeq.harmonics import SHT, InverseSHT, degrees, rotate, to_complex, to_healpy
from tests.harmonics.test_spherical import random_rotations

LMAX = 12
COUNT = (LMAX + 1) ** 2


def coefficients(spin=0, lmax=LMAX):
    c = torch.randn((lmax + 1) ** 2, *((2,) if spin else ()), dtype=torch.float64)
    return c * (degrees(lmax) >= abs(spin)).view(-1, *(1,) * (c.dim() - 1))


def test_healpy_scalars_both_ways():
    healpy = pytest.importorskip("healpy")
    s, c = spheres.healpix(8), coefficients()
    x = InverseSHT(s, LMAX)(c)
    ring = healpy.alm2map(to_healpy(c).numpy(), 8, lmax=LMAX)
    assert np.abs(healpy.reorder(ring, r2n=True) - x.numpy()).max() < 1e-12
    for turns in (0, 3):  # the same iteration, so the same error
        theirs = healpy.map2alm(ring, lmax=LMAX, iter=turns)
        ours = SHT(s, LMAX, method="jacobi", iterations=turns)(x)
        assert np.abs(theirs - to_healpy(ours).numpy()).max() < 1e-12
        assert np.abs(theirs - to_healpy(c).numpy()).max() > 1e-12


@pytest.mark.parametrize("spin", [1, 2, 3])
def test_healpy_spins(spin):
    healpy = pytest.importorskip("healpy")
    s, z = spheres.healpix(8), coefficients(spin)
    sign = (-1) ** (spin + 1)
    parts = [sign * to_healpy(z[:, part]).numpy() for part in (0, 1)]
    maps = [healpy.reorder(x, r2n=True) for x in healpy.alm2map_spin(parts, 8, spin, LMAX)]
    assert np.abs(np.stack(maps, 1) - InverseSHT(s, LMAX, spin)(z).numpy()).max() < 1e-12


@pytest.mark.parametrize("spin", [0, 1, 2])
@pytest.mark.parametrize("lmax", [20, pytest.param(512, marks=pytest.mark.slow)])
def test_ducc_on_a_gauss_legendre_grid(spin, lmax):
    ducc0 = pytest.importorskip("ducc0")
    s, c = spheres.gauss_legendre(lmax + 1, 2 * lmax + 2), coefficients(spin, lmax)
    sign = (-1) ** (spin + 1) if spin else 1
    parts = [c[:, 0], c[:, 1]] if spin else [c]
    alm = np.stack([sign * to_healpy(part).numpy() for part in parts])
    theirs = ducc0.sht.synthesis_2d(
        alm=alm, spin=spin, lmax=lmax, ntheta=lmax + 1, nphi=2 * lmax + 2, geometry="GL", nthreads=1
    )
    ours = InverseSHT(s, lmax, spin)(c)
    theirs = torch.from_numpy(theirs.reshape(len(parts), -1).T.copy())
    ours = ours if spin else ours[:, None]
    # both begin from cos(theta), whose last digit moves a place near a pole by that digit over sin(theta)
    near = s.pos[:, :2].norm(dim=1)[:, None]
    assert ((ours - theirs).abs() * near).max() < 1e-12 * lmax


def test_ducc_on_rotated_points():
    ducc0 = pytest.importorskip("ducc0")
    (turn,), c = random_rotations(1), coefficients()
    s = spheres.fibonacci(200)
    x = InverseSHT(s, LMAX)(rotate(c, turn))
    back = s.pos @ turn
    theta, phi = torch.acos(back[:, 2]), torch.atan2(back[:, 1], back[:, 0]) % (2 * torch.pi)
    place = torch.stack([theta, phi], dim=1).numpy()
    theirs = ducc0.sht.synthesis_general(
        alm=to_healpy(c)[None].numpy(), spin=0, lmax=LMAX, loc=place, epsilon=1e-12, nthreads=1
    )
    assert np.abs(theirs[0] - x.numpy()).max() < 1e-9


@pytest.mark.parametrize("kind", ["legendre-gauss", "lobatto", "equiangular"])
def test_torch_harmonics(kind):
    th = pytest.importorskip("torch_harmonics")
    rows, columns = 2 * LMAX + 1, 2 * LMAX + 2
    make = {
        "legendre-gauss": spheres.gauss_legendre,
        "lobatto": spheres.lobatto,
        "equiangular": spheres.equiangular,
    }[kind]
    s, x = make(rows, columns), torch.randn(2, rows * columns, 3, dtype=torch.float64)
    theirs = th.RealSHT(rows, columns, lmax=LMAX + 1, mmax=LMAX + 1, grid=kind)
    theirs = theirs(x.unflatten(1, (rows, columns)).permute(0, 3, 1, 2))
    ours = to_complex(SHT(s, LMAX)(x)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, theirs.to(ours), atol=1e-10, rtol=0)
