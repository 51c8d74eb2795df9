"""Climate of the sea: plausible fields, gaps that stay gaps, inputs and baselines."""

import numpy as np
import pytest
import torch

from geomeq import spheres
from geomeq.datasets import MonthlyClimate, land_mask
from geomeq.datasets.monthly_climate import _GRID, read_climate


@pytest.fixture(scope="module")
def year():
    """Every month at the points of the source."""
    return MonthlyClimate(_GRID.sampling, rotation="none", rotations=1, holdout=False)


def at(lat, lon):
    return int((89 - lat) / 2), int((lon + 179) / 2)


def test_the_fields_are_plausible():
    fields = read_climate()
    assert fields.shape == (12, 3, 90, 180)
    sea, air, pressure = fields.swapaxes(0, 1)
    row, column = at(1, 141)  # the warm pool
    assert 28 < sea[:, row, column].min() < sea[:, row, column].max() < 31
    row, column = at(41, -51)  # off Newfoundland: summer is warm
    assert sea[7, row, column] - sea[1, row, column] > 8
    row, column = at(-41, 159)  # Tasman sea: summer is in January
    assert sea[1, row, column] - sea[7, row, column] > 3
    assert np.nanmean(np.abs(sea - air)) < 1.5
    row, column = at(63, -35)  # Iceland low, deepest in winter
    assert pressure[0, row, column] < 1005 < pressure[6, row, column]


def test_gaps_are_land_and_unvisited_sea():
    gap = np.isnan(read_climate()).mean((0, 1)) > 0.5
    land = land_mask().view(90, 2, 180, 2).float().mean((1, 3)).numpy() > 0.9
    assert gap[land].mean() > 0.9
    assert gap[at(23, 9)]  # Sahara
    assert not gap[at(1, -31)]  # Atlantic


def test_values_at_the_points_of_the_source_are_the_source(year):
    stored = torch.from_numpy(read_climate()).flatten(2).transpose(1, 2)
    inner = slice(180, -180)
    torch.testing.assert_close(year.fields[:, inner].double(), stored[:, inner], rtol=0, atol=1e-3, equal_nan=True)
    assert year.month.tolist() == list(range(12))


def test_inputs_are_normalised_and_flagged(year):
    known = year.fields.isfinite()
    assert torch.equal(year.x[..., 3:] == 1, known)
    assert torch.equal(year.x[..., 3:] == 0, ~known)
    assert (year.x[..., :3][~known] == 0).all()
    assert year.x.isfinite().all()
    weight = year.area[:, None] * known
    mean = (year.x[..., :3] * weight).sum((0, 1)) / weight.sum((0, 1))
    square = (year.x[..., :3] ** 2 * weight).sum((0, 1)) / weight.sum((0, 1))
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=5e-3)
    torch.testing.assert_close(square, torch.ones_like(square), rtol=0, atol=1e-2)


def test_months_as_samples_and_as_channels():
    s, months = spheres.healpix(4), (11, 0, 5)
    each = MonthlyClimate(s, months=months, rotations=2)
    both = MonthlyClimate(s, months=months, rotations=2, stack=True)
    assert each.month.tolist() == [11, 0, 5] * 2
    assert both.x.shape == (2, 192, 18)
    assert both.fields.shape == (2, 192, 9)
    for r in range(2):
        for m in range(3):
            sample = each.x[3 * r + m]
            assert torch.equal(both.x[r, :, 3 * m : 3 * m + 3], sample[:, :3])
            assert torch.equal(both.x[r, :, 9 + 3 * m : 12 + 3 * m], sample[:, 3:])
            assert torch.equal(each.rotation[3 * r + m], both.rotation[r])
            assert torch.equal(each.y[3 * r + m], both.y[r])


def test_baselines_of_the_depth_task():
    data = MonthlyClimate(spheres.healpix(8), rotation="none", rotations=1)
    scores = data.baselines()
    assert 1.0 < scores["gaps"] < scores["constant"] < 3.0
    assert data.rmse(data.y) == 0
    mean = (data.y[0, :, 0] * data.area * data.counted[0]).sum() / (data.area * data.counted[0]).sum()
    assert scores["constant"] == pytest.approx(data.rmse(torch.full_like(data.y, float(mean))), rel=1e-6)


@pytest.mark.parametrize("months", [(), (12,), (-1,), (0, 0), (1.0,)])
def test_months_that_are_none(months):
    with pytest.raises(ValueError, match=r"months must be different numbers from 0 \(January\) to 11"):
        MonthlyClimate(spheres.healpix(2), months=months)
