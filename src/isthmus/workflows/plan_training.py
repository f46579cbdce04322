"""Choose the device for a job's next attempt, and say why."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from isthmus import documents
from isthmus.errors import AttemptLost, Conflict, InvalidJob
from isthmus.model import layout
from isthmus.model.job import Training
from isthmus.model.messages import DEFAULT_PRIORITY, DEFAULT_TEAM, AttemptState
from isthmus.model.plan import Plan
from isthmus.model.units import utc_milliseconds
from isthmus.planning.placement import place
from isthmus.ports import BlobStore, Devices, Item, Records
from isthmus.workflows.explain_failure import explain
from isthmus.workflows.loading import load_job, load_manifest, load_policy

TRANSFER_SECONDS = 900
"""Allowance for fetching data, building the environment and uploading results, on top of a deadline."""
MAX_LOST = 3
"""Attempts that may be lost before the rig's owner has to look; so many more after each redrive."""


class Planned(msgspec.Struct, frozen=True):
    """What the state machine needs of a plan; ``plan`` is the bucket key of the whole.

    ``replaces_lost``: the attempt before it fell silent.
    """

    plan: str
    rig: str
    queue_url: str
    fencing: int
    heartbeat_seconds: int
    queue_deadline_seconds: int
    deadline_seconds: int
    team: str
    submitted_at: str
    replaces_lost: bool = False
    accelerators: int = 0
    priority: int = DEFAULT_PRIORITY


def plan_training(
    job_key: str,
    *,
    submitted_at: str = "",
    after_loss: str = "",
    blobs: BlobStore,
    records: Records,
    devices: Devices,
) -> Planned:
    """Plan the next attempt of a job under a new fencing number, and write the plan.

    ``submitted_at`` is when the job was submitted (ISO 8601): every attempt keeps its place by it.
    ``after_loss`` is why this execution waits for the attempt before no more, or empty when there was none.

    Raises:
        NoPlacement: no device may and can; the message holds every device's reason.
    """
    job, manifest = load_job(blobs, job_key), load_manifest(blobs, job_key)
    training = job.source
    if not isinstance(training, Training):
        raise InvalidJob(f"{job.model} is imported; there is nothing to train")
    in_place = None if manifest.in_place is msgspec.UNSET else manifest.in_place
    policy = load_policy(records, manifest.dataset)
    device, refusals = place(job, training, devices.list(), policy, in_place)
    fencing = records.next_number(layout.job_pk(job_key), "FENCING")
    replaces_lost = _mark_lost(job_key, fencing, after_loss, records)
    plan = Plan(
        job_key=job_key,
        fencing=fencing,
        device=device.id,
        zone=device.zone,
        queue_url=device.queue_url,
        refusals=refusals,
        price_per_hour_usd=device.price_per_hour_usd,
    )
    blobs.put(layout.plan_key(job_key, fencing), documents.encode(plan))
    team, priority = _place(job_key, records)
    return Planned(
        plan=layout.plan_key(job_key, fencing),
        rig=device.id,
        queue_url=device.queue_url,
        fencing=fencing,
        heartbeat_seconds=training.offline_tolerance_seconds,
        queue_deadline_seconds=training.queue_deadline_seconds,
        deadline_seconds=training.deadline_seconds + TRANSFER_SECONDS,
        team=team,
        submitted_at=utc_milliseconds(submitted_at),
        replaces_lost=replaces_lost,
        accelerators=training.resources.accelerators,
        priority=priority,
    )


def check_lost(lost: int, redrives: int, failure: Mapping[str, str]) -> None:
    """Refuse another attempt when too many were lost. ``failure``: the last one's Error and Cause.

    It is refused here, where a redrive begins again, under a new fencing number.

    Raises:
        AttemptLost: too many were.
    """
    if lost >= MAX_LOST * (1 + redrives):
        error, cause = explain({**failure, "At": "TrainOnRig"})
        raise AttemptLost(f"{lost} attempts were lost by their rigs; the last one: {error}: {cause}")


def _place(job_key: str, records: Records) -> tuple[str, int]:
    """Return a job's team and priority; one that was registered before there were such has none on record."""
    record = records.get(layout.job_pk(job_key), layout.STATE) or {}
    return str(record.get("team", DEFAULT_TEAM)), int(record.get("priority", DEFAULT_PRIORITY))


def loss(lost: int, failure: Mapping[str, str]) -> str:
    """Return why the attempt before is not waited for any more, for a person; empty when none was lost."""
    if not lost:
        return ""
    if failure.get("Error") == "States.HeartbeatTimeout":
        return "the rig fell silent for longer than the job's offline tolerance"
    error, cause = explain(failure)
    return f"{error}: {cause}" if cause else error


def _mark_lost(job_key: str, fencing: int, after_loss: str, records: Records) -> bool:
    """An attempt that is planned again while its lease has no outcome was lost by its rig."""
    lease = records.get(layout.job_pk(job_key), layout.LEASE)
    if lease is None or lease["fencing"] >= fencing:
        return False
    if lease.get("outcome"):
        if after_loss and lease["state"] == AttemptState.SUCCEEDED.value:
            _keep_orphan(job_key, lease, after_loss, records)
        return False
    try:
        records.update(
            layout.job_pk(job_key),
            layout.LEASE,
            {"state": AttemptState.LOST.value, "cause": after_loss or "another attempt was planned"},
            expect={"fencing": lease["fencing"], "outcome": None},
        )
    except Conflict:
        # The rig came back and committed between the read and the write. Nobody waits for that either.
        return _mark_lost(job_key, fencing, after_loss, records)
    return True


def _keep_orphan(job_key: str, lease: Item, cause: str, records: Records) -> None:
    """It succeeded after the state machine had given it up: its files are in the bucket, and the next attempt
    will write over its lease."""
    outcome = lease["outcome"]
    orphan = {
        "job_key": job_key,
        "fencing": lease["fencing"],
        "rig": lease["rig"],
        "cause": cause,
        "since": "",
        "output": outcome.get("output", ""),
        "metrics": outcome.get("metrics", {}),
        "seconds": outcome.get("seconds", 0.0),
        "told": True,
    }
    records.update(layout.rig_pk(lease["rig"]), layout.orphan_sk(job_key, lease["fencing"]), orphan)
