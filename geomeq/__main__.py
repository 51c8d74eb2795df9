"""The command line: ``python -m geomeq info`` and ``python -m geomeq data list|verify``."""

import argparse
import sys
from collections.abc import Sequence

from geomeq import __version__
from geomeq._info import info


def show_info() -> int:
    """Prints versions, devices and optional packages; returns the exit status 0."""
    print(info())
    return 0


def data_list() -> int:
    """Prints name, size, licence, source and place of each bundled file; returns the exit status 0."""
    from geomeq.datasets import list_bundled  # here: `info` has to work where PyG is broken

    for file in list_bundled():
        print(f"{file.name}  {file.size / 1e6:.2f} MB")
        print(f"  licence  {file.licence}\n  source   {file.source}\n  path     {file.path}")
    return 0


def data_verify() -> int:
    """Compares the bundled files with their checksums; returns the exit status, 1 if one is missing or damaged."""
    from geomeq.datasets import verify_bundled

    verdicts = list(verify_bundled())
    for verdict in verdicts:
        print(f"{verdict.file.name}: {verdict.reason}", file=sys.stdout if verdict.ok else sys.stderr)
    bad = sum(not verdict.ok for verdict in verdicts)
    print(f"{len(verdicts) - bad} of {len(verdicts)} bundled files are whole")
    return 1 if bad else 0


def parser() -> argparse.ArgumentParser:
    """The argument parser of ``python -m geomeq``."""
    top = argparse.ArgumentParser(prog="python -m geomeq", description="What is installed, and the bundled data.")
    top.add_argument("--version", action="version", version=f"geomeq {__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, devices and optional packages").set_defaults(run=show_info)
    actions = commands.add_parser("data", help="the bundled data files").add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="name, size, licence and source of each").set_defaults(run=data_list)
    actions.add_parser("verify", help="compare each with its checksum").set_defaults(run=data_verify)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    return parser().parse_args(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
