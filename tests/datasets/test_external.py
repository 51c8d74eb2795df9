"""Files of the user's own: where they are looked for, and that they are the right ones."""

import hashlib

import numpy as np
import pytest

from geomeq import spheres
from geomeq.datasets import EraInterim, OceanBasins
from geomeq.datasets._external import ExternalFile

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
FILE = ExternalFile("toy", "toy.npz", {"a": (2, 3)}, "float32", hashlib.sha256(VALUES.tobytes()).hexdigest(), "Ask.")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOMEQ_DATA", str(tmp_path))
    (tmp_path / "toy").mkdir()
    return tmp_path / "toy"


def test_a_file_made_again_passes(folder):
    np.savez(folder / "toy.npz", a=VALUES, extra=np.zeros(3))
    np.testing.assert_array_equal(FILE.read()["a"], VALUES)
    np.savez_compressed(folder / "toy.npz", a=np.asfortranarray(VALUES))
    assert list(FILE.read()) == ["a"]


def test_raw_is_looked_at_after_the_variable(folder, tmp_path, monkeypatch):
    (tmp_path / "mine" / "raw").mkdir(parents=True)
    np.savez(tmp_path / "mine" / "raw" / "toy.npz", a=VALUES)
    assert FILE.find(tmp_path / "mine").parent.name == "raw"
    np.savez(folder / "toy.npz", a=VALUES)
    assert FILE.find(tmp_path / "mine").parent.name == "toy"
    monkeypatch.delenv("GEOMEQ_DATA")
    assert FILE.find(tmp_path / "mine").parent.name == "raw"


def test_wrong_files_are_refused(folder):
    np.savez(folder / "toy.npz", a=VALUES + 1)
    with pytest.raises(ValueError, match=r"damaged or another version: the sha256 of a must be .* Ask\."):
        FILE.read()
    np.savez(folder / "toy.npz", a=VALUES.astype(np.float64))
    with pytest.raises(ValueError, match=r"a in .* must be float32 of shape \[2, 3\], got float64 of shape \[2, 3\]"):
        FILE.read()
    np.savez(folder / "toy.npz", b=VALUES)
    with pytest.raises(ValueError, match="must hold the arrays a; a missing"):
        FILE.read()
    (folder / "toy.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="cannot be read as npz"):
        FILE.read()


@pytest.mark.parametrize(("cls", "name"), [(EraInterim, "eraint_uvz"), (OceanBasins, "basin_mask")])
def test_a_missing_file_says_how_to_get_it(cls, name, tmp_path, monkeypatch):
    monkeypatch.delenv("GEOMEQ_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=rf"GEOMEQ_DATA is not set\. Set .*load_dataset\('{name}'\)"):
        cls(spheres.healpix(1), root=tmp_path)
    monkeypatch.setenv("GEOMEQ_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="found neither .* nor .*Set GEOMEQ_DATA"):
        cls(spheres.healpix(1), root=tmp_path)
