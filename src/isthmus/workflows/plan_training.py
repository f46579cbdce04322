"""Choose the device for a job's next attempt, and say why."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TypedDict

import msgspec

from isthmus import documents
from isthmus.errors import AttemptLost, Conflict, InvalidJob
from isthmus.model import layout
from isthmus.model.cloud import CloudTraining
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Job, Training
from isthmus.model.messages import DEFAULT_PRIORITY, DEFAULT_TEAM, AttemptState
from isthmus.model.plan import Plan
from isthmus.model.units import utc_milliseconds
from isthmus.planning.choice import Choice, Outlook, choose
from isthmus.planning.cloud_devices import SAGEMAKER, instance_type, training_devices
from isthmus.planning.training_request import unfit
from isthmus.ports import BlobStore, Devices, Item, Records
from isthmus.workflows import attempts_planned, keep_ledger
from isthmus.workflows.explain_failure import explain
from isthmus.workflows.loading import load_cloud_training, load_job, load_manifest, load_policy

TRANSFER_SECONDS = 900
"""Allowance for fetching data, building the environment and uploading results, on top of a deadline."""
MAX_LOST = 3
"""Attempts that may be lost before the rig's owner has to look; so many more after each redrive."""


class Planned(msgspec.Struct, frozen=True):
    """What the state machine needs of a plan; ``plan`` is the bucket key of the whole.

    ``replaces_lost``: the attempt before it fell silent. ``max_seconds``: of its training, by deadline and budgets.
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
    runs_on: str = "rig"
    max_seconds: int = 0


def plan_training(
    job_key: str,
    *,
    submitted_at: str = "",
    after_loss: str = "",
    redrives: int = 0,
    zone: str = "",
    now: float = 0.0,
    blobs: BlobStore,
    records: Records,
    devices: Devices,
) -> Planned:
    """Plan the next attempt of a job under a new fencing number, and write the plan.

    ``submitted_at`` is when the job was submitted (ISO 8601): every attempt keeps its place by it.
    ``after_loss`` is why this execution waits for the attempt before no more, or empty when there was none.
    ``zone``: where SageMaker would train, empty: nowhere. ``now``: seconds since the epoch.

    Raises:
        NoPlacement: no device may and can; the message holds every device's reason.
        BudgetExceeded: it would cost more than a budget leaves.
    """
    job, training = load_training(job_key, blobs)
    left = _left(job, submitted_at, redrives, now)
    choice = choose_device(
        job_key,
        job,
        training,
        left=left,
        redrives=redrives,
        zone=zone,
        now=now,
        **_ports(blobs, records, devices),
    )
    fencing = records.next_number(layout.job_pk(job_key), "FENCING")
    replaces_lost = _mark_lost(job_key, fencing, after_loss, records)
    plan = _plan(job_key, fencing, choice, training, left)
    manifest = load_manifest(blobs, job_key)
    team, priority = _place(job_key, records)
    whose = keep_ledger.Whose(model=job.model, team=team)
    plan = keep_ledger.open_entry(plan, whose, manifest, zone=zone, now=now, records=records)
    blobs.put(layout.plan_key(job_key, fencing), documents.encode(plan))
    attempts_planned.note(plan, job.model, records, now=now, ends_at=now + _longest(plan, training))
    return Planned(
        plan=layout.plan_key(job_key, fencing),
        rig=plan.device,
        queue_url=plan.queue_url,
        fencing=fencing,
        heartbeat_seconds=training.offline_tolerance_seconds,
        queue_deadline_seconds=_queue_deadline(training, left),
        deadline_seconds=max(plan.max_runtime_seconds, plan.max_wait_seconds) + TRANSFER_SECONDS,
        team=team,
        submitted_at=utc_milliseconds(submitted_at),
        replaces_lost=replaces_lost,
        accelerators=training.resources.accelerators,
        priority=priority,
        runs_on=plan.runs_on,
        max_seconds=plan.max_runtime_seconds,
    )


class _Ports(TypedDict):
    blobs: BlobStore
    records: Records
    devices: Devices


def _ports(blobs: BlobStore, records: Records, devices: Devices) -> _Ports:
    return {"blobs": blobs, "records": records, "devices": devices}


def load_training(job_key: str, blobs: BlobStore) -> tuple[Job, Training]:
    """Return a job that trains.

    Raises:
        InvalidJob: it does not.
    """
    job = load_job(blobs, job_key)
    if not isinstance(job.source, Training):
        raise InvalidJob(f"{job.model} is imported; there is nothing to train")
    return job, job.source


def choose_device(
    job_key: str,
    job: Job,
    training: Training,
    *,
    left: float | None,
    redrives: int,
    zone: str,
    now: float,
    blobs: BlobStore,
    records: Records,
    devices: Devices,
) -> Choice:
    """Return where a job's next attempt would run; nothing is written.

    Raises:
        NoPlacement: no device may and can.
    """
    manifest = load_manifest(blobs, job_key)
    in_place = None if manifest.in_place is msgspec.UNSET else manifest.in_place
    settings = load_cloud_training(records)
    outlook = Outlook(
        waits=attempts_planned.waits(records, but=job_key, now=now),
        took=attempts_planned.took(job.model, records),
        left=left,
        tried=attempts_planned.tried(job_key, redrives, records),
        spot=settings is None or settings.spot,
        unfit=unfit(training, (file.channel for file in manifest.files)),
    )
    there = [*devices.list(), *_cloud(job, settings, zone)]
    return choose(job, training, there, load_policy(records, manifest.dataset), outlook, in_place)


def _cloud(job: Job, settings: CloudTraining | None, zone: str) -> list[DeviceDescriptor]:
    """What SageMaker has. Where no administrator set it up, only who wishes for it is told what is missing."""
    if not zone or (settings is None and job.wishes.run_on != SAGEMAKER):
        return []
    return training_devices(settings or CloudTraining(), zone)


def _left(job: Job, submitted_at: str, redrives: int, now: float) -> float | None:
    """Return how much is left of the time that the job was given; a redrive starts it anew."""
    within = job.wishes.within_seconds
    if within is msgspec.UNSET:
        return None
    if redrives or not submitted_at:
        return float(within)
    return within - (now - datetime.datetime.fromisoformat(submitted_at).timestamp())


def _queue_deadline(training: Training, left: float | None) -> int:
    """Return how long the attempt may wait for a rig: not past what is left of the time that the job was given."""
    longest = training.queue_deadline_seconds
    return longest if left is None else max(1, min(longest, int(left)))


def _plan(job_key: str, fencing: int, choice: Choice, training: Training, left: float | None) -> Plan:
    device, runs = choice.device, training.deadline_seconds
    in_cloud = device.kind == SAGEMAKER
    waits = training.queue_deadline_seconds if left is None else max(0.0, left - runs)
    return Plan(
        job_key=job_key,
        fencing=fencing,
        device=device.id,
        zone=device.zone,
        queue_url=device.queue_url,
        refusals=choice.refusals,
        price_per_hour_usd=device.price_per_hour_usd,
        runs_on="sagemaker" if in_cloud else "rig",
        instance_type=instance_type(device.id),
        spot=choice.spot,
        wait_seconds=choice.wait_seconds,
        expected_seconds=choice.expected_seconds,
        basis=choice.basis,
        max_runtime_seconds=runs,
        max_wait_seconds=int(runs + min(waits, training.queue_deadline_seconds)) if choice.spot else 0,
        predicted_cost_usd=choice.cost_usd,
        reason=choice.reason,
    )


def _longest(plan: Plan, training: Training) -> float:
    """Return after how many seconds an attempt is over, whatever became of it."""
    waits = 0 if plan.runs_on == SAGEMAKER else training.queue_deadline_seconds
    return waits + max(plan.max_runtime_seconds, plan.max_wait_seconds) + 2 * TRANSFER_SECONDS


def check_lost(lost: int, redrives: int, failure: Mapping[str, str]) -> None:
    """Refuse another attempt when too many were lost. ``failure``: the last one's Error and Cause.

    It is refused here, where a redrive begins again, under a new fencing number.

    Raises:
        AttemptLost: too many were.
    """
    if lost >= MAX_LOST * (1 + redrives):
        error, cause = explain({**failure, "At": "TrainOnRig"})
        raise AttemptLost(f"{lost} attempts were lost by their devices; the last one: {error}: {cause}")


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
