"""Samplings: known points, exact quadrature, symmetries, and healpy as an oracle."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from geomeq import groups, spheres

SAMPLINGS = {
    "gauss_legendre": lambda: spheres.gauss_legendre(10),
    "gauss_legendre, few columns": lambda: spheres.gauss_legendre(9, 7),
    "equiangular, odd": lambda: spheres.equiangular(9),
    "equiangular, even": lambda: spheres.equiangular(8, 20),
    "equiangular, two rows": lambda: spheres.equiangular(2, 4),
    "lobatto": lambda: spheres.lobatto(7),
    "lobatto, many columns": lambda: spheres.lobatto(6, 20),
    "lobatto, poles only": lambda: spheres.lobatto(2, 4),
    "driscoll_healy": lambda: spheres.driscoll_healy(6),
    "driscoll_healy, one": lambda: spheres.driscoll_healy(1),
    "reduced_gauss_legendre": lambda: spheres.reduced_gauss_legendre(12),
    "cubed": lambda: spheres.cubed(7),
    "random": lambda: spheres.random(200),
    "healpix": lambda: spheres.healpix(4),
    "healpix, ring weights": lambda: spheres.healpix(4, "ring"),
    "icosphere": lambda: spheres.icosphere(2),
    "fibonacci": lambda: spheres.fibonacci(301),
    "scattered": lambda: spheres.scattered(groups.S2.random(200, seed=3)),
}


def errors_by_degree(sampling, top):
    """Largest error of the integral of a spherical harmonic of each degree."""
    x, y, z = sampling.pos.numpy().T
    theta, phi, area = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x), sampling.area.numpy()
    return [
        max(abs((area * sph_harm_y(d, m, theta, phi)).sum() - (d == 0) * math.sqrt(4 * math.pi)) for m in range(d + 1))
        for d in range(top + 1)
    ]


@pytest.mark.parametrize("make", SAMPLINGS.values(), ids=SAMPLINGS.keys())
def test_points_are_on_the_sphere_and_weights_cover_it(make):
    sampling = make()
    assert sampling.pos.dtype == sampling.area.dtype == torch.float64
    torch.testing.assert_close(sampling.pos.norm(dim=1), torch.ones(sampling.num_nodes).double(), rtol=0, atol=4e-16)
    assert float(sampling.area.sum()) == pytest.approx(4 * math.pi, rel=1e-14)
    assert bool((sampling.area > 0).all())


@pytest.mark.parametrize("name", [name for name, make in SAMPLINGS.items() if make().exact_degree is not None])
def test_quadrature_is_exact_to_its_degree_and_not_beyond(name):
    sampling = SAMPLINGS[name]()
    errors = errors_by_degree(sampling, sampling.exact_degree + 1)
    assert max(errors[:-1]) < 1e-13
    assert errors[-1] > 1e-3


def test_few_columns_near_the_poles_do_no_harm_below_the_number_of_rows():
    errors = errors_by_degree(spheres.reduced_gauss_legendre(24), 60)
    assert max(errors[:25]) < 1e-11
    assert max(errors) > 1e-4  # but no degree is exact by construction


def test_cells_of_the_cubed_sphere():
    sampling = spheres.cubed(6)
    # solid angles by brute force: the share of the points of a fine spiral that fall into each cell
    points = spheres.fibonacci(100_000).pos
    normal = sampling.pos.view(6, 36, 3).sum(1).sign() * (sampling.pos.view(6, 36, 3).sum(1).abs() > 1)
    face = (points @ normal.T).argmax(1)
    cell = torch.full((len(points),), -1)
    for k in range(6):
        mine = (face == k).nonzero().flatten()
        cell[mine] = 36 * k + _cell(points[mine], sampling.pos[36 * k : 36 * (k + 1)], normal[k])
    share = torch.bincount(cell, minlength=216).double() / len(points) * 4 * math.pi
    torch.testing.assert_close(share, sampling.area, rtol=3e-2, atol=0)
    assert float(sampling.area.max() / sampling.area.min()) < math.sqrt(2)
    # faces: 0 east of Greenwich at the equator, 4 at the north pole; rows go south, columns east
    table = sampling.pos.view(6, 6, 6, 3)
    assert bool((table[:4, 1:, :, 2] < table[:4, :-1, :, 2]).all())
    longitude = torch.atan2(table[0, ..., 1], table[0, ..., 0])
    assert bool((longitude.diff(dim=1) > 0).all())
    assert float((table[4, -1, 2] - table[0, 0, 2]).norm()) < 1.1 * float((table[4, -1, 2] - table[4, -2, 2]).norm())


def _cell(points, centres, normal):
    """Which cell of one face: nearest in the two angles of the equiangular projection."""
    axis = torch.nonzero(normal == 0).flatten()
    angles = [torch.atan2(p[:, axis], (p @ normal)[:, None]) for p in (points, centres)]
    return (angles[0][:, None] - angles[1][None]).abs().amax(-1).argmin(1)


def test_random_points_are_uniform_and_repeat_with_their_seed():
    points = spheres.random(20_000, seed=3).pos
    assert float(points.mean(0).norm()) < 0.02
    torch.testing.assert_close(points.T @ points / len(points), torch.eye(3).double() / 3, rtol=0, atol=0.02)
    assert torch.equal(points, spheres.random(20_000, seed=3).pos)
    assert not torch.equal(points, spheres.random(20_000, seed=4).pos)


def test_nearly_uniform_samplings_integrate_low_degrees_well():
    for sampling in (spheres.healpix(16), spheres.icosphere(4), spheres.fibonacci(3000), spheres.cubed(20)):
        assert max(errors_by_degree(sampling, 4)) < 5e-3
        assert float(sampling.area.max() / sampling.area.min()) < 2
    assert max(errors_by_degree(spheres.scattered(groups.S2.random(3000, seed=0)), 4)) < 0.02


@pytest.mark.parametrize("nside", [1, 2, 8, 64])
def test_healpix_equals_healpy(nside):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        healpy = pytest.importorskip("healpy")
    sampling, pixel = spheres.healpix(nside), np.arange(12 * nside**2)
    np.testing.assert_allclose(sampling.pos.numpy(), np.stack(healpy.pix2vec(nside, pixel, nest=True), -1), atol=1e-14)
    assert (healpy.nest2ring(nside, sampling.rings.node.numpy()) == pixel).all()
    if nside > 1:  # the ring order is another one
        assert not np.allclose(sampling.pos.numpy(), np.stack(healpy.pix2vec(nside, pixel), -1), atol=0.1)


def test_healpix_children_surround_their_parent():
    coarse, fine = spheres.healpix(8), spheres.healpix(16)
    mean = fine.pos.view(-1, 4, 3).mean(dim=1)
    distance = groups.S2.distance(coarse.pos, mean / mean.norm(dim=1, keepdim=True))
    assert float(distance.max()) < 0.2 * coarse.spacing


@pytest.mark.parametrize("nside", [1, 2, 8, 32])
def test_ring_weights_integrate_polynomials_in_z_exactly(nside):
    equal, ring = spheres.healpix(nside), spheres.healpix(nside, "ring")
    for degree in range(3 * nside + 1):
        legendre = torch.special.legendre_polynomial_p(ring.pos[:, 2], torch.tensor(degree))
        assert float((ring.area * legendre).sum()) == pytest.approx(4 * math.pi * (degree == 0), abs=1e-12)
    assert float((ring.area / equal.area - 1).abs().max()) < (0.2 if nside > 1 else 0.26)
    assert len((ring.area / equal.area).round(decimals=9).unique()) <= 2 * nside
    if nside >= 8:
        assert max(errors_by_degree(ring, 6)) < 0.05 * max(errors_by_degree(equal, 6))


def test_healpix_known_points():
    pos = spheres.healpix(1).pos
    assert pos[4].tolist() == pytest.approx([1, 0, 0])  # first equatorial face
    assert pos[0].tolist() == pytest.approx([math.sqrt(5 / 18), math.sqrt(5 / 18), 2 / 3])


@pytest.mark.parametrize(
    "name", ["gauss_legendre", "equiangular, odd", "lobatto", "driscoll_healy", "reduced_gauss_legendre", "healpix"]
)
def test_rings_say_where_the_nodes_are(name):
    sampling = SAMPLINGS[name]()
    rings = sampling.rings
    theta, phi = rings.colatitude.repeat_interleave(rings.count), rings.longitude
    pos = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], dim=-1)
    torch.testing.assert_close(pos, sampling.pos[rings.node], rtol=0, atol=1e-14)
    assert bool((rings.colatitude.diff() > 0).all())
    assert int(rings.count.sum()) == sampling.num_nodes
    assert bool(((phi >= 0) & (phi < 2 * math.pi)).all())


def test_poles_are_one_place():
    pos = spheres.equiangular(5, 8).pos
    assert pos[:8].unique(dim=0).abs().tolist() == [[0, 0, 1]]
    assert pos[-8:].unique(dim=0).abs().tolist() == [[0, 0, 1]]


def test_icosphere_brings_its_triangles():
    data = spheres.icosphere(1).to_data(torch.float64)
    a, b, c = data.pos[data.face]
    assert bool((torch.linalg.det(torch.stack([a, b, c], dim=1)) > 0).all())  # outward
    assert "face" not in spheres.healpix(1).to_data()


def test_data_in_the_wanted_dtype():
    data = spheres.fibonacci(7).to_data()
    assert data.pos.dtype == data.area.dtype == torch.float32
    assert data.num_nodes == 7


def test_rotated():
    rotation = groups.SO3.random(1, seed=0)[0]
    sampling = spheres.gauss_legendre(6)
    moved = sampling.rotated(rotation)
    torch.testing.assert_close(moved.pos @ rotation, sampling.pos, rtol=0, atol=1e-15)
    assert moved.rings is None
    assert max(errors_by_degree(moved, moved.exact_degree)) < 1e-13


def test_voronoi_areas_of_a_known_solid_and_of_coincident_points():
    cube = torch.tensor([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)]) / math.sqrt(3)
    torch.testing.assert_close(spheres.voronoi_area(cube), torch.full((8,), math.pi / 2).double())
    twice = spheres.voronoi_area(torch.cat([cube, cube[:1]]))
    torch.testing.assert_close(twice[[0, -1]], torch.full((2,), math.pi / 4).double())
    assert float(twice.sum()) == pytest.approx(4 * math.pi)


@pytest.mark.parametrize("apart", [0.0, 1e-9, 1e-8, 3e-7])
def test_voronoi_areas_of_points_that_rounding_has_parted(apart):
    pos, random = spheres.fibonacci(60).pos, torch.Generator().manual_seed(0)
    copies = pos[:20] + apart * torch.randn(20, 3, generator=random, dtype=torch.float64)
    area = spheres.voronoi_area(torch.cat([pos, copies / copies.norm(dim=1, keepdim=True)]))
    torch.testing.assert_close(area[:20], area[60:], rtol=1e-12, atol=0)
    torch.testing.assert_close(area[:20] + area[60:], spheres.voronoi_area(pos)[:20], rtol=2e-5, atol=0)


SIX = torch.cat([torch.eye(3), -torch.eye(3)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spheres.healpix(3), "power of 2 as nside, got 3; the next ones are 2 and 4"),
        (lambda: spheres.lobatto(1), "nlat must be an integer of at least 2"),
        (lambda: spheres.driscoll_healy(0), "bandwidth must be an integer of at least 1"),
        (lambda: spheres.reduced_gauss_legendre(7), "nlat must be even, got 7"),
        (lambda: spheres.cubed(0), "n must be an integer of at least 1"),
        (lambda: spheres.random(3), "n must be an integer of at least 4"),
        (lambda: spheres.healpix(2, "pixel"), "weights must be 'equal' or 'ring', got 'pixel'"),
        (lambda: spheres.healpix(0), "nside must be an integer of at least 1, got 0"),
        (lambda: spheres.gauss_legendre(0), "nlat must be an integer of at least 1"),
        (lambda: spheres.gauss_legendre(4, 2.5), "nlon must be an integer of at least 1, got 2.5"),
        (lambda: spheres.equiangular(1), "nlat must be an integer of at least 2"),
        (lambda: spheres.fibonacci(True), "n must be an integer"),
        (lambda: spheres.icosphere(-1), "level must be an integer from 0"),
        (lambda: spheres.scattered(2 * torch.eye(3)), "node 0 has length 2; move the centre"),
        (lambda: spheres.scattered(torch.eye(3)), "at least 4 different points, got 3"),
        (lambda: spheres.scattered(torch.zeros(5, 2)), r"pos must have shape \[N, 3\]"),
        (lambda: spheres.scattered(torch.full((5, 3), torch.nan)), "pos must be finite"),
        (lambda: spheres.voronoi_area(spheres.gauss_legendre(1, 9).pos), "that do not lie on one circle"),
        (lambda: spheres.scattered(SIX, torch.full((6,), torch.nan)), "area must be finite"),
        (lambda: spheres.scattered(SIX, -torch.ones(6)), "area must hold weights of at least 0, .* got -1 to -1"),
        (lambda: spheres.scattered(SIX, torch.zeros(6)), "not all of them 0"),
        (lambda: spheres.fibonacci(9).rotated(torch.eye(2)), r"rotation must have shape \[3, 3\]"),
        (lambda: spheres.fibonacci(9).rotated(torch.eye(3).roll(1, 0) + 0.01), "orthogonal with determinant 1"),
        (lambda: spheres.icosphere(0).rotated(-torch.eye(3)), "orthogonal with determinant 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_integers_are_no_positions():
    with pytest.raises(TypeError, match="floating-point"):
        spheres.scattered(torch.eye(3).long())
