"""Variables of netCDF files, classic and netCDF-4: the same numbers, and no trust in a file."""

import numpy as np
import pytest
from scipy.io import netcdf_file

from geomeq.datasets._netcdf import read_variables

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def classic(path, version=1):
    with netcdf_file(str(path), "w", version=version) as file:
        file.createDimension("lat", 3)
        file.createDimension("lon", 4)
        plain = file.createVariable("plain", "f4", ("lat", "lon"))
        plain[:] = VALUES
        packed = file.createVariable("packed", "i2", ("lat", "lon"))
        packed.scale_factor, packed.add_offset = 0.5, 100.0
        packed._FillValue = np.int16(-9)
        packed[:] = np.where(VALUES == 5, -9, VALUES).astype(np.int16)
        gaps = file.createVariable("gaps", "f4", ("lat", "lon"))
        gaps.missing_value = np.float32(-1e34)
        gaps[:] = np.where(VALUES == 7, -1e34, VALUES)


def modern(path):
    netcdf4 = pytest.importorskip("netCDF4")
    with netcdf4.Dataset(str(path), "w") as file:
        file.createDimension("lat", 3)
        file.createDimension("lon", 4)
        file.createVariable("plain", "f4", ("lat", "lon"), zlib=True)[:] = VALUES
        packed = file.createVariable("packed", "i2", ("lat", "lon"), fill_value=-9)
        packed.set_auto_maskandscale(False)
        packed.scale_factor, packed.add_offset = 0.5, 100.0
        packed[:] = np.where(VALUES == 5, -9, VALUES).astype(np.int16)
        gaps = file.createVariable("gaps", "f4", ("lat", "lon"))
        gaps.missing_value = np.float32(-1e34)
        gaps[:] = np.where(VALUES == 7, -1e34, VALUES)


WRITERS = {"classic": classic, "64-bit offset": lambda path: classic(path, 2), "netCDF-4": modern}


@pytest.mark.parametrize("kind", list(WRITERS))
def test_values_gaps_and_packing(kind, tmp_path):
    path = tmp_path / "file.nc"
    WRITERS[kind](path)
    found = read_variables(path, ["gaps", "plain", "packed"])
    assert list(found) == ["gaps", "plain", "packed"]
    np.testing.assert_array_equal(found["plain"], VALUES)
    assert found["plain"].dtype == np.float32
    np.testing.assert_allclose(found["packed"], np.where(VALUES == 5, np.nan, 100 + 0.5 * VALUES))
    np.testing.assert_array_equal(found["gaps"], np.where(VALUES == 7, np.nan, VALUES))
    found["plain"][0, 0] = 1  # a copy, not the file
    path.unlink()


@pytest.mark.parametrize("kind", list(WRITERS))
def test_damaged_files(kind, tmp_path):
    path = tmp_path / "file.nc"
    WRITERS[kind](path)
    with pytest.raises(ValueError, match="must hold the variables plain, TMQ; TMQ missing, it has .*gaps.*plain"):
        read_variables(path, ["plain", "TMQ"])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="it is truncated or damaged, get it again"):
        read_variables(path, ["plain", "gaps"])


def test_other_files(tmp_path):
    path = tmp_path / "file.nc"
    for content in (b"<html>not found</html>", b"", b"CDF\x05 too new"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must be a netCDF file, classic or netCDF-4; it starts with"):
            read_variables(path, ["plain"])


def test_netcdf4_is_named_where_it_is_missing(tmp_path, monkeypatch):
    (tmp_path / "file.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setitem(__import__("sys").modules, "netCDF4", None)
    with pytest.raises(ImportError, match=r"pip install 'geomeq\[data\]'"):
        read_variables(tmp_path / "file.nc", ["plain"])
