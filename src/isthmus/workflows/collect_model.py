"""Judge how a training on SageMaker ended, and bring what it left to where a rig's attempt leaves it.

SageMaker itself is asked, whatever the state machine heard: how Step Functions treats a job that was stopped is nowhere
written down (docs/adr/0041). A rig commits its outcome itself; here this function does, on the same condition.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.errors import (
    AttemptLost,
    Conflict,
    EnvironmentProblem,
    IsthmusError,
    PermissionMissing,
    TrainingFailed,
    Unavailable,
)
from isthmus.model import layout
from isthmus.model.ledger import Reported
from isthmus.model.messages import AttemptState, Outcome
from isthmus.model.permission import missing_permission
from isthmus.ports import BlobStore, Item, Records, TrainingJobs, TrainingJobStatus
from isthmus.workflows import attempts_planned, cloud_checkpoints, keep_ledger, model_archive

NO_CAPACITY = ("CapacityError", "ResourceLimitExceeded", "Insufficient capacity", "InsufficientCapacity")
"""In what SageMaker says when it has not, or the account may not have, such an instance now: a job's FailureReason
("CapacityError: Unable to provision requested ML compute capacity"), or a refused CreateTrainingJob."""
ENDED = ("Completed", "Failed", "Stopped")
MAX_CAUSE_CHARACTERS = 8_000


class Collected(msgspec.Struct, frozen=True):
    """A training that succeeded: its attempt and its billed seconds."""

    fencing: int
    seconds: float


def collect_model(
    job_key: str,
    fencing: int,
    *,
    redrives: int,
    failure: Mapping[str, str],
    blobs: BlobStore,
    records: Records,
    jobs: TrainingJobs,
    workdir: Path,
) -> Collected:
    """Return what an attempt on SageMaker came to; may be called again.

    ``failure``: what the state machine heard of the job, if it failed there. ``redrives``: of the execution, up to now.

    Raises:
        TrainingFailed: the script's fault, or a person stopped the job.
        BudgetExceeded: a budget ended it.
        AttemptLost: SageMaker could not run it, took its capacity back, or the execution was redriven: another attempt
            goes on from its checkpoints.
        PermissionMissing: the state machine's role may not make the job.
        EnvironmentProblem: SageMaker refused the job, or could not set it up.
        Unavailable: it has not ended yet.
    """
    lease = records.get(layout.job_pk(job_key), layout.LEASE) or {}
    if lease.get("fencing") != fencing or not lease.get("training_job"):
        raise AttemptLost(f"attempt {fencing} of job {job_key} no longer holds the lease")
    done = _committed(lease)
    if done is not None and done.state is AttemptState.SUCCEEDED:
        return Collected(fencing, done.seconds)
    job = jobs.describe(lease["training_job"])
    if job is not None and job.status in ENDED:
        keep_ledger.report_training(job_key, fencing, Reported(seconds=job.seconds), records)
    if job is not None and job.status == "Completed":
        return _succeeded(job_key, fencing, job, blobs, records, workdir)
    if job is not None and job.status not in ENDED:
        raise Unavailable(f"the training job {lease['training_job']} is {job.status}")
    error = _judge(lease, job, failure, redrives)
    if job is not None and job.secondary == "MaxRuntimeExceeded":
        error = keep_ledger.over_limit(job_key, fencing, records) or error
    cloud_checkpoints.commit(job_key, fencing, blobs, records)
    if isinstance(error, AttemptLost):
        _lose(job_key, lease, redrives, str(error), records)
    else:
        _commit(job_key, fencing, _failed(error, job), records)
        attempts_planned.ended(job_key, fencing, records)
    raise error


def _committed(lease: Item) -> Outcome | None:
    return documents.convert(Outcome, lease["outcome"], "the outcome") if lease.get("outcome") else None


def _succeeded(
    job_key: str, fencing: int, job: TrainingJobStatus, blobs: BlobStore, records: Records, workdir: Path
) -> Collected:
    prefix = layout.attempt_output(job_key, fencing)
    key = job.artifacts.removeprefix("s3://").partition("/")[2]
    try:
        metrics = model_archive.take(key, prefix, blobs, workdir)
    except IsthmusError as error:
        failed = TrainingFailed(f"{type(error).__name__}: {error}")
        if not isinstance(error, Unavailable):
            _commit(job_key, fencing, _failed(failed, job), records)
            raise failed from error
        raise
    outcome = Outcome(
        state=AttemptState.SUCCEEDED, exit_code=0, output=prefix, metrics=metrics, seconds=job.seconds
    )
    _commit(job_key, fencing, outcome, records)
    attempts_planned.ended(job_key, fencing, records, seconds=job.seconds)
    cloud_checkpoints.discard(job_key, fencing, blobs, records)
    return Collected(fencing, job.seconds)


def _judge(
    lease: Item, job: TrainingJobStatus | None, failure: Mapping[str, str], redrives: int
) -> IsthmusError:
    name = lease["training_job"]
    if redrives > int(lease.get("redrives", 0)):
        return AttemptLost(f"the execution was redriven after {name} had ended")
    if job is None:
        return _refused(name, failure)
    if job.status == "Stopped":
        return _stopped(name, job)
    if any(word in job.reason for word in NO_CAPACITY):
        return AttemptLost(f"SageMaker had no capacity for {name}: {job.reason}")
    if job.reason.startswith("InternalServerError"):
        return AttemptLost(f"SageMaker failed at {name}: {job.reason}")
    if job.reason.startswith("AlgorithmError"):
        return TrainingFailed(job.reason)
    return EnvironmentProblem(f"SageMaker could not run {name}: {job.reason}")


def _refused(name: str, failure: Mapping[str, str]) -> IsthmusError:
    """CreateTrainingJob itself failed; the state machine heard why."""
    said = f"{failure.get('Error', '')}: {failure.get('Cause', '')}"[-MAX_CAUSE_CHARACTERS:]
    if missing := missing_permission(said):
        return PermissionMissing(missing)
    if any(word in said for word in (*NO_CAPACITY, "Throttling", "Rate exceeded")):
        return AttemptLost(f"SageMaker has no room for {name}: {said}")
    return EnvironmentProblem(f"SageMaker did not take the training job {name}: {said}")


def _stopped(name: str, job: TrainingJobStatus) -> IsthmusError:
    if "Interrupted" in job.passed:
        return AttemptLost(f"SageMaker took back the spot capacity of {name}")
    if job.secondary == "MaxWaitTimeExceeded":
        return AttemptLost(f"no spot capacity came for {name} in the time that it may wait")
    if job.secondary == "MaxRuntimeExceeded":
        return TrainingFailed(f"the training did not end within its deadline ({name})")
    return TrainingFailed(f"the training job {name} was stopped")


def _lose(job_key: str, lease: Item, redrives: int, cause: str, records: Records) -> None:
    """What a redrive gave up is not to blame; what SageMaker could not give or took back is not asked for again."""
    fencing = lease["fencing"]
    if redrives == int(lease.get("redrives", 0)):
        attempts_planned.note_tried(job_key, redrives, lease["offer"], f"attempt {fencing}: {cause}", records)
    attempts_planned.ended(job_key, fencing, records)


def _failed(error: IsthmusError, job: TrainingJobStatus | None) -> Outcome:
    return Outcome(
        state=AttemptState.FAILED,
        cause=str(error)[-MAX_CAUSE_CHARACTERS:],
        seconds=job.seconds if job is not None else 0.0,
    )


def _commit(job_key: str, fencing: int, outcome: Outcome, records: Records) -> None:
    """The commit point. One that is there already is this call's own, made before."""
    values = {"outcome": json.loads(documents.encode(outcome)), "state": outcome.state.value}
    try:
        records.update(
            layout.job_pk(job_key), layout.LEASE, values, expect={"fencing": fencing, "outcome": None}
        )
    except Conflict as error:
        lease = records.get(layout.job_pk(job_key), layout.LEASE) or {}
        if lease.get("fencing") != fencing:
            raise AttemptLost(f"attempt {fencing} of job {job_key} was superseded") from error
