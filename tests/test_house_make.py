"""make and .ci/run: a second call installs nothing, an old Python is refused, a failing test fails CI."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def run(*command: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    # what the surrounding make passes on would change the inner one
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "GEOMEQ"))}
    return subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        env=env | variables,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing but what make looks at, and an environment that looks installed."""
    folder = tmp_path / "checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPO / name, folder / name)
    (folder / ".venv" / "bin" / "python").touch()
    later = time.time() + 10
    for stamp in (".demo", ".docs", ".test"):
        (folder / ".venv" / stamp).touch()
        os.utime(folder / ".venv" / stamp, (later, later))
    return folder


@pytest.mark.parametrize("target", ["demo", "test", "test-all", "lint", "docs", "bench", "dist"])
def test_a_second_call_installs_nothing(checkout, target):
    assert "pip install" not in run("make", "-n", target, cwd=checkout).stdout


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed(checkout, changed):
    later = time.time() + 100
    os.utime(checkout / changed, (later, later))
    assert "pip install" in run("make", "-n", "test", cwd=checkout).stdout


def test_a_new_checkout_makes_its_environment(checkout):
    shutil.rmtree(checkout / ".venv")
    planned = run("make", "-n", "demo", cwd=checkout).stdout
    assert "-m venv .venv" in planned
    assert "-c constraints.txt" in planned


def test_an_old_python_is_refused_with_a_reason(checkout):
    shutil.rmtree(checkout / ".venv")
    old = checkout / "python2"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 2.7.18\nexit 1\n')
    old.chmod(0o755)
    done = run("make", "test", f"PYTHON={old}", cwd=checkout)
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 2.7.18" in done.stderr
    assert not (checkout / ".venv").exists()


def test_no_python_at_all_is_refused_with_a_reason(checkout):
    shutil.rmtree(checkout / ".venv")
    done = run("make", "test", "PYTHON=", cwd=checkout)
    assert done.returncode != 0
    assert "none was found" in done.stderr


@pytest.mark.parametrize(("outcome", "status"), [("true", 0), ("false", 2)])
def test_ci_runs_make_test_and_hands_on_its_status(tmp_path, outcome, status):
    """The tests fail, CI fails; and it finds the data beside the checkout, from any folder."""
    (tmp_path / "shared" / "data").mkdir(parents=True)
    script = tmp_path / "main" / ".ci" / "run"
    script.parent.mkdir(parents=True)
    shutil.copy(REPO / ".ci" / "run", script)
    (tmp_path / "main" / "Makefile").write_text(f"test:\n\t@echo data=$$GEOMEQ_DATA\n\t@{outcome}\n")
    assert os.access(script, os.X_OK)
    done = run("bash", script, cwd=tmp_path, CI="true")
    assert done.returncode == status
    assert f"data={tmp_path / 'shared' / 'data'}" in done.stdout
