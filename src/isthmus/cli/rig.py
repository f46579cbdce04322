"""``isthmus rig join | run | list | queue``."""

from __future__ import annotations

import argparse
import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus import bootstrap, documents
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.errors import Refused
from isthmus.model.blob import Name
from isthmus.model.units import format_bytes

if TYPE_CHECKING:
    from isthmus.rig.turns import Waiting


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser("rig", help="GPU rigs: join this machine, run its agent").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    join = verbs.add_parser("join", parents=[common], help="describe this machine and register it as a rig")
    _named(join)
    join.add_argument(
        "--zone", required=True, help="where data on this machine lies, for example onprem-milan"
    )
    join.add_argument(
        "--price-per-hour", type=float, default=0.0, metavar="USD", help="what an hour costs you"
    )
    join.set_defaults(run=_join)
    run = verbs.add_parser("run", parents=[common], help="take work until told to stop (SIGTERM drains)")
    _named(run)
    run.add_argument("--prepare", action="store_true", help="build the training environments first")
    run.set_defaults(run=_run)
    rigs = verbs.add_parser("list", parents=[common], help="registered rigs")
    rigs.set_defaults(run=_list)
    queue = verbs.add_parser("queue", parents=[common], help="who waits for a rig, first come first")
    queue.add_argument("name", metavar="NAME", help="the rig's name")
    queue.set_defaults(run=_queue)


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the rig's name")
    default = Path.home() / ".local" / "share" / "isthmus"
    parser.add_argument("--folder", type=Path, default=default, help=f"where it works (default: {default})")


def _join(options: argparse.Namespace, output: Output) -> None:
    name = documents.convert(Name, options.name, "the rig's name")
    device = bootstrap.join_rig(
        name,
        bootstrap.stack_outputs(options.stack),
        stack=options.stack,
        zone=options.zone,
        folder=options.folder,
        price_per_hour_usd=options.price_per_hour,
    )
    gpus = ", ".join(gpu.model for gpu in device.accelerators) or "no GPU"
    trains = ", ".join(f"{name} {'/'.join(versions)}" for name, versions in device.frameworks.items())
    output.result(
        device,
        f"{device.id} joined in {device.zone}: {device.cores} cores, {format_bytes(device.memory_bytes)}, {gpus}; "
        f"trains {trains}\nrun its agent with: isthmus rig run --name {device.id}",
    )


def _run(options: argparse.Namespace, output: Output) -> None:
    from isthmus.rig.agent import obey_signals

    def report(event: str, **fields: object) -> None:
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        output.progress(" ".join([time, event, *(f"{name}={value}" for name, value in fields.items())]))

    name = documents.convert(Name, options.name, "the rig's name")
    outputs = bootstrap.stack_outputs(options.stack)
    agent = bootstrap.rig_agent(name, outputs, folder=options.folder, report=report, prepare=options.prepare)
    obey_signals(agent)
    agent.run()


def _list(options: argparse.Namespace, output: Output) -> None:
    devices = bootstrap.devices(Stack(options.stack).outputs["Table"]).list()
    rows = [
        {"name": d.id, "zone": d.zone, "cores": d.cores, "gpus": len(d.accelerators), "seen": d.seen_at}
        for d in devices
    ]
    text = table(rows, ("name", "zone", "cores", "gpus", "seen")) if rows else "no rig has joined yet"
    output.result(devices, text)


def _queue(options: argparse.Namespace, output: Output) -> None:
    name = documents.convert(Name, options.name, "the rig's name")
    table_name = Stack(options.stack).outputs["Table"]
    if bootstrap.devices(table_name).get(name) is None:
        raise Refused(f"there is no rig {name}; see `isthmus rig list`")
    rows = queue_rows(bootstrap.waiting_list(name, table_name).in_turn())
    columns = ("position", "team", "in_team", "job", "attempt", "submitted")
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
                "job": work.job_key,
                "attempt": work.fencing,
                "submitted": entry.submitted_at,
                "arrived": entry.arrived_at,
            }
        )
    return rows
