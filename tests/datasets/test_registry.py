"""The files that come with the package, and readers that must not trust a file."""

import numpy as np
import pytest

from geomeq.datasets import _raw, _registry, list_bundled, verify_bundled


def test_every_bundled_file_is_whole():
    verdicts = verify_bundled()
    assert [verdict.reason for verdict in verdicts] == ["ok"] * len(list_bundled())
    assert all(verdict.ok for verdict in verdicts)


def test_the_list_is_complete_and_true():
    folder = _registry.bundled_folder()
    on_disk = {str(path.relative_to(folder)) for path in folder.glob("*/*.npz")}
    assert {file.name for file in list_bundled()} == on_disk
    for file in list_bundled():
        assert file.path.stat().st_size == file.size
        assert file.licence
        assert file.source
        readme = (file.path.parent / "README.md").read_text()
        assert file.sha256 in readme
        assert (file.path.parent / "build.py").is_file()
    assert sum(file.size for file in list_bundled()) < 10e6


def test_damaged_and_missing_files_are_verdicts(tmp_path, monkeypatch):
    (tmp_path / "qm9").mkdir()
    (tmp_path / "qm9" / "qm9_subset.npz").write_bytes(b"x")
    monkeypatch.setattr(_registry, "bundled_folder", lambda: tmp_path)
    reasons = {verdict.file.name: str(verdict) for verdict in verify_bundled()}
    assert reasons["qm9/qm9_subset.npz"].startswith("qm9/qm9_subset.npz: damaged: ")
    assert "git checkout" in reasons["qm9/qm9_subset.npz"]
    with pytest.raises(ValueError, match="damaged"):
        _registry.bundled("qm9/qm9_subset.npz")
    (tmp_path / "qm9" / "qm9_subset.npz").unlink()
    assert not any(verdict.ok for verdict in verify_bundled())
    with pytest.raises(FileNotFoundError, match="is missing; install geomeq again"):
        _registry.bundled("qm9/qm9_subset.npz")


def test_a_pickle_in_a_raw_file_is_refused(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, z=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="cannot be read as npz"):
        _raw.load_npz(path, None, "make it again")


def test_a_missing_array_is_named(tmp_path):
    with pytest.raises(ValueError, match="must hold the arrays z, pos; pos missing, it has"):
        _raw.require_keys(tmp_path, {"z": 1}, "z", "pos")


def test_written_files_are_equal_byte_for_byte(tmp_path):
    arrays = {"a": np.arange(5), "b": np.ones((2, 3))}
    paths = tmp_path / "one.npz", tmp_path / "two.npz"
    for path in paths:
        _raw.write_npz(path, arrays)
    assert _raw.sha256_of(paths[0]) == _raw.sha256_of(paths[1])
    loaded = _raw.load_npz(paths[0], _raw.sha256_of(paths[1]), "")
    assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)


def test_an_absent_package_has_no_folder():
    assert _raw.package_folder("no_such_package_anywhere") is None
    assert (_raw.package_folder("numpy") / "__init__.py").is_file()
