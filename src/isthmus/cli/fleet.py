"""``isthmus fleet list | show | rollback``: the core devices, what they serve, and what is pending and why."""

from __future__ import annotations

import argparse
from typing import Any

from isthmus import bootstrap_cores, documents
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.errors import EnvironmentProblem
from isthmus.model.blob import Name
from isthmus.workflows.show_fleet import Shown, show_device, show_fleet


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser("fleet", help="the core devices of the stack").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    devices = verbs.add_parser("list", parents=[common], help="every core device, and what is wrong with it")
    devices.set_defaults(run=_list)
    show = verbs.add_parser("show", parents=[common], help="one core device: components, deployments, causes")
    show.add_argument("name", metavar="NAME", help="the device's name")
    show.set_defaults(run=_show)
    back = verbs.add_parser(
        "rollback",
        parents=[common],
        help="take a model's latest release from all core devices, for the one before",
    )
    back.add_argument("model", metavar="MODEL", help="a model that the devices serve")
    back.add_argument("--reason", required=True, metavar="TEXT", help="goes on record")
    back.set_defaults(run=_rollback)


def _list(options: argparse.Namespace, output: Output) -> None:
    registry, view = bootstrap_cores.registry(options.stack), bootstrap_cores.view(options.stack)
    found = show_fleet(options.stack, registry, view)
    rows = [
        {
            "device": f"{entry.name} (canary)" if entry.canary else entry.name,
            "status": entry.status,
            "seen": entry.last_seen[:19] or "-",
            "serves": _releases(entry.serves),
            "notes": "; ".join(entry.notes) or "-",
        }
        for entry in found
    ]
    text = table(rows, ("device", "status", "seen", "serves", "notes"))
    output.result(found, text if rows else "no core device yet; on one: isthmus edge join --name NAME")


def _show(options: argparse.Namespace, output: Output) -> None:
    registry, view = bootstrap_cores.registry(options.stack), bootstrap_cores.view(options.stack)
    output.result(found := show_device(options.stack, options.name, registry, view), _text(found))


def _rollback(options: argparse.Namespace, output: Output) -> None:
    if not (function := Stack(options.stack).outputs.get("DeployEdgeFunction")):
        raise EnvironmentProblem(f"the stack {options.stack} is of an older version; deploy it first")
    model = documents.convert(Name, options.model, "the model's name")
    made = bootstrap_cores.take_back(function, model, options.reason)
    text = (
        f"deployment {made['deployment']} brings back {', '.join(made['components'])}; see `isthmus fleet list`. "
        "The cloud serves on what it serves"
    )
    output.result(made, text)


def _text(found: Shown) -> str:
    lines = [
        f"{found.name}{' (canary)' if found.canary else ''}: {found.status}, last seen {found.last_seen or 'never'}"
    ]
    if found.device is not None and found.device.nucleus:
        lines[0] += f", nucleus {found.device.nucleus} on {found.device.architecture}"
    lines += [f"serves {_releases(found.serves)}; should serve {_releases(found.should)}"]
    lines += [f"! {note}" for note in found.notes]
    if found.device is not None:
        parts = [
            {"component": e.name, "version": e.version, "state": e.state} for e in found.device.components
        ]
        lines.append(table(parts, ("component", "version", "state")))
        done = [{"deployment": e.id, "state": e.state, "since": e.since} for e in found.device.deployments]
        lines.append(table(done, ("deployment", "state", "since")))
    return "\n".join(lines)


def _releases(found: dict[str, int]) -> str:
    return ", ".join(f"{model} {release}" for model, release in found.items()) or "nothing"
