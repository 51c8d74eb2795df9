"""``python -m geomeq``."""

import shutil
import subprocess
import sys

import pytest
import torch

import geomeq
from geomeq import __main__, _info
from geomeq.datasets import _registry


def test_info_names_versions_devices_and_optional_packages(capsys):
    assert __main__.main(["info"]) == 0
    text = capsys.readouterr().out
    for expected in (f"geomeq {geomeq.__version__}", torch.__version__.split("+")[0], "cpu", "cuda", "GEOMEQ_DATA"):
        assert expected in text
    for package in (*_info.CORE, *(o.package for o in _info.OPTIONAL)):
        assert package in text


def test_a_missing_package_is_shown_with_its_install_line():
    missing = _info.OptionalPackage("not-there", "not_there", "plot", "nothing")
    assert "missing: pip install 'geomeq[plot]'" in _info.optional_line(missing)
    found = _info.OptionalPackage("numpy", "numpy", "plot", "arrays")
    assert "missing" not in _info.optional_line(found)


def test_a_module_without_metadata_is_found_all_the_same():
    assert "found" in _info.optional_line(_info.OptionalPackage("no-such-distribution", "json", "plot", "text"))


def test_data_list_names_every_bundled_file(capsys):
    assert __main__.main(["data", "list"]) == 0
    text = capsys.readouterr().out
    assert _registry.BUNDLED
    for file in _registry.BUNDLED:
        assert file.name in text
        assert file.licence in text


def test_data_verify_finds_the_bundled_files_whole(capsys):
    assert __main__.main(["data", "verify"]) == 0
    number = len(_registry.BUNDLED)
    assert f"{number} of {number} bundled files are whole" in capsys.readouterr().out


@pytest.mark.parametrize(("content", "reason"), [(None, "missing"), (b"half a fi", "damaged")])
def test_data_verify_fails_on_a_missing_or_damaged_file(tmp_path, monkeypatch, capsys, content, reason):
    """Negative control: one file fewer, or one that is truncated, and the exit status says so."""
    first = _registry.BUNDLED[0]
    for file in _registry.BUNDLED[1:]:
        (tmp_path / file.name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.path, tmp_path / file.name)
    if content is not None:
        (tmp_path / first.name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / first.name).write_bytes(content)
    monkeypatch.setattr(_registry, "bundled_folder", lambda: tmp_path)
    assert __main__.main(["data", "verify"]) == 1
    printed = capsys.readouterr()
    assert f"{first.name}: {reason}" in printed.err
    assert f"{len(_registry.BUNDLED) - 1} of {len(_registry.BUNDLED)}" in printed.out


@pytest.mark.parametrize("arguments", [[], ["data"], ["data", "burn"], ["unknown"]])
def test_a_wrong_command_prints_the_usage_and_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        __main__.main(arguments)
    assert error.value.code == 2
    assert "usage: python -m geomeq" in capsys.readouterr().err


def test_the_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "geomeq", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"geomeq {geomeq.__version__}"
