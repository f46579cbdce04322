"""``isthmus destroy``: remove the stack and all that it made; without ``--yes``, say what that is."""

from __future__ import annotations

import argparse
from typing import Any

from isthmus import bootstrap
from isthmus.cli.output import Output
from isthmus.model.inventory import Group, Thing
from isthmus.model.units import format_bytes, format_usd
from isthmus.workflows.destroy_stack import KEEPABLE, DestroyPlan, destroy, plan_destroy

SHOWN = 10
"""Things of a kind that are named; the rest is counted."""
EPILOG = (
    "what --keep takes: "
    + "; ".join(f"{noun}: {text}" for noun, text in KEEPABLE.items())
    + ". Cut off anywhere, it is continued by running it again."
)


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    text = "remove the stack and everything that it made; a dry run without --yes"
    command = commands.add_parser("destroy", parents=[common], help=text, epilog=EPILOG)
    command.add_argument(
        "--keep", default="", metavar="NOUNS", help=f"comma-separated: {', '.join(KEEPABLE)}"
    )
    command.add_argument("--yes", action="store_true", help="do it")
    command.add_argument("--force", action="store_true", help="stop running executions")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace, output: Output) -> None:
    keep = [noun.strip() for noun in options.keep.split(",") if noun.strip()]
    kinds = bootstrap.belongings(options.stack)
    plan = plan_destroy(options.stack, kinds, keep)
    if not options.yes:
        output.result({"done": False, "plan": plan}, describe(plan))
        return
    count = destroy(kinds, keep, force=options.force, report=lambda line: output.progress(f"  {line}"))
    output.result({"done": True, "removed": count, "plan": plan}, _ended(plan, count))


def describe(plan: DestroyPlan) -> str:
    """Return the plan as text."""
    if not plan.remove:
        return "\n".join([f"nothing of the stack {plan.stack} is there to remove", *_kept(plan)])
    lines = [f"would remove, in this order, of the stack {plan.stack}:"]
    for group in plan.remove:
        lines += _group(group)
    lines += _kept(plan)
    if plan.running:
        lines.append(f"{len(plan.running)} executions run: --force stops them")
    return "\n".join([*lines, "nothing was changed; do it with --yes"])


def _ended(plan: DestroyPlan, count: int) -> str:
    return "\n".join([f"removed {count} things of the stack {plan.stack}", *_kept(plan)])


def _kept(plan: DestroyPlan) -> list[str]:
    if not plan.keep:
        return []
    lines = [f"kept, for {format_usd(plan.kept_usd_per_month)} a month at list prices:"]
    for group in plan.keep:
        lines += _group(group)
    return [*lines, f"a new stack {plan.stack} can be deployed when that is gone too, or is imported into it"]


def _group(group: Group) -> list[str]:
    plural = f"{group.kind}{'s' if len(group.things) != 1 else ''}"
    lines = [
        f"  {len(group.things)} {plural}"
        + (f", {format_bytes(group.size_bytes)}" if group.size_bytes else "")
    ]
    lines += [f"    {_thing(thing)}" for thing in group.things[:SHOWN]]
    more = len(group.things) - SHOWN
    return [*lines, f"    … and {more} more"] if more > 0 else lines


def _thing(thing: Thing) -> str:
    parts = [f"{thing.items} pieces" if thing.items != 1 else ""]
    parts += [format_bytes(thing.size_bytes) if thing.size_bytes else "", thing.note, thing.blocked]
    said = ", ".join(part for part in parts if part)
    return f"{thing.name} ({said})" if said else thing.name
