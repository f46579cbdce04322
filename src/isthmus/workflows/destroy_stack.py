"""Remove a stack and all that it made at run time, or say what would be removed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from isthmus.errors import InvalidInput, StillRunning
from isthmus.model.inventory import Group, Thing
from isthmus.model.units import GIB
from isthmus.planning.cost import price_list
from isthmus.ports import Belongings

RUNNING, STACK = "running execution", "stack"
KEEPABLE = {
    "data": "the bucket with all that it holds, and the keys",
    "models": "the model registry and the bundles, and the keys",
    "records": "the table, and its key",
    "logs": "the log group",
}
"""What ``--keep`` takes."""
Report = Callable[[str], None]


class DestroyPlan(msgspec.Struct, frozen=True):
    """What would be removed, in this order, and what stays, at what it costs a month by list prices."""

    stack: str
    remove: tuple[Group, ...]
    keep: tuple[Group, ...]
    kept_usd_per_month: float

    @property
    def running(self) -> tuple[Thing, ...]:
        """Executions that would be stopped."""
        return tuple(thing for group in self.remove if group.kind == RUNNING for thing in group.things)


def plan_destroy(stack: str, kinds: Sequence[Belongings], keep: Collection[str]) -> DestroyPlan:
    """Return what ``destroy`` would do; nothing is changed.

    Raises:
        InvalidInput: ``keep`` has a word that names nothing.
        ForeignStack: the stack of that name is another application's.
    """
    check_keep(keep)
    remove, kept = [], []
    for kind in kinds:
        stays, goes = _divide(kind.find(), keep)
        remove += [Group(kind.kind, goes)] if goes else []
        kept += [Group(kind.kind, stays)] if stays else []
    return DestroyPlan(stack, tuple(remove), tuple(kept), sum(map(_usd_per_month, kept)))


def destroy(kinds: Sequence[Belongings], keep: Collection[str], *, force: bool, report: Report) -> int:
    """Remove all that is not kept; return how many things went.

    Each kind is searched for again at its turn: what an execution made in its last moments is found,
    and a run that was cut off anywhere is continued by the next. What comes before the stack is searched
    for once more when the stack is gone: a function that a stopped execution had called runs to its end,
    minutes later, and may make a thing of a kind that was searched already; without its stack, none can.

    Raises:
        InvalidInput: ``keep`` has a word that names nothing.
        ForeignStack: the stack of that name is another application's.
        StillRunning: executions run, and ``force`` was not given; or the stack is being changed, or
            protected.
        StackNotDeleted: CloudFormation failed.
    """
    check_keep(keep)
    known = {kind.kind: kind.find() for kind in kinds}
    _refuse_while_running(known, force)
    count = 0
    for position, kind in enumerate(kinds):
        removed = _remove(kind, _still(kind, known[kind.kind]), keep, report)
        count += removed
        if kind.kind == STACK and removed:
            count += sum(_remove(before, before.find(), keep, report) for before in kinds[:position])
    return count


def _remove(kind: Belongings, things: list[Thing], keep: Collection[str], report: Report) -> int:
    going = _divide(things, keep)[1]
    for thing in going:
        report(f"{kind.kind} {thing.name}")
        kind.remove(thing, report)
    return len(going)


def _still(kind: Belongings, known: list[Thing]) -> list[Thing]:
    """Return what is there now, and what was known before: only its stack may have told whose it was."""
    now = kind.find()
    if kind.kind == RUNNING:  # what has ended needs no stop
        return now
    ids = {thing.id for thing in now}
    return now + [thing for thing in known if thing.id not in ids]


def check_keep(keep: Collection[str]) -> None:
    """Raise InvalidInput for a word that names nothing that can be kept."""
    unknown = sorted(set(keep) - set(KEEPABLE))
    if unknown:
        raise InvalidInput(f"--keep takes {', '.join(KEEPABLE)}; it was given {', '.join(unknown)}")


def _refuse_while_running(known: Mapping[str, list[Thing]], force: bool) -> None:
    """Refuse before anything is touched: half a stack helps nobody."""
    things = [(kind, thing) for kind, found in known.items() for thing in found]
    blocked = [f"the {kind} {thing.name} {thing.blocked}" for kind, thing in things if thing.blocked]
    if blocked:
        raise StillRunning("; ".join(blocked))
    running = [thing.name for kind, thing in things if kind == RUNNING]
    if running and not force:
        raise StillRunning(
            f"{len(running)} executions run ({', '.join(running[:5])}{', …' if running[5:] else ''}); wait for "
            "them, stop them with `isthmus job stop`, or pass --force, which stops them all"
        )


def _divide(things: list[Thing], keep: Collection[str]) -> tuple[tuple[Thing, ...], tuple[Thing, ...]]:
    stays = tuple(thing for thing in things if set(thing.kept_by) & set(keep))
    return stays, tuple(thing for thing in things if thing not in stays)


def _usd_per_month(group: Group) -> float:
    prices = price_list().prices
    priced = [(thing, prices[thing.price].usd) for thing in group.things if thing.price]
    return sum(usd * (thing.size_bytes / GIB if "_gb_" in thing.price else 1) for thing, usd in priced)
