"""The command line: ``python -m geomeq info`` and ``python -m geomeq data list|verify``."""

import argparse
import sys
from collections.abc import Sequence

from geomeq import __version__
from geomeq._info import info


def data_list() -> int:
    """Prints the bundled files and returns the exit status 0."""
    from geomeq.datasets._registry import list_bundled

    print("\n".join(str(file) for file in list_bundled()))
    return 0


def data_verify() -> int:
    """Checks the bundled files against their checksums; returns the exit status, 1 if one is missing or damaged."""
    from geomeq.datasets._registry import verify_bundled

    verdicts = verify_bundled()
    print("\n".join(map(str, verdicts)))
    return 0 if all(verdict.ok for verdict in verdicts) else 1


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


def show_info() -> int:
    """Prints versions, devices and optional packages and returns the exit status 0."""
    print(info())
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    return parser().parse_args(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
