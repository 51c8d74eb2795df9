"""``python -m geomeq``."""

import subprocess
import sys

import pytest
import torch

import geomeq
from geomeq import __main__, _info


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


@pytest.mark.parametrize("arguments", [[], ["data"], ["data", "burn"], ["unknown"]])
def test_a_wrong_command_prints_the_usage_and_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        __main__.main(arguments)
    assert error.value.code == 2
    assert "usage: python -m geomeq" in capsys.readouterr().err


def test_the_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "geomeq", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"geomeq {geomeq.__version__}"
