"""Runs benchmark cases side by side with their peers.

    python examples/benchmarks/run.py --list
    python examples/benchmarks/run.py stencil segment
    python examples/benchmarks/run.py stencil --threads 2 --json stencil.json
    python examples/benchmarks/run.py --quick --json

Each file in ``cases/`` defines ``CASES``, a list of ``harness.Case``; adding a file adds its cases.
"""

import argparse
import importlib.util
import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from harness import Case, Row, judge, machine, measure

FOLDER = Path(__file__).parent / "cases"


def load_cases(folder: Path = FOLDER) -> dict[str, Case]:
    """All cases by name, from every file of the folder."""
    cases: dict[str, Case] = {}
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"geomeq_benchmark_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        for case in module.CASES:
            if case.name in cases:
                raise ValueError(f"two benchmark cases are named {case.name!r}; the second is in {path.name}")
            cases[case.name] = case
    return cases


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    head = ("contender", "median", "min", "iqr", "peak", "saved", "error", "x peer")
    cells = [head] + [
        (
            row.contender,
            f"{row.median * 1e3:.2f} ms",
            f"{row.min * 1e3:.2f} ms",
            f"{row.iqr * 1e3:.2f} ms",
            mebibytes(row.peak_bytes),
            mebibytes(row.saved_bytes),
            "" if row.error is None else f"{row.error:.1e}",
            "" if row.ratio_to_peer is None else f"{row.ratio_to_peer:.3f}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return "\n".join(
        "  " + line[0].ljust(widths[0]) + "".join(f"  {c.rjust(w)}" for c, w in zip(line[1:], widths[1:], strict=True))
        for line in cells
    )


def mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.3g} MiB"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="which cases; all by default")
    parser.add_argument("--list", action="store_true", help="name the cases and leave")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, few rounds: whether it runs, not how fast")
    parser.add_argument("--rounds", type=int, help="calls of each contender (15; with --quick 3)")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON (to the terminal without FILE)"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a claim is missed")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    cases = load_cases()
    if options.list:
        print("\n".join(f"{case.name:24} {case.about}" for case in cases.values()))
        return 0
    unknown = sorted(set(options.cases) - cases.keys())
    if unknown:
        print(f"unknown case {', '.join(unknown)}; there are: {', '.join(cases)}", file=sys.stderr)
        return 2
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # peers' notices are not our figures
    log = sys.stderr if options.json == "-" else sys.stdout

    here = machine(options.device)
    print(f"{here['device']}, {here['threads']} threads, Python {here['python']}", file=log)
    print(", ".join(f"{package} {version}" for package, version in here["versions"].items()), file=log)
    results, verdicts = [], []
    for name in options.cases or cases:
        case = cases[name]
        print(f"\n{case.name}: {case.about}", file=log)
        own = []
        for size, setup in (case.quick if options.quick else case.sizes).items():
            rounds = options.rounds or (3 if options.quick else 15)
            rows, skipped = measure(case, size, setup, rounds, options.device)
            print(f" {size}\n{table(rows)}", *skipped, sep="\n", file=log, flush=True)
            own += rows
        results += own
        if not options.quick:  # tiny sizes decide nothing
            for verdict in judge(case, own):
                state = "met" if verdict["met"] else "MISSED"
                print(f"  {state}: {verdict['text']} [{verdict['size']}]: {verdict['ratio']:.3f} x peer", file=log)
                verdicts.append(verdict)

    if options.json:
        text = json.dumps({"machine": here, "results": [asdict(r) for r in results], "claims": verdicts}, indent=1)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n")
    return int(options.check and not all(verdict["met"] for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
