"""The documentation builds without a warning, and what README and the first page show runs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import geomeq

REPO = Path(__file__).parents[1]


def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="needs sphinx: pip install 'geomeq[docs]'")
    options = ("-W", "--keep-going", "-q", "-b", "html", "-d", tmp_path / "doctrees")
    command = [sys.executable, "-m", "sphinx", *options, REPO / "docs", tmp_path / "html"]
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr
    for page in ("index.html", "conventions.html", "gallery/index.html"):
        assert (tmp_path / "html" / page).is_file()
    # an empty page would pass the build too
    for part in geomeq._SUBPACKAGES:
        page = (tmp_path / "html" / "api" / f"{part}.html").read_text()
        public = getattr(geomeq, part).__all__
        assert public
        assert [name for name in public if f'id="geomeq.{part}.{name}"' not in page] == []


def test_every_subpackage_has_a_page():
    pages = {path.stem for path in (REPO / "docs" / "api").glob("*.md")} - {"index"}
    assert pages == set(geomeq._SUBPACKAGES)


def python_blocks(page: str) -> str:
    """All Python blocks of a page, as one script."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (REPO / page).read_text(), flags=re.DOTALL | re.MULTILINE))


PAGES = (
    *("start", "testing"),
    *("segnn", "periodic", "edge_frames", "escn", "scn", "potentials"),
    *("groups", "group_graphs", "chebyshev", "finite_groups", "group_conv", "gcnn", "implicit_bias"),
    *("meshes", "gauge", "harmonic", "spin", "bodies"),
    *("spheres", "sht", "disco", "oslo", "sphere_models", "compression", "sphere_data"),
)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in PAGES)])
def test_the_code_on_a_page_runs(page, tmp_path):
    code = python_blocks(page)
    assert "import" in code
    env = {**os.environ, "GEOMEQ_CACHE": str(tmp_path)}  # never what another run has left
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_readme_names_only_files_that_exist():
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (REPO / "README.md").read_text())
    assert links
    assert [link for link in links if not (REPO / link).exists()] == []


def test_readme_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", (REPO / "README.md").read_text(), flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def load(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, REPO / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_gallery_page_shows_docstring_source_and_the_picture_of_a_run(tmp_path):
    gallery = load("gallery_pages")
    (tmp_path / "examples" / "reproduce").mkdir(parents=True)
    script = tmp_path / "examples" / "two_atoms.py"
    script.write_text('"""Two atoms. They dance.\n\nMeasured: *nothing* yet_.\n"""\n')
    (tmp_path / "examples" / "reproduce" / "claim.py").write_text('"""A claim."""\n')
    out = tmp_path / "docs" / "gallery"
    gallery.write_gallery(tmp_path, out)
    text = (out / "two_atoms.md").read_text()
    assert text.startswith("# two atoms\n\nTwo atoms. They dance.\n")
    assert "Measured: *nothing* yet_." in text
    assert "../../examples/two_atoms.py" in text
    assert "![" not in text  # it was never run
    index = (out / "index.md").read_text()
    assert index.index("two_atoms") < index.index("reproduce-claim")
    assert (out / "reproduce-claim.md").is_file()

    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "two_atoms.png").write_bytes(b"picture")
    script.with_name("late.py").write_text('"""Came later."""\n')
    gallery.write_gallery(tmp_path, out)
    assert "![Two atoms](two_atoms-two_atoms.png)" in (out / "two_atoms.md").read_text()
    assert (out / "two_atoms-two_atoms.png").read_bytes() == b"picture"
    assert (out / "late.md").is_file()


def test_benchmark_tables_show_what_the_harness_stored(tmp_path):
    tables = load("benchmark_tables")
    out = tmp_path / "build" / "benchmarks.md"
    tables.write_tables(tmp_path / "benchmarks", out)
    assert out.read_text() == tables.EMPTY

    command = [sys.executable, REPO / "examples" / "benchmarks" / "run.py", "segment_sum", "--quick", "--rounds", "1"]
    stored = tmp_path / "benchmarks" / "laptop.json"
    stored.parent.mkdir()
    subprocess.run([str(c) for c in [*command, "--json", stored]], cwd=tmp_path, check=True, capture_output=True)
    run = json.loads(stored.read_text())
    row = run["results"][0]
    verdict = {"case": "segment_sum", "size": row["size"], "text": "half the time", "ratio": 0.25, "met": False}
    stored.write_text(json.dumps(run | {"claims": [verdict]}))
    tables.write_tables(tmp_path / "benchmarks", out)
    text = out.read_text()
    assert f"| {row['size']} | {row['contender']} | {row['median'] * 1e3:.2f} ms |" in text
    assert f"torch {run['machine']['versions']['torch']}" in text
    assert f"- **missed**: half the time [{row['size']}]: 0.250 times the peer" in text
