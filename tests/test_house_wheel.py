"""The wheel works alone: built, installed into an empty environment, used without the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
SOURCES = ("geomeq", "datasets", "pyproject.toml", "setup.cfg", "README.md", "LICENSE")


def run(*command: object, cwd: Path) -> str:
    """Runs a command outside the checkout, with nothing of the caller's Python settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GEOMEQ", "PYTEST"))}
    env |= {"HOME": str(cwd), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that nothing is left in the checkout and nothing stale gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPO / name, source / name)
    # setuptools comes with torch; without isolation nothing is downloaded
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(sys.executable, *build, "-w", folder, source, cwd=folder)
    (built,) = folder.glob("geomeq-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel installed and this one's third-party packages readable.

    The path file only appends the folder to ``sys.path``. Path files inside that folder are not read, so the
    editable install of the checkout does not leak in; the first test makes sure.
    """
    folder = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=folder)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_is_typed_and_holds_the_data_and_the_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "geomeq/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"geomeq", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}
    code = {str(path.relative_to(REPO)) for path in (REPO / "geomeq").rglob("*.py")}
    assert code == {name for name in names if name.endswith(".py")}
    assert wheel.stat().st_size < 15e6


def test_the_installed_package_is_not_the_checkout(python):
    code = "import geomeq, sys; print(geomeq.__file__); print(*sys.path, sep='\\n')"
    file, *path = run(python, "-c", code, cwd=python.parent).splitlines()
    assert file.startswith(str(python.parents[1]))
    assert str(REPO) not in path


def test_the_installed_package_verifies_its_data(python):
    assert "geomeq" in run(python, "-m", "geomeq", "info", cwd=python.parent)
    run(python, "-m", "geomeq", "data", "verify", cwd=python.parent)


USE = """
import torch
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose
from geomeq.datasets import QM9
from geomeq.models import SEGNN, SEGNNConfig
from geomeq.transforms import CutoffGraph, SteerableAttributes

dataset = QM9(root="cache", subset=True, transform=Compose([CutoffGraph(3.0), SteerableAttributes(lmax=1)]))
batch = next(iter(DataLoader(dataset[:4], batch_size=4)))
model = SEGNN(SEGNNConfig(irreps_in="5x0e", irreps_hidden="8x0e+8x1o", irreps_out="1x0e", num_layers=1))
out = model(batch)
assert out.shape == (4, 1) and bool(torch.isfinite(out).all())
print(len(dataset), *out.shape)
"""


def test_the_installed_package_loads_molecules_and_runs_a_layer(python):
    assert run(python, "-c", USE, cwd=python.parent).split() == ["5000", "4", "1"]
