"""``isthmus collect``: remove versions that nothing refers to; without ``--yes``, say which."""

from __future__ import annotations

import argparse
from typing import Any

from isthmus import bootstrap
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.errors import InvalidInput
from isthmus.model.units import format_bytes
from isthmus.workflows.collect_versions import Collected, Storage, collect, plan_collection

KEEP = 3


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    text = "remove unreferenced versions of layers, functions and components; a dry run without --yes"
    command = commands.add_parser("collect", parents=[common], help=text)
    help_text = f"newest versions of each name that stay in any case (default: {KEEP})"
    command.add_argument("--keep", type=int, default=KEEP, metavar="N", help=help_text)
    command.add_argument("--yes", action="store_true", help="do it")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace, output: Output) -> None:
    if options.keep < 1:
        raise InvalidInput(
            f"--keep must be at least 1, to have a version to go back to; it was {options.keep}"
        )
    stack, estate = Stack(options.stack), bootstrap.estate(options.stack)
    if not options.yes:
        found = plan_collection(stack.name, estate, stack.records, options.keep)
        output.result({"done": False, **_document(found)}, _planned(found))
        return
    done = collect(
        stack.name,
        estate,
        stack.records,
        options.keep,
        clock=bootstrap.clock(),
        report=lambda line: output.progress(f"  {line}"),
    )
    output.result({"done": True, **_document(done)}, _done(done))


def _document(found: Collected) -> dict[str, Any]:
    return {
        "components": found.garbage.components,
        "functions": found.garbage.functions,
        "layers": found.garbage.layers,
        "freed_bytes": found.freed_bytes,
        "storage": found.storage,
        "busy": found.busy,
        "left": found.left,
    }


def _planned(found: Collected) -> str:
    if not len(found.garbage):
        return f"every version is referred to, or new enough to stay; {_used(found.storage)}"
    garbage = found.garbage
    lines = [f"would remove {len(garbage)} versions that nothing refers to:"]
    lines += [f"  component {entry.component} {entry.version}" for entry in garbage.components]
    lines += [
        f"  function {entry.function}:{entry.number} ({format_bytes(entry.size_bytes)})"
        for entry in garbage.functions
    ]
    lines += [
        f"  layer {entry.layer}:{entry.number} ({format_bytes(entry.size_bytes)})" for entry in garbage.layers
    ]
    lines.append(f"{format_bytes(found.freed_bytes)} of Lambda's storage; {_used(found.storage)}")
    return "\n".join([*lines, "nothing was changed; do it with --yes"])


def _done(done: Collected) -> str:
    lines = [f"removed {len(done.garbage)} versions, {format_bytes(done.freed_bytes)}; {_used(done.storage)}"]
    if done.busy:
        lines.append(f"left alone, for a roll-out is under way: {', '.join(done.busy)}")
    if done.left:
        lines.append(f"{done.left} are left, for a roll-out may begin now; run it again for them")
    return "\n".join(lines)


def _used(storage: Storage) -> str:
    share = storage.used_bytes / storage.limit_bytes if storage.limit_bytes else 0.0
    return (
        f"{format_bytes(storage.used_bytes)} of the region's {format_bytes(storage.limit_bytes)} are used "
        f"({share:.1%})"
    )
