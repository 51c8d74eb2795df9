"""Sphinx configuration: MyST pages, API from docstrings, a gallery page for each example script."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from benchmark_tables import write_tables  # noqa: E402  (found through the line above)
from gallery_pages import write_gallery  # noqa: E402

project = "geomeq"
author = "geomeq developers"
copyright = "2026, geomeq developers"
version = release = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "README.md"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# The public names of a subpackage are those of its __all__; what a class inherits from PyG is documented there.
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"geomeq {version}"
html_show_sourcelink = False


def write_pages(app):
    """Writes what is made from other files, before Sphinx looks for sources."""
    write_gallery(HERE.parent, HERE / "gallery")
    write_tables(HERE / "benchmarks", HERE / "_build" / "benchmarks.md")


def setup(app):
    app.connect("builder-inited", write_pages)
