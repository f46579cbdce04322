"""The core devices of a stack as one looks at them: what each serves, what it should, what is pending and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from isthmus.errors import Refused
from isthmus.model import layout
from isthmus.model.core_device import CoreComponent, CoreDevice
from isthmus.ports import CoreRegistry, FleetView

BUNDLE = "model"
BROKEN = frozenset({"BROKEN", "ERRORED"})
UNDER_WAY = frozenset({"QUEUED", "IN_PROGRESS"})
ENDED_BADLY = frozenset({"FAILED", "TIMED_OUT", "REJECTED", "CANCELED"})


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A core device. ``serves``, ``should``: release by model, as the device says and as the latest deployment
    to its group asks.

    ``notes``: what is pending or wrong, each a sentence; none for a device on which all is as it should be.
    """

    name: str
    canary: bool
    status: str
    last_seen: str
    serves: dict[str, int]
    should: dict[str, int]
    notes: list[str]
    device: CoreDevice | None = None


def show_fleet(stack: str, registry: CoreRegistry, view: FleetView) -> list[Shown]:
    """Return every device that joined or reports, in order."""
    members, reporting = registry.members(), [entry.name for entry in view.devices()]
    wanted = {canary: view.wanted(canary=canary) for canary in (False, True)}
    return [
        _shown(stack, name, view.device(name), wanted, canary=members.get(name, False))
        for name in sorted({*members, *reporting})
    ]


def show_device(stack: str, name: str, registry: CoreRegistry, view: FleetView) -> Shown:
    """Return one device with its components and deployments.

    Raises:
        Refused: there is none of that name.
    """
    found = view.device(name)
    if name not in (members := registry.members()):
        there = ", ".join(members) or "none"
        raise Refused(f"there is no core device {name} in the stack {stack}; there are: {there}")
    canary = members[name]
    shown = _shown(stack, name, found, {canary: view.wanted(canary=canary)}, canary=canary)
    return msgspec.structs.replace(shown, device=found)


def _shown(
    stack: str,
    name: str,
    found: CoreDevice | None,
    wanted: Mapping[bool, Mapping[str, str]],
    *,
    canary: bool,
) -> Shown:
    should = _releases(stack, wanted[canary].items())
    if found is None:
        said = "has joined and never reported: start its nucleus with the file that `isthmus edge join` wrote"
        return Shown(
            name=name,
            canary=canary,
            status="NEVER SEEN",
            last_seen="",
            serves={},
            should=should,
            notes=[said],
        )
    serves = _releases(stack, ((entry.name, entry.version) for entry in found.components))
    return Shown(
        name=name,
        canary=canary,
        status=found.status,
        last_seen=found.last_seen,
        serves=serves,
        should=should,
        notes=[*_of_components(found.components), *_of_deployments(found), *_differences(serves, should)],
    )


def _releases(stack: str, components: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return release by model, from the bundles' components: a version's first number is the release."""
    return {
        model: int(version.partition(".")[0])
        for name, version in sorted(components)
        if (model := layout.component_of(stack, name)) and name.endswith(f".{BUNDLE}")
    }


def _of_components(components: tuple[CoreComponent, ...]) -> list[str]:
    return [
        f"{entry.name} {entry.version} is {entry.state}" + (f": {entry.cause}" if entry.cause else "")
        for entry in components
        if entry.state in BROKEN
    ]


def _of_deployments(found: CoreDevice) -> list[str]:
    """Of those under way, and of the last one if it ended badly: older failures are history."""
    notes = [
        f"deployment {entry.id} is {entry.state} since {entry.since}"
        for entry in found.deployments
        if entry.state in UNDER_WAY
    ]
    ended = [entry for entry in found.deployments if entry.state not in UNDER_WAY]
    last = max(ended, key=lambda entry: entry.since, default=None)
    if last is not None and last.state in ENDED_BADLY:
        notes.append(f"deployment {last.id} {last.state}" + (f": {last.cause}" if last.cause else ""))
    return notes


def _differences(serves: Mapping[str, int], should: Mapping[str, int]) -> list[str]:
    notes = []
    for model in sorted({*serves, *should}):
        have, want = serves.get(model), should.get(model)
        if have is None:
            notes.append(f"{model}: release {want} is not there yet")
        elif want is None:
            notes.append(f"{model}: release {have} serves, and no deployment asks for it")
        elif have != want:
            notes.append(f"{model}: release {have} serves, {want} is wanted")
    return notes
