"""Every test here works in a cache folder of its own session."""

import importlib.util
import os
from pathlib import Path

import pytest


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
def sphere_data() -> Path:
    folder = os.environ.get("GEOMEQ_DATA")
    if not folder or not (Path(folder) / "ocean_basins").is_dir() or not (Path(folder) / "era_interim_uvz").is_dir():
        pytest.skip("ERA-Interim and ocean basins are read from the folder that GEOMEQ_DATA names; they are not there")
    return Path(folder)
