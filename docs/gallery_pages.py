"""Writes one gallery page for each script in ``examples/``.

Nothing is run: a page is the script's docstring, the picture that the script left behind if it was run in this
checkout (``runs/NAME.png`` or ``runs/NAME/*.png``), and the source. So the documentation builds in seconds,
everywhere, and a page never shows a picture that its script did not draw.
"""

import ast
import shutil
from pathlib import Path

TITLES = {"": "Examples", "reproduce": "Reproductions", "benchmarks": "Benchmarks"}
INTRO = """# Gallery

Scripts that read from top to bottom and use only the public interface. Run one from the root of the repository with
`python examples/NAME.py`. A picture shows here once its script was run in this checkout.
"""


def summary(docstring: str) -> str:
    """The first sentence of a docstring, without its full stop."""
    return " ".join(docstring.split("\n\n")[0].split()).split(". ")[0].rstrip(".")


def pictures(repo: Path, name: str) -> list[Path]:
    """Pictures that a script left under ``runs/``."""
    return sorted([*repo.glob(f"runs/{name}.png"), *repo.glob(f"runs/{name}/*.png")])


def page(repo: Path, script: Path, folder: Path) -> str:
    """The text of one page; copies the pictures of the script into ``folder``."""
    docstring = ast.get_docstring(ast.parse(script.read_text())) or script.stem
    first, _, rest = docstring.partition("\n\n")
    # A docstring is plain text: shown as it is written, so that no character of it is taken for markup.
    body = f"```text\n{rest.rstrip()}\n```\n" if rest.strip() else ""
    images = ""
    for picture in pictures(repo, script.stem):
        copy = folder / f"{script.stem}-{picture.name}"
        shutil.copy(picture, copy)
        images += f"\n![{summary(docstring)}]({copy.name})\n"
    relative = script.relative_to(repo)
    title = script.stem.replace("_", " ")
    source = f"```{{literalinclude}} ../../{relative}\n:language: python\n```\n"
    return f"# {title}\n\n{' '.join(first.split())}\n\n{body}{images}\n## Source: `{relative}`\n\n{source}"


def write_gallery(repo: Path, folder: Path) -> None:
    """Writes ``folder`` anew: an index and a page for each script that has a docstring."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = INTRO
    for group, title in TITLES.items():
        scripts = sorted(p for p in (repo / "examples" / group).glob("*.py") if not p.name.startswith("_"))
        if not scripts:
            continue
        entries = []
        for script in scripts:
            name = "-".join(filter(None, (group, script.stem)))
            (folder / f"{name}.md").write_text(page(repo, script, folder))
            entries.append(name)
        index += f"\n## {title}\n\n```{{toctree}}\n:maxdepth: 1\n\n" + "\n".join(entries) + "\n```\n"
    (folder / "index.md").write_text(index)
