"""The top level, the version, and what no tracked file may hold."""

import configparser
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import geomeq

REPO = Path(__file__).parents[1]
FOLDERS = {".ci", "datasets", "docs", "examples", "geomeq", "tests"}
FILES = {
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "conftest.py",
    "constraints.txt",
    "pyproject.toml",
    "setup.cfg",
}


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if (REPO / name).is_file()]


def pyproject() -> dict:
    return tomllib.loads((REPO / "pyproject.toml").read_text())


def test_the_top_level_is_exactly_this():
    assert {name.split("/")[0] for name in tracked()} == FOLDERS | FILES
    assert {name for name in tracked() if name.startswith(".ci/")} == {".ci/run"}


def test_no_tracked_file_names_a_folder_of_one_machine():
    # split, so that this file does not hold what it looks for
    homes = re.compile(
        rb"(?<![\w.])/(?:" + b"|".join([b"wo" + b"rk", b"fa" + b"rm", b"ro" + b"ot", b"Us" + b"ers"]) + rb")/"
    )
    found = [name for name in tracked() if homes.search((REPO / name).read_bytes())]
    assert found == []
    assert homes.search(b"open('/ro" + b"ot/data.npz')")  # the pattern finds one


def test_code_files_stay_readable():
    long = {n: lines for n in tracked() if n.endswith(".py") and (lines := (REPO / n).read_text().count("\n")) >= 600}
    assert long == {}


def test_one_version_everywhere():
    version = pyproject()["project"]["version"]
    assert geomeq.__version__ == version
    assert f"## {version}" in (REPO / "CHANGELOG.md").read_text()


def test_constraints_pin_torch_and_every_requirement():
    lines = [line for line in (REPO / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    project = pyproject()["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    names = {re.split(r"[\[>=<]", requirement)[0] for requirement in wanted} - {"geomeq"}
    assert pins["torch"] == "2.13.0"
    assert names <= set(pins), f"not pinned: {names - set(pins)}"


def test_an_extra_that_info_names_holds_the_package():
    from geomeq._info import OPTIONAL

    extras = pyproject()["project"]["optional-dependencies"]
    for optional in OPTIONAL:
        assert any(requirement.startswith(optional.package) for requirement in extras[optional.extra])


def test_setup_cfg_turns_warnings_into_errors():
    config = configparser.ConfigParser()
    config.read(REPO / "setup.cfg")
    assert config["tool:pytest"]["filterwarnings"].split()[0] == "error"
