"""Turns stored benchmark runs, ``docs/benchmarks/*.json`` as ``run.py --json FILE`` writes them, into tables.

So every figure on the benchmarks page was written by the harness, with the machine it ran on.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "size": ("size", str),
    "contender": ("contender", str),
    "median": ("median", lambda s: f"{s * 1e3:.2f} ms"),
    "iqr": ("spread", lambda s: f"{s * 1e3:.2f} ms"),
    "peak_bytes": ("peak memory", lambda b: f"{b / 2**20:.1f} MiB"),
    "saved_bytes": ("kept for backward", lambda b: f"{b / 2**20:.1f} MiB"),
    "error": ("error", lambda e: f"{e:.0e}"),
    "ratio_to_peer": ("times the peer", lambda r: f"{r:.2f}"),
}
EMPTY = "No run is stored with this version: `make bench` measures on your machine.\n"


def cell(key: str, row: dict[str, Any]) -> str:
    value = row.get(key)
    return "" if value is None else COLUMNS[key][1](value).replace("|", "\\|")


def table(rows: list[dict[str, Any]]) -> str:
    """One Markdown table, without the columns that no row fills."""
    keys = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)]
    lines = [[COLUMNS[key][0] for key in keys], ["---"] * len(keys), *([cell(k, row) for k in keys] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def claim(verdict: dict[str, Any]) -> str:
    """One promise, whether it was met, and by how much."""
    state = "met" if verdict["met"] else "**missed**"
    return f"- {state}: {verdict['text']} [{verdict['size']}]: {verdict['ratio']:.3f} times the peer\n"


def run_text(run: dict[str, Any]) -> str:
    """All cases of one stored run, under the machine it ran on."""
    here = run["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in here["versions"].items())
    text = f"## {here['device']}, {here['threads']} threads\n\nPython {here['python']}, {versions}.\n"
    for case in dict.fromkeys(row["case"] for row in run["results"]):
        text += f"\n### {case}\n\n{table([row for row in run['results'] if row['case'] == case])}\n"
        text += "".join(claim(verdict) for verdict in run["claims"] if verdict["case"] == case)
    return text


def write_tables(folder: Path, out: Path) -> None:
    """Writes one Markdown file with every run stored in ``folder``."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(run_text(run) for run in runs) or EMPTY)
