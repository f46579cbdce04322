"""``isthmus rig orphans``: results that came too late to count, for a person to claim or discard."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus import documents
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.errors import InvalidInput
from isthmus.model.blob import Name

COLUMNS = ("job", "attempt", "where", "metrics", "cause")


def register(verbs: Any, common: argparse.ArgumentParser, folder: Callable[[Any], None]) -> None:
    """Add the verb; ``folder`` adds the option of that name."""
    text = "results that came too late: another attempt had the job by then"
    verb = verbs.add_parser("orphans", parents=[common], help=text)
    verb.add_argument("name", metavar="NAME", help="the rig's name")
    folder(verb)
    what = verb.add_mutually_exclusive_group()
    what.add_argument(
        "--claim", default="", metavar="JOB", help="copy its files, on its rig; the beginning is enough"
    )
    what.add_argument("--discard", default="", metavar="JOB", help="remove it")
    verb.add_argument(
        "--to", type=Path, default=None, metavar="FOLDER", help="where its files go: a new folder"
    )
    verb.set_defaults(run=_orphans)


def _orphans(options: argparse.Namespace, output: Output) -> None:
    from isthmus.rig import orphans
    from isthmus.rig.spool import Spool

    if bool(options.claim) != (options.to is not None):
        raise InvalidInput("--claim JOB and --to FOLDER go together")
    rig, stack = documents.convert(Name, options.name, "the rig's name"), Stack(options.stack)
    if not options.claim and not options.discard:
        _list(orphans.known(rig, options.folder, stack.records), output)
        return
    spool = Spool(options.folder)
    found = orphans.find(options.claim or options.discard, rig, spool, stack.records)
    about = {"job_key": found.job_key, "attempt": found.fencing}
    if options.discard:
        orphans.discard(found, spool, stack.records)
        output.result(about, f"what attempt {found.fencing} of job {found.job_key} left is discarded")
        return
    names = orphans.claim(found, options.to, spool, stack.records, stack.blobs)
    said = f"{len(names)} files of attempt {found.fencing} of job {found.job_key} are in {options.to}"
    output.result({**about, "files": names}, said)


def _list(found: list[Any], output: Output) -> None:
    rows = [
        {
            "job": orphan.job_key[:12],
            "attempt": orphan.fencing,
            "where": orphan.path or orphan.output or f"on {orphan.rig}",
            "metrics": " ".join(f"{name}={value:g}" for name, value in sorted(orphan.metrics.items())) or "-",
            "cause": orphan.cause,
        }
        for orphan in found
    ]
    output.result(found, table(rows, COLUMNS) if rows else "no result came too late")
