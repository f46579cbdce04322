"""Canaries: core devices that get a release before the others, and what is looked at until these get it.

A canary has to have the release, stay healthy as Greengrass sees it, and, where it sends results, answer as the model
did where it was judged.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from isthmus.ports import Records
from isthmus.workflows.edge_target import EdgeTarget, RevertibleFleet
from isthmus.workflows.show_results import show_results

CANARY_SECONDS = 300
"""How long canaries are waited for. With the bake time, at most 240 s, it is less than the states wait."""
ILL = "UNHEALTHY"


def named(rollout: str, release: int) -> str:
    """Return what canaries are said to have passed."""
    return f"{rollout} {release}"


def are_due(canaries: EdgeTarget, name: str, fleet: RevertibleFleet) -> bool:
    """Whether there are canaries that have not had this release for long enough."""
    return canaries.item.get("passed") != name and bool(fleet.devices(canaries.target))


def bake(
    canaries: EdgeTarget,
    succeeded: Sequence[str],
    pending: Sequence[str],
    drifted: Sequence[str],
    bake_seconds: int,
    fleet: RevertibleFleet,
    now: float,
) -> tuple[bool, list[str]]:
    """Return whether the canaries have had the release for long enough, and what is wrong with them.

    Canaries that are offline are not waited for longer than the others, of which there has to be one. ``drifted``:
    what is wrong with their answers.
    """
    item, health = canaries.item, fleet.devices(canaries.target)
    if drifted:
        return False, list(drifted)
    if pending and now - item["since"] < CANARY_SECONDS:
        return False, []
    if pending and not succeeded:
        return False, [
            f"none of {', '.join(pending)} answered within {CANARY_SECONDS} s; bring one back, or take them out of "
            "the group, and redrive"
        ]
    if not item.get("arrived"):
        canaries.note(arrived=int(now))
    broken = [f"{name} is {ILL} with it" for name in succeeded if health.get(name) == ILL]
    return now - (item.get("arrived") or now) >= bake_seconds, broken


def drifted(model: str, release: int, devices: Collection[str], since: float, records: Records) -> list[str]:
    """Return a sentence for each device whose answers by this release are far from the model's own.

    ``since``: when the canaries were sent it; what an earlier try came to does not count. Times are devices' own.

    What is far: ``model.drift.LARGE_INDEX``, over a window of answers that the results' ingest has counted.
    """
    found = []
    for device in show_results(records, model):
        for shown in device.models:
            drift = shown.drift if shown.release == release and device.device in devices else None
            if drift is not None and shown.drifted and drift.at_ms >= since * 1000:
                sure = "" if drift.confidence is None else f", confidence {drift.confidence:.2f}"
                found.append(
                    f"{device.device}'s answers are not the model's (drift of classes {drift.classes:.2f}{sure}, "
                    f"over {drift.samples})"
                )
    return found
