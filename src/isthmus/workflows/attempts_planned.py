"""What attempts are planned, what each rig has to do before the next, and how long trainings took.

A plan notes its attempt; whoever hears of its end takes the note away. One that nobody takes away expires.
"""

from __future__ import annotations

import contextlib
import statistics
from collections import defaultdict

from isthmus.errors import Conflict
from isthmus.model import layout
from isthmus.model.plan import Plan
from isthmus.ports import Item, Records

KEPT = 3
"""Trainings of a model on a device whose seconds are kept: one that was slow by chance does not decide alone, and two
of another length do."""


def note(plan: Plan, model: str, records: Records, *, now: float, ends_at: float) -> None:
    """Note an attempt, in the place of the job's attempt before it."""
    values = {
        "device": plan.device,
        "fencing": plan.fencing,
        "model": model,
        "expected_seconds": plan.expected_seconds,
        "planned_at": now,
        "started_at": None,
        "expires_at": int(ends_at),
    }
    records.update(layout.PLANNED, plan.job_key, values)


def started(job_key: str, fencing: int, records: Records, *, now: float) -> None:
    """Note that an attempt's training begins, and whether it goes on from a checkpoint; from then on less is left of
    it."""
    checkpoint = records.get(layout.job_pk(job_key), layout.CHECKPOINT) or {}
    values = {"started_at": now, "resumed": bool(checkpoint.get("manifest"))}
    with contextlib.suppress(Conflict):  # of a stack that knew no notes, or of another attempt by now
        records.update(layout.PLANNED, job_key, values, expect={"fencing": fencing})


def ended(job_key: str, fencing: int, records: Records, *, seconds: float | None = None) -> None:
    """Take an attempt's note away. ``seconds``: how long its training took, of one that succeeded.

    One that went on from a checkpoint was shorter than its model's trainings are: nothing is learned of it.
    """
    item = records.get(layout.PLANNED, job_key)
    if item is None or item.get("fencing") != fencing:
        return
    if seconds is not None and not item.get("resumed"):
        key = layout.model_pk(item["model"])
        known = _trained(item["model"], records)
        lately = [*known.get(item["device"], []), seconds][-KEPT:]
        records.update(key, layout.TRAINED, {"seconds": known | {item["device"]: lately}})
    with contextlib.suppress(Conflict):
        records.delete(layout.PLANNED, job_key, expect={"fencing": fencing})


def forget(job_key: str, records: Records) -> None:
    """Take a job's note away: its execution is over. The next one, of a redrive or a retry, tries every offer again."""
    records.delete(layout.PLANNED, job_key)
    if records.get(layout.job_pk(job_key), layout.TRIED) is not None:
        records.update(layout.job_pk(job_key), layout.TRIED, {"offers": {}})


def waits(records: Records, *, but: str, now: float) -> dict[str, float]:
    """Return by device the seconds that its planned attempts still take, one after the other.

    ``but``: the job that is planned. A rig with several agents is done sooner.
    """
    found: dict[str, float] = defaultdict(float)
    for item in records.query(layout.PLANNED):
        if item["sk"] != but and item["expires_at"] > now:
            found[item["device"]] += _remaining(item, now)
    return dict(found)


def _remaining(item: Item, now: float) -> float:
    begun = item.get("started_at")
    done = 0.0 if begun is None else now - float(begun)
    return max(0.0, float(item["expected_seconds"]) - max(0.0, done))


def took(model: str, records: Records) -> dict[str, float]:
    """Return by device how long the last trainings of a model took, in seconds: their median."""
    return {device: statistics.median(lately) for device, lately in _trained(model, records).items()}


def _trained(model: str, records: Records) -> dict[str, list[float]]:
    item = records.get(layout.model_pk(model), layout.TRAINED) or {}
    return {device: [float(one) for one in lately] for device, lately in item.get("seconds", {}).items()}


def tried(job_key: str, redrives: int, records: Records) -> dict[str, str]:
    """Return by offer why it is not to be had any more; a redrive tries all again."""
    item = records.get(layout.job_pk(job_key), layout.TRIED) or {}
    return dict(item["offers"]) if item.get("redrives") == redrives else {}


def note_tried(job_key: str, redrives: int, offer: str, why: str, records: Records) -> None:
    """Note that an offer is not to be had for this job."""
    offers = tried(job_key, redrives, records) | {offer: why}
    records.update(layout.job_pk(job_key), layout.TRIED, {"redrives": redrives, "offers": offers})
