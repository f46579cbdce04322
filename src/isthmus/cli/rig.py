"""``isthmus rig run | list | queue``; describing a device is in ``rig_device``, operating one in ``rig_operation``."""

from __future__ import annotations

import argparse
import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus import bootstrap, bootstrap_border, bootstrap_rig, documents
from isthmus.cli import rig_device, rig_identity, rig_operation, rig_orphans, rig_share
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.errors import Refused
from isthmus.model.blob import Name

if TYPE_CHECKING:
    from isthmus.rig.turns import Waiting


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser("rig", help="GPU rigs: join this machine, run its agent").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    rig_device.register(verbs, common, _named)
    run = verbs.add_parser("run", parents=[common], help="take work until told to stop (SIGTERM drains)")
    _named(run)
    run.add_argument(
        "--prepare",
        nargs="*",
        metavar="ENVIRONMENT",
        help="build training environments first, such as mxnet-1.9.1 (default: all that fit this machine)",
    )
    rig_operation.gpus_option(run)
    run.set_defaults(run=_run)
    rig_operation.register(verbs, common, _folder)
    rig_orphans.register(verbs, common, _folder)
    rig_identity.register(verbs, common, _folder)
    rig_share.register(verbs, common)
    rigs = verbs.add_parser("list", parents=[common], help="registered rigs")
    rigs.set_defaults(run=_list)
    queue = verbs.add_parser("queue", parents=[common], help="who waits for a rig, first come first")
    queue.add_argument("name", metavar="NAME", help="the rig's name")
    queue.set_defaults(run=_queue)


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the rig's name")
    _folder(parser)


def _folder(parser: argparse.ArgumentParser) -> None:
    default = Path.home() / rig_operation.USUAL_FOLDER
    parser.add_argument("--folder", type=Path, default=default, help=f"where it works (default: {default})")


def _run(options: argparse.Namespace, output: Output) -> None:
    from isthmus.rig.signals import obey_signals

    def report(event: str, **fields: object) -> None:
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        output.progress(" ".join([time, event, *(f"{name}={value}" for name, value in fields.items())]))

    name = documents.convert(Name, options.name, "the rig's name")
    rig_identity.use(options.folder, rig=name, stack=options.stack, output=output)
    with bootstrap_border.border(
        name, lambda: bootstrap.stack_outputs(options.stack), folder=options.folder, report=report
    ) as (border, outputs):
        agent = bootstrap_rig.rig_agent(
            name, outputs, folder=options.folder, report=report, prepare=options.prepare, gpus=options.gpus
        )
        border.watch(lambda: agent.doing().job_key)
        obey_signals(agent)
        with bootstrap_rig.presence(
            agent, name, outputs, stack=options.stack, report=report, also=border.tell
        ):
            agent.run()


def _list(options: argparse.Namespace, output: Output) -> None:
    devices = bootstrap.devices(Stack(options.stack).outputs["Table"]).list()
    rows = [
        {
            "name": d.id,
            "kind": d.kind,
            "zone": d.zone,
            "cores": d.cores,
            "gpus": len(d.accelerators),
            "seen": d.seen_at,
        }
        for d in devices
    ]
    text = table(rows, ("name", "kind", "zone", "cores", "gpus", "seen")) if rows else "no rig has joined yet"
    output.result(devices, text)


def _queue(options: argparse.Namespace, output: Output) -> None:
    name = documents.convert(Name, options.name, "the rig's name")
    table_name = Stack(options.stack).outputs["Table"]
    if bootstrap.devices(table_name).get(name) is None:
        raise Refused(f"there is no rig {name}; see `isthmus rig list`")
    rows = queue_rows(bootstrap_rig.waiting_list(name, table_name).in_turn())
    columns = ("position", "team", "in_team", "priority", "job", "attempt", "submitted")
    output.result(rows, table(rows, columns) if rows else f"nobody waits for {name}")


def queue_rows(waiting: Sequence[Waiting]) -> list[dict[str, Any]]:
    """Return who waits, as one agent would take them: the position over all, and within the team.

    A job that was stopped meanwhile stands there until its turn, when it is dropped.
    """
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for position, entry in enumerate(waiting, start=1):
        work = entry.work
        counts[work.team] += 1
        rows.append(
            {
                "position": position,
                "team": work.team,
                "in_team": counts[work.team],
                "priority": work.priority,
                "job": work.job_key,
                "attempt": work.fencing,
                "submitted": entry.submitted_at,
                "arrived": entry.arrived_at,
            }
        )
    return rows
