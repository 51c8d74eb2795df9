"""Panoramas: lossless storage, the right way round, copies turned each by its own rotation."""

import math

import numpy as np
import pytest
import torch

from geomeq import spheres
from geomeq.datasets import Panoramas, list_bundled, panorama
from geomeq.datasets._pixel_code import decode, encode


def test_differences_are_lossless():
    images = np.random.RandomState(0).randint(0, 256, (2, 3, 7, 9)).astype(np.uint8)
    stored = np.stack([encode(image) for image in images])
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(decode(stored), images)
    assert not np.array_equal(stored, images)


def test_the_bundled_pictures_are_pictures():
    data = Panoramas(spheres.healpix(2), "all", rotation="none")
    assert data.scenes == ("apartment", "city", "forest", "lobby", "sunset", "warehouse")
    assert data.images.shape == (6, 3, 256, 512)
    assert data.images.dtype == torch.uint8
    values = data.images.double()
    assert (values.mean((1, 2, 3)) > 60).all()
    assert (values.mean((1, 2, 3)) < 180).all()
    assert (values.std((1, 2, 3)) > 25).all()
    neighbours = torch.stack([torch.corrcoef(v[1, :, [10, 11]].T)[0, 1] for v in values])
    assert (neighbours > 0.8).all()
    seam = (values[..., 0] - values[..., -1]).abs().mean((1, 2)) / (values[..., 0] - values[..., 256]).abs().mean(
        (1, 2)
    )
    assert (seam < 0.6).all()  # all the way round
    up, down = values[:, :, :40].mean((1, 2, 3)), values[:, :, -40:].mean((1, 2, 3))
    outdoors = [data.scenes.index(name) for name in ("city", "sunset")]
    assert (up[outdoors] > down[outdoors]).all()  # the sky is above
    red, green, blue = values[data.scenes.index("sunset"), :, 20:80].mean((1, 2))
    assert blue > green > red  # and blue
    assert sum(file.size for file in list_bundled() if "panoramas" in file.name) < 2e6


def test_they_lie_on_the_sphere_as_images_do():
    s = spheres.healpix(16)
    data = Panoramas(s, "test", rotation="none")
    expected = spheres.from_equirectangular(panorama("lobby").double() / 255, s)
    torch.testing.assert_close(data.x[0].double(), expected, rtol=0, atol=1e-6)
    at = torch.tensor([[-1.0, -0.01, 0.0], [0.01, 1.0, 0.0]], dtype=torch.float64)
    at = spheres.scattered(at / at.norm(dim=1, keepdim=True), torch.ones(2))
    edge, east = Panoramas(at, "test", rotation="none").x[0]
    pixels = panorama("lobby").float() / 255
    torch.testing.assert_close(edge, pixels[:, 127:129, :2].mean((1, 2)), rtol=0, atol=0.06)
    torch.testing.assert_close(east, pixels[:, 127:129, 383:385].mean((1, 2)), rtol=0, atol=0.06)


def test_copies_are_turned_each_by_its_own_rotation():
    data = Panoramas(spheres.healpix(4), copies=3)
    assert len(data) == 12
    assert data.y.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len({tuple(r.flatten().tolist()) for r in data.rotation}) == 12
    assert 0 <= float(data.x.min()) < float(data.x.max()) <= 1
    about_z = Panoramas(spheres.gauss_legendre(8), "test", rotation="z")
    ring = about_z.x.view(2, 8, 16, 3).mean(2)
    plain = Panoramas(spheres.gauss_legendre(8), "test", rotation="none").x.view(2, 8, 16, 3).mean(2)
    torch.testing.assert_close(ring, plain, rtol=0, atol=0.1)  # a turn about the vertical keeps means of rows


def test_splits_have_no_common_scene():
    train, test = (Panoramas(spheres.healpix(1), split) for split in ("train", "test"))
    assert not set(train.scenes) & set(test.scenes)
    assert (len(train), len(test)) == (32, 2)
    assert len(Panoramas(spheres.healpix(1), rotation="none")) == 4
    assert math.isclose(float(train.area.sum()), 4 * math.pi, rel_tol=1e-6)


def test_bad_input():
    with pytest.raises(ValueError, match="copies must be a positive number, got 0"):
        Panoramas(spheres.healpix(1), copies=0)
    with pytest.raises(ValueError, match="scene must be one of 'apartment', .* got 'beach'"):
        panorama("beach")


def test_raw_access_gives_copies():
    panorama("city").zero_()
    assert panorama("city").any()
