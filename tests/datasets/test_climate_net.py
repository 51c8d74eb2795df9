"""ClimateNet: files of the published format, made here; what is wrong with a file is said."""

import math

import numpy as np
import pytest
import torch
from scipy.io import netcdf_file

from geomeq import spheres
from geomeq.datasets import ClimateNet, SharedGraphLoader
from geomeq.datasets.climate_net import VARIABLES

ROWS, COLUMNS = 25, 48
LAT, LON = np.linspace(-90, 90, ROWS), np.arange(COLUMNS) * 360 / COLUMNS
NAMES = ("TMQ", "U850", "V850", "PSL")


def fields(k):
    """Smooth maps, south first, and a cyclone and a river."""
    lat, lon = np.radians(LAT)[:, None], np.radians(LON)[None]
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon
    maps = {"TMQ": 20 + 10 * z + k, "U850": 5 * y, "V850": 3 * x * z, "PSL": 101_325 + 1_000 * x - 5 * k}
    labels = np.where(y > 0.9, 1, np.where((z > 0.5) & (x > 0.2), 2, 0))
    return maps, labels


def write(path, maps, labels, lat=LAT, lon=LON, time=True):
    """As published: one time, fields [time, lat, lon]; classic, since scipy writes no other."""
    with netcdf_file(str(path), "w", version=2) as file:
        for name, size in (("time", 1), ("lat", len(lat)), ("lon", len(lon))):
            file.createDimension(name, size)
        for name, values in (("lat", lat), ("lon", lon)):
            file.createVariable(name, "f8", (name,))[:] = values
        for name, values in maps.items():
            shape = ("time", "lat", "lon") if time else ("lat", "lon")
            file.createVariable(name, "f4", shape)[:] = values[None] if time else values
        if labels is not None:
            file.createVariable("LABELS", "i4", ("lat", "lon"))[:] = labels


def write_modern(path, maps, labels):
    netcdf4 = pytest.importorskip("netCDF4")
    with netcdf4.Dataset(str(path), "w") as file:
        for name, size in (("time", 1), ("lat", ROWS), ("lon", COLUMNS)):
            file.createDimension(name, size)
        for name, values in (("lat", LAT), ("lon", LON)):
            file.createVariable(name, "f8", (name,))[:] = values
        file.createVariable("time", str, ("time",))[0] = path.name
        for name, values in maps.items():
            file.createVariable(name, "f4", ("time", "lat", "lon"), zlib=True)[:] = values[None]
        file.createVariable("LABELS", "i8", ("lat", "lon"), zlib=True)[:] = labels


@pytest.fixture
def root(tmp_path):
    for split, days in (("train", (1, 2, 3)), ("test", (4,))):
        (tmp_path / "raw" / split).mkdir(parents=True)
        for k in days:
            write(tmp_path / "raw" / split / f"data-2003-06-0{k}-01-1.nc", *fields(k))
    (tmp_path / "raw" / "train" / "readme.txt").write_text("not data")
    return tmp_path


def expected(s, k):
    x, y, z = s.pos.T
    return torch.stack([20 + 10 * z + k, 5 * y, 3 * x * z, 101_325 + 1_000 * x - 5 * k], dim=-1)


def test_values_on_any_sampling(root):
    for s in (
        spheres.healpix(8),
        spheres.equiangular(9),
        spheres.fibonacci(100),
        spheres.healpix(8).part(torch.arange(9)),
    ):
        data = ClimateNet(s.to_data(torch.float64), root=root)
        assert len(data) == 3
        torch.testing.assert_close(data.area, s.area)
        for k, sample in enumerate(data, start=1):
            error = (sample.x - expected(s, k)).abs().amax(0)
            assert (error < torch.tensor([0.2, 0.1, 0.1, 15.0])).all()
            x, y, z = s.pos.T
            label = torch.where(y > 0.9, 1, torch.where((z > 0.5) & (x > 0.2), 2, 0))
            assert (sample.y == label).double().mean() > 0.85
    assert repr(ClimateNet(s, "test", root=root)) == "ClimateNet(1, split='test', nodes=9)"


def test_samples_load_on_the_shared_graph(root):
    graph = spheres.sphere_graph(spheres.healpix(4), cutoff=0.5)
    data = ClimateNet(graph, root=root, variables="TMQ")
    batch = next(iter(SharedGraphLoader(data, batch_size=3)))
    assert batch.x.shape == (3, 192, 1)
    assert batch.x.dtype == torch.float32
    assert batch.y.shape == (3, 192)
    assert batch.edge_index is data.graph.edge_index


def test_north_first_and_no_time_are_the_same(root):
    maps, labels = fields(1)
    flipped = {name: values[::-1] for name, values in maps.items()}
    (root / "raw" / "train" / "data-2003-06-01-01-1.nc").unlink()
    s = spheres.healpix(4)
    before = ClimateNet(s, root=root)[0]
    other = root / "other"
    (other / "raw" / "train").mkdir(parents=True)
    maps, labels = fields(2)
    flipped = {name: values[::-1] for name, values in maps.items()}
    write(other / "raw" / "train" / "a.nc", flipped, labels[::-1], lat=LAT[::-1], time=False)
    after = ClimateNet(s, root=other)[0]
    torch.testing.assert_close(after.x, before.x, rtol=1e-6, atol=1e-5)
    assert torch.equal(after.y, before.y)


def test_netcdf_4_gives_the_same_samples(root):
    s, folder = spheres.healpix(4), root / "modern" / "raw" / "train"
    folder.mkdir(parents=True)
    write_modern(folder / "data-2003-06-01-01-1.nc", *fields(1))
    classic, modern = ClimateNet(s, root=root)[0], ClimateNet(s, root=root / "modern")[0]
    assert torch.equal(classic.x, modern.x)
    assert torch.equal(classic.y, modern.y)


def test_statistics_of_the_training_set_normalise(root):
    grid = spheres.gauss_legendre(40)
    train = ClimateNet(grid, root=root)
    found = train.statistics()
    area = grid.area / grid.area.sum()
    values = torch.stack([expected(grid, k) for k in (1, 2, 3)])
    mean = (values.mean(0) * area[:, None]).sum(0)
    spread = ((values - mean).square().mean(0) * area[:, None]).sum(0).sqrt()
    for k, name in enumerate(NAMES):
        assert found[name] == (
            pytest.approx(float(mean[k]), rel=1e-4, abs=1e-2),
            pytest.approx(float(spread[k]), rel=0.02),
        )
    test = ClimateNet(grid, "test", root=root, statistics=found)[0]
    raw = ClimateNet(grid, "test", root=root)[0]
    scale = torch.tensor([found[name] for name in NAMES])
    torch.testing.assert_close(test.x, (raw.x - scale[:, 0]) / scale[:, 1], rtol=1e-3, atol=1e-3)


def test_files_are_read_when_they_are_asked_for(root):
    data = ClimateNet(spheres.healpix(2), root=root)
    (root / "raw" / "train" / "data-2003-06-03-01-1.nc").write_bytes(b"CDF\x01 broken")
    assert data[0].x.isfinite().all()
    with pytest.raises(ValueError, match="06-03-01-1.nc cannot be read .* truncated or damaged"):
        data[2]


def test_unlabelled_files(root):
    write(root / "raw" / "test" / "data-2003-06-04-01-1.nc", fields(4)[0], None)
    with pytest.raises(ValueError, match="LABELS missing"):
        ClimateNet(spheres.healpix(2), "test", root=root)[0]
    sample = ClimateNet(spheres.healpix(2), "test", root=root, labelled=False)[0]
    assert "y" not in sample


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train is not there\. ClimateNet is published at .*; put them there"):
        ClimateNet(root=tmp_path)
    (tmp_path / "raw" / "test").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"test has no file \*\.nc"):
        ClimateNet(split="test", root=tmp_path)


def rewrite(root, **changes):
    maps, labels = fields(1)
    grid = {"lat": changes.pop("lat", LAT), "lon": changes.pop("lon", LON)}
    labels = changes.pop("labels", labels)
    write(root / "raw" / "test" / "data-2003-06-04-01-1.nc", maps | changes, labels, **grid)
    return ClimateNet(spheres.healpix(2), "test", root=root)


def test_files_that_are_wrong(root):
    with pytest.raises(ValueError, match="T500 missing, it has .*TMQ"):
        ClimateNet(spheres.healpix(2), root=root, variables=("TMQ", "T500"))[0]
    with pytest.raises(ValueError, match=r"LABELS in .* must be 0, 1 or 2, got \[7\]"):
        rewrite(root, labels=np.full((ROWS, COLUMNS), 7))[0]
    with pytest.raises(ValueError, match="lat and lon in .* must be degrees of a grid over the whole globe"):
        rewrite(root, lon=np.linspace(0, 360, COLUMNS))[0]  # the first column repeated
    with pytest.raises(ValueError, match="lat and lon in"):
        rewrite(root, lat=np.radians(LAT)[np.r_[1, 0, 2:ROWS]])[0]
    path = root / "raw" / "train" / "data-2003-06-02-01-1.nc"
    small = {name: values[:, ::2] for name, values in fields(2)[0].items()}
    write(path, small, fields(2)[1][:, ::2], lon=LON[::2])
    data = ClimateNet(spheres.healpix(2), root=root)
    assert data[0].x.isfinite().all()
    with pytest.raises(ValueError, match="must have the grid of the file that was read first, 25 x 48 .*, got 25 x 24"):
        data[1]


def test_several_times_in_one_file(root):
    path = root / "raw" / "test" / "data-2003-06-04-01-1.nc"
    with netcdf_file(str(path), "w") as file:
        for name, size in (("time", 2), ("lat", ROWS), ("lon", COLUMNS)):
            file.createDimension(name, size)
        for name, values in (("lat", LAT), ("lon", LON)):
            file.createVariable(name, "f8", (name,))[:] = values
        file.createVariable("TMQ", "f4", ("time", "lat", "lon"))[:] = 0
        file.createVariable("LABELS", "i4", ("lat", "lon"))[:] = 0
    with pytest.raises(ValueError, match=r"TMQ in .* must have shape \[25, 48\] .*, got \[2, 25, 48\]; split files"):
        ClimateNet(spheres.healpix(2), "test", variables="TMQ", root=root)[0]


def test_a_constant_variable_cannot_be_normalised(root):
    with pytest.raises(ValueError, match="TMQ must vary to be normalised"):
        rewrite(root, TMQ=np.zeros((ROWS, COLUMNS))).statistics()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "val"}, "split must be one of 'train', 'test'"),
        ({"variables": ()}, "variables must be different names"),
        ({"variables": ("TMQ", "TMQ")}, "variables must be different names"),
        ({"statistics": {"TMQ": (0.0, 1.0)}}, "statistics must name every variable, U850, V850, PSL missing"),
        ({"statistics": dict.fromkeys(NAMES, (0.0, 0.0))}, "standard deviations positive"),
        ({"statistics": dict.fromkeys(NAMES, (math.nan, 1.0))}, "statistics must be finite"),
    ],
)
def test_bad_arguments(arguments, message, root):
    with pytest.raises(ValueError, match=message):
        ClimateNet(spheres.healpix(2), root=root, **arguments)


def test_index_and_units(root):
    data = ClimateNet(spheres.healpix(2), root=root, transform=lambda sample: sample.x)
    assert torch.equal(data[-1], data[2])
    with pytest.raises(IndexError, match="index must be within 3 samples, got 3"):
        data[3]
    assert len(VARIABLES) == 16
