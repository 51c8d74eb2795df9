"""Tables of HEALPix against two independent libraries and against geometry."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from geomeq.spheres import healpix
from geomeq.spheres.healpix_tables import (
    NEIGHBOUR_STEPS,
    face_order,
    face_place,
    healpix_around,
    healpix_beyond,
    healpix_children,
    healpix_faces,
    healpix_halo,
    healpix_neighbours,
    healpix_nested,
    healpix_parent,
    healpix_pixel,
    healpix_taps,
    nest_to_ring,
    ring_to_nest,
)

SIDES = [1, 2, 4, 8, 16, 32, 64]
OPPOSITE = [4, 5, 6, 7, 0, 1, 2, 3]


def directions(count: int) -> Tensor:
    """Directions at random, poles, the edge of the belt, points on meridians between faces."""
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(count, 3, generator=rng, dtype=torch.float64)
    near_pole = points[: count // 4] * torch.tensor([1e-6, 1e-6, 1.0], dtype=torch.float64)
    return torch.cat([points, near_pole])


@pytest.mark.parametrize("nside", SIDES)
def test_neighbours_and_orders_are_those_of_healpy(nside):
    healpy = pytest.importorskip("healpy")
    pixel = np.arange(12 * nside**2)
    assert np.array_equal(healpix_neighbours(nside).numpy(), healpy.get_all_neighbours(nside, pixel, nest=True).T)
    assert np.array_equal(nest_to_ring(nside).numpy(), healpy.nest2ring(nside, pixel))
    assert np.array_equal(ring_to_nest(nside).numpy(), healpy.ring2nest(nside, pixel))
    points = directions(4000)
    assert np.array_equal(healpix_pixel(points, nside).numpy(), healpy.vec2pix(nside, *points.numpy().T, nest=True))


@pytest.mark.parametrize("nside", SIDES)
def test_orders_and_pixels_are_those_of_ducc(nside):
    base = pytest.importorskip("ducc0").healpix.Healpix_Base(nside, "NEST")
    pixel = np.arange(12 * nside**2)
    assert np.array_equal(nest_to_ring(nside).numpy(), base.nest2ring(pixel))
    points = directions(4000)
    assert np.array_equal(healpix_pixel(points, nside).numpy(), base.vec2pix(points.numpy()))
    assert np.array_equal(healpix_pixel(healpix(nside).pos, nside).numpy(), pixel)
    face = torch.stack(healpix_faces(nside)).numpy()
    x, y, f = base.pix2xyf(pixel).T
    assert np.array_equal(face, np.stack([f, x, y]))


@pytest.mark.parametrize("nside", SIDES)
def test_neighbours_share_corners(nside):
    """By the definition alone: pixels that share two corners lie side by side, those that share one touch at a tip."""
    ducc0 = pytest.importorskip("ducc0")
    pixel, deep = np.arange(12 * nside**2), 12
    last = 4**deep // 3  # all even bits
    corner = pixel[:, None] * 4**deep + np.array([0, last, 2 * last, 3 * last])  # smallest pixels at S, E, W and N
    corner = ducc0.healpix.Healpix_Base(nside << deep, "NEST").pix2vec(corner.ravel())
    pairs = np.sort(cKDTree(corner).query_pairs(0.01 / nside, output_type="ndarray") // 4, axis=1)
    touching, corners = np.unique(pairs, axis=0, return_counts=True)
    near = healpix_neighbours(nside).numpy()
    for count, first in ((2, 0), (1, 1)):
        target, k = (near[:, first::2] >= 0).nonzero()
        found = np.sort(np.stack([target, near[:, first::2][target, k]], axis=1), axis=1)
        assert np.array_equal(np.unique(found, axis=0), touching[corners == count])


@pytest.mark.parametrize("nside", SIDES)
def test_counts_of_edges_and_of_what_is_missing(nside):
    near = healpix_neighbours(nside)
    missing = (near < 0).sum(dim=0)
    assert int((near >= 0).sum()) == 8 * len(near) - 24
    assert missing.tolist() == [0, 8, 0, 4, 0, 8, 0, 4]
    lacking = (near < 0).sum(dim=1)
    assert lacking.tolist().count(2 if nside == 1 else 1) == (12 if nside == 1 else 24)


@pytest.mark.parametrize("nside", [2, 8, 32])
def test_opposite_neighbours_lead_back_inside_a_face(nside):
    near = healpix_neighbours(nside)
    face, x, y = healpix_faces(nside)
    for k, (dx, dy) in enumerate(NEIGHBOUR_STEPS):
        inside = (x + dx >= 0) & (x + dx < nside) & (y + dy >= 0) & (y + dy < nside)
        here = inside.nonzero()[:, 0]
        assert torch.equal(near[near[here, k], OPPOSITE[k]], here)
        assert torch.equal(face[near[here, k]], face[here])
    turned = near[near[:, 4].clamp(min=0), OPPOSITE[4]] != torch.arange(len(near))
    assert bool(turned.any())  # across a meridian of the caps the axes turn: there it does not lead back


@pytest.mark.parametrize("nside", [1, 2, 16])
def test_being_a_neighbour_is_mutual(nside):
    near = healpix_neighbours(nside)
    target, k = (near >= 0).nonzero().T
    pairs = set(zip(target.tolist(), near[target, k].tolist(), strict=True))
    assert pairs == {(b, a) for a, b in pairs}
    assert len(pairs) == len(target)  # no neighbour twice


def test_directions_of_the_neighbours():
    """East is east in the belt; in the caps the steps follow the faces and turn by up to 52 degrees."""
    pos, near = healpix(16).pos, healpix_neighbours(16)
    north = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    east = torch.nn.functional.normalize(torch.linalg.cross(north.expand_as(pos), pos), dim=1)
    up = torch.linalg.cross(pos, east)
    away = pos[near.clamp(min=0)] - pos[:, None]
    angle = torch.atan2((away * up[:, None]).sum(-1), (away * east[:, None]).sum(-1)).rad2deg()
    mean = torch.tensor([-131.5, 180, 131.5, 90, 48.5, 0, -48.5, -90], dtype=torch.float64)
    deviation = ((angle - mean + 180) % 360 - 180).abs()
    deviation[near < 0] = 0
    belt = pos[:, 2].abs() < 2 / 3
    assert float(deviation[belt].max()) < 17
    assert 33 < float(deviation[~belt].max()) < 60


@pytest.mark.parametrize("nside", [1, 2, 8])
def test_windows_are_the_neighbours_once_and_again(nside):
    step = {d: k for k, d in enumerate(NEIGHBOUR_STEPS)}
    near, window = healpix_neighbours(nside), healpix_taps(nside, 1)
    for tap in range(9):
        d = (tap % 3 - 1, tap // 3 - 1)
        wanted = torch.arange(len(near)) if d == (0, 0) else near[:, step[d]]
        assert torch.equal(window[:, tap], wanted)
    if nside > 1:
        wide = healpix_taps(nside, 2).view(-1, 5, 5)
        assert torch.equal(wide[:, 1:4, 1:4].flatten(1), window)
        assert int((wide < 0).sum()) == 24 * (4 + 2 * 2 + 1)
        halo = healpix_halo(nside, 2)
        some = torch.tensor([0, 5, 12 * nside**2 - 1])
        assert torch.equal(healpix_taps(nside, 2, some), wide.flatten(1)[some])
        f, x, y = healpix_faces(nside, some)
        assert torch.equal(halo[f, y + 2, x + 2], some)


@pytest.mark.parametrize("nside", [1, 2, 8])
def test_two_ways_round_a_corner_agree_where_four_faces_meet(nside):
    reach = torch.arange(-nside, 2 * nside)
    face, y, x = torch.meshgrid(torch.arange(12), reach, reach, indexing="ij")
    straight, (one, other) = healpix_beyond(nside, face, x, y), healpix_around(nside, face, x, y)
    there = straight >= 0
    assert torch.equal(one[there], straight[there])
    assert torch.equal(other[there], straight[there])
    assert bool((one[~there] != other[~there]).all())
    assert bool((one >= 0).all() and (other >= 0).all())


def test_missing_neighbours_stand_between_the_two_beside_them():
    near = healpix_neighbours(4)
    pixel, k = (near < 0).nonzero().T
    face, x, y = healpix_faces(4, pixel)
    dx, dy = torch.tensor(NEIGHBOUR_STEPS)[k].T
    pair = torch.stack(healpix_around(4, face, x + dx, y + dy)).T
    beside = torch.stack([near[pixel, (k - 1) % 8], near[pixel, (k + 1) % 8]], dim=1)
    assert torch.equal(pair.sort(dim=1).values, beside.sort(dim=1).values)


@pytest.mark.parametrize("nside", [1, 4, 16])
def test_permutations_and_pyramid(nside):
    pixel = torch.arange(12 * nside**2)
    assert torch.equal(nest_to_ring(nside)[ring_to_nest(nside)], pixel)
    assert torch.equal(face_order(nside)[face_place(nside)], pixel)
    face, x, y = healpix_faces(nside)
    assert torch.equal(healpix_nested(nside, face, x, y), pixel)
    image = face_order(nside).view(12, nside, nside)
    assert torch.equal(image[face, y, x], pixel)
    fine = healpix(4 * nside).pos
    assert torch.equal(healpix_pixel(fine, nside), healpix_parent(torch.arange(len(fine)), 2))
    children = healpix_children(pixel, 2)
    assert healpix_children(torch.tensor([1 << 29], dtype=torch.int32), 3)[0, 0] == 1 << 35  # no overflow
    assert torch.equal(healpix_parent(children, 2), pixel[:, None].expand(-1, 16))
    south, east, west, north = healpix(2 * nside).pos[healpix_children(pixel)].unbind(1)
    assert bool((north[:, 2] > south[:, 2]).all())
    if nside > 1:
        assert bool((torch.linalg.cross(west, east)[:, 2] > 0).all())


def test_rings_run_eastward_from_the_north():
    pos = healpix(8).pos[ring_to_nest(8)]
    z, phi = pos[:, 2], torch.atan2(pos[:, 1], pos[:, 0]) % (2 * math.pi)
    assert bool((z.diff() < 1e-12).all())
    same = z.diff().abs() < 1e-12
    assert bool((phi.diff()[same] > 0).all())


def test_large_sides_need_no_table():
    nside = 8192
    pixel = torch.randint(12 * nside**2, (1000,), generator=torch.Generator().manual_seed(0))
    near = healpix_neighbours(nside, pixel)
    assert bool((near >= 0).all())
    face, x, y = healpix_faces(nside, pixel)
    assert torch.equal(healpix_nested(nside, face, x, y), pixel)
    assert torch.equal(healpix_neighbours(nside, near[:, 0]).eq(pixel[:, None]).sum(dim=1), torch.ones(1000).long())


@pytest.mark.parametrize("nside", [0, 3, 12, -4])
def test_an_illegal_nside_is_refused(nside):
    for call in (healpix_neighbours, face_order, face_place, nest_to_ring, ring_to_nest, healpix_halo, healpix_faces):
        with pytest.raises(ValueError, match="nside"):
            call(nside)
    with pytest.raises(ValueError, match="nside"):
        healpix_pixel(torch.ones(1, 3), nside)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="0..47"):
        healpix_neighbours(2, torch.tensor([48]))
    with pytest.raises(TypeError, match="integers"):
        healpix_faces(2, torch.tensor([1.0]))
    with pytest.raises(ValueError, match="larger than a face"):
        healpix_taps(2, 3)
    with pytest.raises(ValueError, match="larger than a face"):
        healpix_halo(2, 3)
    with pytest.raises(ValueError, match="finite"):
        healpix_pixel(torch.tensor([[math.nan, 0, 0]]), 2)
    with pytest.raises(ValueError, match="row 1"):
        healpix_pixel(torch.tensor([[1.0, 0, 0], [0, 0, 0]]), 2)
    with pytest.raises(ValueError, match="one face away"):
        healpix_beyond(2, torch.tensor([0]), torch.tensor([4]), torch.tensor([0]))
