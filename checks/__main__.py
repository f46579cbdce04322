"""``python -m checks NAME [--root FOLDER]``: run one check; status 1 when it finds anything."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from checks import asl, audit, licences, locks, sbom, task_parameters
from checks.findings import CheckError, report

CHECKS: dict[str, Callable[[Path], int]] = {
    "asl": lambda root: report("asl", asl.check(root)),
    "audit": audit.main,
    "licences": licences.main,
    "locks": lambda root: report("locks", locks.check(root)),
    "parameters": lambda root: report("parameters", task_parameters.check(root)),
    "sbom": sbom.main,
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m checks", description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(CHECKS), metavar="NAME")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository (default: here)")
    given = parser.parse_args(arguments)
    try:
        return max([CHECKS[name](given.root.resolve()) for name in given.names])
    except CheckError as error:
        print(f"checks: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
