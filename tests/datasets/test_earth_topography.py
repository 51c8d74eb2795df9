"""Topography: land and heights where they are, inputs that do not name the height, two tasks."""

import numpy as np
import pytest
import torch

from geomeq import spheres
from geomeq.datasets import EarthTopography, LandSea, land_mask, topography, weighted_f1
from geomeq.datasets._latlon import LatLon


def still(s, **arguments):
    return EarthTopography(s, rotation="none", samples=1, noise=0.0, holdout=False, **arguments)


def test_fields_at_the_cells_of_the_map_are_the_map():
    data = still(LatLon.cells(180, 360).sampling)
    assert torch.equal(data.land[0].view(180, 360), land_mask())
    torch.testing.assert_close(data.height[0].view(180, 360), topography(), rtol=0, atol=1e-2)
    assert float(data.area[data.land[0]].sum() / data.area.sum()) == pytest.approx(0.29, abs=0.005)


def test_places():
    lat, lon = np.radians([[27.9, 86.9], [0.0, -150.0], [-80.0, 0.0]]).T  # Himalaya, Pacific, Antarctica
    pos = torch.from_numpy(np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1))
    data = still(spheres.scattered(pos, torch.ones(3)))
    assert data.land[0].tolist() == [True, False, True]
    assert data.height[0, 0] > 3_500 > 3_000 > data.height[0, 2] > 0 > -3_000 > data.height[0, 1]


def test_the_task_of_land_sea_on_the_same_mesh():
    mesh, old = spheres.icosphere(3), LandSea(3, samples=2, noise=0.0, holdout=False, seed=5)
    new = EarthTopography(mesh, rotation="random", samples=2, noise=0.0, holdout=False, seed=5)
    assert torch.equal(new.rotation, old.rotation)
    agree = weighted_f1(new.y, old.y, mesh.area)
    assert agree > 0.98  # smoothed a little less: by the spacing, not by the edges
    correlation = torch.corrcoef(torch.stack([new.x[..., 0].flatten(), old.x[..., 0].flatten()]))[0, 1]
    assert correlation > 0.97


def test_heights_are_in_km_and_smoothed_for_the_sampling():
    s = spheres.healpix(8)
    data = still(s, task="regression")
    assert data.y.shape == (1, 768, 1)
    correlation = torch.corrcoef(torch.stack([data.y[0, :, 0], data.height[0] / 1000]))[0, 1]
    assert 0.9 < correlation < 0.9999
    assert data.rmse(data.height[..., None] / 1000) < 1.0 < data.rmse(torch.zeros_like(data.y))
    rough, smooth = still(spheres.healpix(16), task="regression"), still(spheres.healpix(2), task="regression")
    assert rough.y.std() > 1.1 * smooth.y.std()


def test_inputs_do_not_name_the_height():
    data = still(spheres.healpix(16), task="regression")
    for channel in range(2):
        correlation = torch.corrcoef(torch.stack([data.x[0, :, channel], data.y[0, :, 0]]))[0, 1]
        assert abs(correlation) < 0.6
        assert 0.2 < data.x[0, :, channel].std() < 2


def test_noise_has_its_size_and_its_seed():
    s = spheres.healpix(8)
    clean = still(s)
    noisy = EarthTopography(s, rotation="none", samples=4, noise=0.5, holdout=False)
    assert float((noisy.x - clean.x).std()) == pytest.approx(0.5, rel=0.05)
    assert not torch.equal(noisy.x[0], noisy.x[1])
    assert torch.equal(noisy.y[0], clean.y[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "depth"}, "task must be one of 'segmentation', 'regression', got 'depth'"),
        ({"noise": -1.0}, "noise must be finite and not negative"),
        ({"samples": 0}, "samples must be a positive number, got 0"),
        ({"samples": 1.5}, "samples must be a positive number"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        EarthTopography(spheres.healpix(2), **arguments)
