"""Basins: right places, inputs without position, months and noise."""

import numpy as np
import pytest
import torch

from geomeq import spheres
from geomeq.datasets import OceanBasins
from geomeq.datasets._latlon import LatLon

real = pytest.mark.usefixtures("sphere_data")
made = pytest.mark.usefixtures("made_sphere_data")


def still(s, **arguments):
    return OceanBasins(s, rotation="none", rotations=1, noise=0.0, months=(0,), **arguments)


@real
def test_places_and_areas():
    lat, lon = np.radians([[0, -150], [30, -40], [-20, 80], [-60, 0], [80, -150], [48, 10], [35, 18]]).T
    pos = torch.from_numpy(np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1))
    at = spheres.scattered(pos, torch.ones(7))
    names = ("land", "Atlantic Ocean", "Pacific Ocean", "Indian Ocean", "Southern Ocean", "Arctic Ocean")
    few, all_seas = still(at), still(at, seas=True)
    assert few.classes == names
    assert few.y[0].tolist() == [2, 1, 3, 4, 5, 0, -1]  # the Mediterranean does not count
    assert all_seas.classes[:7] == (*names, "Mediterranean Sea")
    assert all_seas.y[0].tolist() == [2, 1, 3, 4, 5, 0, 6]
    whole = still(LatLon.cells(180, 360).sampling, seas=True)
    share = [float(whole.area[whole.y[0] == k].sum() / whole.area.sum()) for k in range(len(whole.classes))]
    np.testing.assert_allclose(share[:6], [0.313, 0.145, 0.303, 0.112, 0.090, 0.024], atol=0.002)
    assert len(whole.classes) == 15
    assert (whole.y >= 0).all()


@real
def test_inputs():
    s = spheres.healpix(8)
    clean, noisy = still(s), OceanBasins(s, rotation="none", rotations=4, noise=0.5, months=(0,))
    assert clean.x.shape == (1, 768, 8)
    land = clean.x[0, :, 1] == 1
    assert set(clean.x[0, :, 1].tolist()) == {0.0, 1.0}
    assert clean.x[0, land, 0].mean() > 0.2 > -1 > clean.x[0, ~land, 0].mean()
    assert ((clean.y[0] == 0) == land).float().mean() > 0.93  # two sources
    assert (clean.x[0, land][:, 5:].mean()) < 0.2 < 0.7 < clean.x[0, ~land][:, 5:].mean()
    off = noisy.x - clean.x
    assert (off[..., [1, 5, 6, 7]] == 0).all()
    assert float(off[..., [0, 2, 3, 4]].std()) == pytest.approx(0.5, rel=0.05)


@made
def test_basins_turn_with_the_globe():
    s = spheres.healpix(8)
    data = OceanBasins(s, rotations=2, noise=0.0)
    place = torch.einsum("nj,sji->sni", s.pos, data.rotation)
    sector = (torch.rad2deg(torch.atan2(place[..., 1], place[..., 0])) % 360 / 60).floor().long()
    expected = torch.tensor([1, 2, 3, 0, 4, 5])[sector]
    assert (data.y == expected).double().mean() > 0.99  # but for nodes on a boundary
    assert data.miou(data.y) == 1


@made
def test_splits_are_by_month():
    s = spheres.healpix(2)
    train, test = OceanBasins(s, rotations=2), OceanBasins(s, "test", rotations=2)
    assert not set(train.month.tolist()) & set(test.month.tolist())
    assert len(train) == 16
    assert len(test) == 8
    assert torch.equal(train.y[0], train.y[7])  # of one rotation
    assert not torch.equal(train.y[0], train.y[8])


@made
def test_bad_input():
    with pytest.raises(ValueError, match="noise must be finite and not negative"):
        OceanBasins(spheres.healpix(1), noise=float("nan"))
    with pytest.raises(ValueError, match="months must be different numbers"):
        OceanBasins(spheres.healpix(1), months=(3, 12))
