"""Maps of latitude and longitude: values at and between their points, seams, poles, gaps, vectors."""

import math

import numpy as np
import pytest
import torch

from geomeq.datasets._latlon import LatLon, Lookup
from geomeq.groups import S2
from geomeq.spheres import equirectangular

MAPS = {
    "cells from -180": LatLon.cells(12, 24),
    "cells from 0": LatLon.cells(12, 24, west=0.0),
    "points with poles": LatLon(np.pi / 12 * np.arange(13), -math.pi, 20),
    "points without poles": LatLon(np.pi / 12 * np.arange(1, 12), 0.3, 20),
}


@pytest.fixture(params=list(MAPS))
def grid(request):
    return MAPS[request.param]


def smooth(points):
    """Three functions that a map of a degree of some size should nearly give back."""
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([z, x * y, x - z**2])


def on(grid):
    return smooth(grid.sampling.pos.numpy()).reshape(3, len(grid.colatitude), grid.columns)


def test_values_at_the_points_of_a_map(grid):
    fields, pos = on(grid), grid.sampling.pos.numpy()
    np.testing.assert_allclose(grid.bilinear(fields, pos).reshape(fields.shape), fields, atol=1e-12)
    np.testing.assert_array_equal(grid.nearest(fields, pos)[:, 30:-30], fields.reshape(3, -1)[:, 30:-30])
    assert grid.sampling.grid == fields.shape[1:]
    assert float(grid.sampling.area.sum()) == pytest.approx(4 * math.pi)


def test_values_between_the_points(grid):
    points = S2.random(3_000, seed=0).numpy().reshape(30, 100, 3)
    got = grid.bilinear(on(grid), points)
    assert got.shape == (3, 30, 100)
    error = np.abs(got - smooth(points))
    assert error.mean() < 0.01
    assert error.max() < 0.08
    assert np.abs(grid.bilinear(on(grid)[..., ::-1], points) - smooth(points)).max() > 0.5  # the map mirrored


def test_a_map_has_no_seam(grid):
    for longitude in (math.pi, 0.0, grid.west):
        sides = longitude + 1e-9 * np.array([-1, 1])
        points = np.stack([np.cos(sides), np.sin(sides), 0.3 + 0 * sides], -1) / math.hypot(1, 0.3)
        values = grid.bilinear(on(grid), points)
        np.testing.assert_allclose(values[:, 0], values[:, 1], atol=1e-7)


def test_a_pole_is_one_place(grid):
    fields = np.random.RandomState(0).standard_normal((1, len(grid.colatitude), grid.columns))
    for sign, row in ((1, 0), (-1, -1)):
        points = np.array([[0.0, 0.0, sign], [1e-9, 0.0, sign], [0.0, -1e-9, sign]])
        np.testing.assert_allclose(grid.bilinear(fields, points)[0], fields[0, row].mean(), atol=1e-6)


def test_cells_are_the_pixels_of_an_image():
    torch.testing.assert_close(LatLon.cells(8, 16).sampling.pos, equirectangular(8).pos, rtol=0, atol=1e-12)


def test_gaps_are_filled_from_what_is_known_beside_them():
    grid = MAPS["cells from -180"]
    fields = np.ones((1, 12, 24))
    fields[:, :, 12:] = np.nan  # east of Greenwich
    lon = np.radians([-7.0, -2.0, 2.0, 7.0, 90.0])
    points = np.stack([np.cos(lon), np.sin(lon), 0 * lon], -1)
    near = grid.beside_gaps(fields, points)[0]
    np.testing.assert_array_equal(np.isnan(near), [False, False, True, True, True])
    np.testing.assert_allclose(near[:2], 1.0)
    assert np.isnan(grid.bilinear(fields, points)[0, 1])  # as it stands, a gap spreads
    whole = np.random.RandomState(0).standard_normal((2, 12, 24))
    np.testing.assert_array_equal(grid.beside_gaps(whole, points), grid.bilinear(whole, points))


def test_labels_are_those_of_the_nearest_point():
    grid = MAPS["cells from 0"]
    labels, points = np.random.RandomState(0).randint(0, 9, (12, 24)), S2.random(500, seed=1).numpy()
    got = grid.nearest(labels, points)
    assert got.dtype == labels.dtype
    nearest = (points @ grid.sampling.pos.numpy().T).argmax(1)
    np.testing.assert_array_equal(got, labels.reshape(-1)[nearest])


def test_components_become_tangent_vectors(grid):
    pos = grid.sampling.pos.numpy()
    shape = len(grid.colatitude), grid.columns
    east, north = np.random.RandomState(0).standard_normal((2, *shape))
    vectors = np.moveaxis(grid.vectors(east, north), 0, -1).reshape(-1, 3)
    length = np.hypot(east, north).reshape(-1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), length, atol=1e-12)
    np.testing.assert_allclose((vectors * pos).sum(1), 0, atol=1e-12)
    up = vectors[:, 2].reshape(shape)
    np.testing.assert_allclose(up, north * np.sin(grid.colatitude)[:, None], atol=1e-12)


def test_many_points_are_taken_in_parts(monkeypatch):
    grid, points = MAPS["cells from -180"], S2.random(1_000, seed=0).numpy()
    whole = grid.bilinear(on(grid), points), grid.nearest(on(grid), points)
    monkeypatch.setattr("geomeq.datasets._latlon._CHUNK", 300)
    np.testing.assert_array_equal(grid.bilinear(on(grid), points), whole[0])
    np.testing.assert_array_equal(grid.nearest(on(grid), points), whole[1])


def test_what_is_known_about_points_can_be_kept(grid, monkeypatch):
    points, fields = S2.random(50, seed=0).numpy(), on(grid)
    lookup = Lookup(grid, points)
    first = lookup.bilinear(fields), lookup.nearest(fields), lookup.beside_gaps(fields)
    monkeypatch.setattr("geomeq.datasets._latlon.Resampler", None)  # nothing new is made
    np.testing.assert_array_equal(lookup.bilinear(2 * fields), 2 * first[0])
    np.testing.assert_array_equal(lookup.nearest(2 * fields), 2 * first[1])
    np.testing.assert_allclose(first[2], first[0], atol=1e-12)
    with pytest.raises(TypeError):
        Lookup(grid, points, keep=False).bilinear(fields)
