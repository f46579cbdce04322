"""What came of devices' results: when each was last heard of, how many came, and how far its answers are from the
model's own."""

from __future__ import annotations

import msgspec

from isthmus.model import layout
from isthmus.ports import Item, Records
from isthmus.workflows.watch_answers import AnswerDrift, Watch, read_watches


class ModelShown(msgspec.Struct, frozen=True, kw_only=True):
    """A model on a device. ``answers``: samples of this release; ``drift``: of the last full window, where one was."""

    model: str
    release: int
    answers: int
    drift: AnswerDrift | None = None
    drifted: bool = False


class DeviceShown(msgspec.Struct, frozen=True, kw_only=True):
    """``results``: that are in the bucket; ``dropped``: that the device had no room for, as it says. ``outboxes``: how
    many it has had: one for each core, and another after a new disk."""

    device: str
    last_seen: str
    results: int
    dropped: int
    outboxes: int
    models: tuple[ModelShown, ...]


def show_results(records: Records, model: str = "") -> list[DeviceShown]:
    """Return each device that has sent results, in order; with ``model`` those that sent any of it."""
    devices: dict[str, list[Item]] = {}
    for item in records.query(layout.RESULTS):
        devices.setdefault(str(item["device"]), []).append(item)
    shown = [_shown(device, marks, model) for device, marks in sorted(devices.items())]
    return [entry for entry in shown if entry.models or not model]


def _shown(device: str, marks: list[Item], model: str) -> DeviceShown:
    newest: dict[str, Watch] = {}
    # Of an outbox that the device has no more, what came later tells more.
    for mark in sorted(marks, key=lambda item: str(item["seen_at"])):
        newest |= read_watches(mark["models"])
    return DeviceShown(
        device=device,
        last_seen=max(str(mark["seen_at"]) for mark in marks),
        results=sum(int(mark["results"]) for mark in marks),
        dropped=sum(int(mark["dropped"]) for mark in marks),
        outboxes=len(marks),
        models=tuple(
            ModelShown(
                model=name,
                release=watch.release,
                answers=watch.seen,
                drift=watch.drift,
                drifted=watch.drift is not None and watch.drift.is_large,
            )
            for name, watch in sorted(newest.items())
            if model in ("", name)
        ),
    )
