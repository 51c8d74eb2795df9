"""Every test here works in a cache folder of its own session."""

import dataclasses
import hashlib
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from geomeq.datasets import era_interim, ocean_basins

AXIS = (3.0, -2.0, 10.0)  # of the made atmosphere, m/s


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("geomeq-cache")
    before = os.environ.get("GEOMEQ_CACHE")
    os.environ["GEOMEQ_CACHE"] = str(folder)
    yield folder
    os.environ.pop("GEOMEQ_CACHE") if before is None else os.environ.update(GEOMEQ_CACHE=before)


@pytest.fixture(scope="session")
def qm9pack():
    if importlib.util.find_spec("qm9pack") is None:
        pytest.skip("the full QM9 set needs qm9pack: pip install --no-deps qm9pack==1.0.3")


@pytest.fixture
def shared_data() -> Path:
    folder = os.environ.get("GEOMEQ_DATA")
    if not folder or not (Path(folder) / "rmd17").is_dir():
        pytest.skip("rMD17, 3BPA and AcAc are read from the folder that GEOMEQ_DATA names; it is not set")
    return Path(folder)


@pytest.fixture
def made_sphere_data(tmp_path, monkeypatch) -> None:
    """Made files in place of ERA-Interim and ocean basins: a rotating atmosphere, and oceans by their longitude."""
    lat, lon = np.radians(np.linspace(90, -90, 121))[:, None], np.radians(1.5 * np.arange(240) - 180)[None]
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon
    wind = np.cross(np.array(AXIS), np.stack([x, y, z], -1))
    east = -np.sin(lon) * wind[..., 0] + np.cos(lon) * wind[..., 1]
    north = -np.sin(lat) * (np.cos(lon) * wind[..., 0] + np.sin(lon) * wind[..., 1]) + np.cos(lat) * wind[..., 2]
    scale = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=np.float32)[..., None, None]
    height = 9.80665 * (5_000 + 100 * x * y - 300 * z**2)
    era = {"geopotential": scale * height, "u": scale * east, "v": scale * north}
    basin = np.repeat(np.array([1, 2, 3, 0, 10, 11], dtype=np.uint8), 60)[None].repeat(180, 0)
    made = {era_interim: era, ocean_basins: {"basin": np.repeat(basin[None], 33, 0)}}
    monkeypatch.setenv("GEOMEQ_DATA", str(tmp_path))
    for module, arrays in made.items():
        stored = {key: values.astype(module.FILE.dtype) for key, values in arrays.items()}
        digest = hashlib.sha256(b"".join(values.tobytes() for values in stored.values())).hexdigest()
        monkeypatch.setattr(module, "FILE", dataclasses.replace(module.FILE, sha256=digest))
        (tmp_path / module.FILE.folder).mkdir()
        np.savez(tmp_path / module.FILE.folder / module.FILE.name, **stored)


@pytest.fixture
def sphere_data() -> Path:
    folder = os.environ.get("GEOMEQ_DATA")
    if not folder or not (Path(folder) / "ocean_basins").is_dir() or not (Path(folder) / "era_interim_uvz").is_dir():
        pytest.skip("ERA-Interim and ocean basins are read from the folder that GEOMEQ_DATA names; they are not there")
    return Path(folder)
