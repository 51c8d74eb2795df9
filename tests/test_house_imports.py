"""Imports go one way, cost little, and never pull in an optional package."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]

# What each part of geomeq may import from geomeq (besides itself). The order is that of docs/concepts.md:
# the geometry rail on the left, the learning rail on the right, and no way from layers to data.
FLOOR = {"_checks"}
SPHERE = FLOOR | {"ops", "groups", "neighbors"}
RAIL = SPHERE | {"spheres", "harmonics"}
LAYERS = FLOOR | {"ops", "groups", "spheres", "harmonics"}
ALLOWED = {
    "_checks": set(),
    "ops": FLOOR,
    "groups": FLOOR | {"ops"},
    "neighbors": FLOOR | {"ops", "groups"},
    "spheres": SPHERE,
    "harmonics": SPHERE | {"spheres"},
    "meshes": RAIL,
    "molecules": RAIL,
    "transforms": RAIL | {"meshes", "molecules"},
    "datasets": RAIL | {"meshes", "molecules", "transforms"},
    "nn": LAYERS,
    "models": LAYERS | {"nn"},
    "testing": LAYERS,
    "plot": RAIL | {"meshes", "testing"},
    "_info": {"__init__"},
    "__main__": {"__init__", "_info", "datasets"},
    "__init__": set(),
}
# All that ops may import, wherever it does so. Triton comes with torch where there is a GPU, and is loaded by name.
OPS_PACKAGES = {"torch", "torch_sparse", "triton", "geomeq"}


def part_of(module: str) -> str:
    """``geomeq.ops.stencil`` belongs to ``ops``; ``geomeq`` itself is ``__init__``."""
    return module.split(".")[1] if "." in module else "__init__"


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, function bodies and TYPE_CHECKING blocks included, with the line."""
    module = module_name(path, root)
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*prefix, *([node.module] if node.module else [])])
            # `from geomeq import nn` imports a part, `from geomeq.nn import X` only names one
            if base == "geomeq":
                yield from ((node.lineno, f"geomeq.{a.name}" if is_part(a.name, root) else base) for a in node.names)
            else:
                yield node.lineno, base


def is_part(name: str, root: Path) -> bool:
    return (root / "geomeq" / name).is_dir() or (root / "geomeq" / f"{name}.py").is_file()


def violations(root: Path) -> list[str]:
    """Every import under ``root/geomeq`` that goes against the order, as a line of text."""
    found = []
    for path in sorted((root / "geomeq").rglob("*.py")):
        here = part_of(module_name(path, root))
        for line, target in imports(path, root):
            where = f"{path.relative_to(root)}:{line}"
            top = target.split(".")[0]
            if here not in ALLOWED:
                found.append(f"{where}: the part {here!r} has no place in the import order")
            elif top == "geomeq" and part_of(target) not in ALLOWED[here] | {here}:
                found.append(f"{where}: {here} must not import {target}")
            elif here == "ops" and top not in OPS_PACKAGES and top not in sys.stdlib_module_names:
                found.append(f"{where}: ops imports torch only, not {target}")
    return found


def test_imports_follow_the_order():
    assert violations(REPO) == []


@pytest.mark.parametrize(
    ("file", "code", "message"),
    [
        ("nn/conv.py", "from geomeq.transforms import CutoffGraph", "nn must not import geomeq.transforms"),
        ("nn/conv.py", "import geomeq.datasets.qm9", "nn must not import geomeq.datasets.qm9"),
        ("nn/conv.py", "from geomeq import neighbors", "nn must not import geomeq.neighbors"),
        ("nn/conv.py", "from ..neighbors import radius_edges", "nn must not import geomeq.neighbors"),
        ("nn/conv.py", "def f():\n    from geomeq.datasets import QM9", "nn must not import geomeq.datasets"),
        ("ops/stencil.py", "import numpy", "ops imports torch only, not numpy"),
        ("ops/__init__.py", "from ..groups import exp", "ops must not import geomeq.groups"),
        ("groups/so3.py", "from geomeq.harmonics import wigner", "groups must not import geomeq.harmonics"),
        ("transforms/a.py", "from geomeq.datasets import QM9", "transforms must not import geomeq.datasets"),
        ("extra/a.py", "import torch", "'extra' has no place in the import order"),
    ],
)
def test_a_planted_import_is_found(tmp_path, file, code, message):
    for part in ("nn", "ops", "groups", "harmonics", "neighbors", "transforms", "datasets", "extra"):
        (tmp_path / "geomeq" / part).mkdir(parents=True)
    clean = "import torch\nfrom geomeq._checks import check_shape\nfrom .other import thing\n"
    (tmp_path / "geomeq" / "nn" / "clean.py").write_text(clean)
    assert violations(tmp_path) == []
    (tmp_path / "geomeq" / file).write_text(code)
    assert len(found := violations(tmp_path)) == 1
    assert message in found[0]
    assert found[0].startswith(f"geomeq/{file}:{1 + code.count(chr(10))}:")


def test_every_part_on_disk_is_in_the_order_and_listed_as_public():
    import geomeq

    parts = {p.stem for p in (REPO / "geomeq").iterdir() if p.suffix == ".py" or list(p.glob("*.py"))}
    assert parts <= set(ALLOWED)
    assert {p for p in parts if not p.startswith("_")} == set(geomeq._SUBPACKAGES)


def test_every_core_dependency_is_imported_for_work():
    import tomllib

    named = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["dependencies"]
    needed = {name.split(">=")[0].replace("-", "_") for name in named}
    top = {target.split(".")[0] for path in (REPO / "geomeq").rglob("*.py") for _, target in imports(path, REPO)}
    assert needed <= top, f"nothing imports {needed - top}"


# PyG itself imports torch_sparse where it is installed: what counts is what geomeq adds to its core packages.
LAZY = """
import importlib, pkgutil, sys
import torch, torch_geometric, e3nn.o3, e3nn.nn, scipy.spatial, tqdm
before = set(sys.modules)
import geomeq
for module in pkgutil.walk_packages(geomeq.__path__, "geomeq."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
added = {name.split(".")[0] for name in set(sys.modules) - before}
print(*sorted(added & set(sys.argv[1:])))
"""


def test_no_module_of_geomeq_imports_an_optional_package():
    from geomeq._info import OPTIONAL

    optional = [o.module for o in OPTIONAL] + ["plotly", "pandas", "pkg_resources", "cuequivariance_torch"]
    done = subprocess.run([sys.executable, "-c", LAZY, *optional], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_import_geomeq_loads_no_subpackage():
    code = "import sys, geomeq; print(*[m for m in sys.modules if m.startswith('geomeq') or m == 'torch'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # the import hook of an editable install carries the project's name too
    assert [m for m in done.stdout.split() if not m.startswith("__editable__")] == ["geomeq"]


def test_an_unknown_subpackage_is_an_attribute_error():
    import geomeq

    assert "ops" in dir(geomeq)
    with pytest.raises(AttributeError, match="has no attribute 'surfaces'"):
        _ = geomeq.surfaces
