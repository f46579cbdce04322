"""Judge how a training on SageMaker ended, and bring what it left to where a rig's attempt leaves it.

SageMaker itself is asked, whatever the state machine heard: how Step Functions treats a job that was stopped is nowhere
written down (docs/adr/0041). A rig commits its outcome itself; here this function does, on the same condition.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

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
"""How it begins what SageMaker says when it has not, or the account may not have, such an instance now: a job's
FailureReason ("CapacityError: Unable to provision requested ML compute capacity"), or a refused request's code."""
PASSING = ("Throttling", "TooManyRequests", "SdkClientException")
"""How the code of a request begins that did not come through, of whatever offer it was."""
NAME_TAKEN = "ResourceInUse"
"""CreateTrainingJob's code for a name that a job has: here the attempt's own, whose creation went unheard."""
TIMED_OUT = "States.Timeout"
HEARD = ("SageMaker.", TIMED_OUT, "States.TaskFailed")
"""How an error of TrainOnSageMaker begins. Another stands in the failure of the attempt before."""
ERROR_CODE = re.compile(r"Error Code: (\w+)")
MAX_CAUSE_CHARACTERS = 8_000


class Collected(msgspec.Struct, frozen=True):
    """A training that succeeded: its attempt and how long it trained, in seconds."""

    fencing: int
    seconds: float


class _Verdict(NamedTuple):
    """``offer_failed``: SageMaker could not give or took back what was asked for; it is not asked for again."""

    error: IsthmusError
    offer_failed: bool = False


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
        AttemptLost: SageMaker could not run it, took its capacity back, or the execution was redriven or did not hear
            that the job was made: another attempt goes on from its checkpoints.
        PermissionMissing: the state machine's role may not make the job.
        EnvironmentProblem: SageMaker refused the job, or could not set it up.
        Unavailable: it has not ended yet. One that the state machine waits for no more is stopped.
    """
    lease = records.get(layout.job_pk(job_key), layout.LEASE) or {}
    if lease.get("fencing") != fencing or not lease.get("training_job"):
        raise AttemptLost(f"attempt {fencing} of job {job_key} no longer holds the lease")
    done = _committed(lease)
    if done is not None and done.state is AttemptState.SUCCEEDED:
        return Collected(fencing, done.seconds)
    redriven = redrives > int(lease.get("redrives", 0))
    name = lease["training_job"]
    job = jobs.describe(name)
    if job is not None and not job.ended:
        if redriven or failure.get("Error", "").startswith(HEARD):
            jobs.stop(name)
        raise Unavailable(f"the training job {name} is {job.status}")
    if job is not None:
        keep_ledger.report_training(job_key, fencing, Reported(seconds=job.billed_seconds), records)
        if job.status == "Completed":
            return _succeeded(job_key, fencing, job, blobs, records, workdir)
    if redriven:
        verdict = _Verdict(AttemptLost(f"the execution was redriven after {name} had ended"))
    else:
        verdict = _judge(name, job, failure, keep_ledger.over_limit(job_key, fencing, records))
    cloud_checkpoints.commit(job_key, fencing, blobs, records)
    if not isinstance(verdict.error, AttemptLost):
        _commit(job_key, fencing, _failed(verdict.error, job), records)
    elif verdict.offer_failed:
        said = f"attempt {fencing}: {verdict.error}"
        attempts_planned.note_tried(job_key, redrives, lease["offer"], said, records)
    attempts_planned.ended(job_key, fencing, records)
    raise verdict.error


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
    name: str, job: TrainingJobStatus | None, failure: Mapping[str, str], over_budget: IsthmusError | None
) -> _Verdict:
    """``over_budget``: what to say of a job that ran as long as it may, if a budget said how long."""
    if job is None:
        return _refused(name, failure)
    if job.status == "Stopped":
        return _stopped(name, job, failure, over_budget)
    # The script's words come first: whatever they are about, the failure is its own.
    if job.reason.startswith("AlgorithmError"):
        return _Verdict(TrainingFailed(job.reason))
    if job.reason.startswith(NO_CAPACITY):
        return _Verdict(AttemptLost(f"SageMaker had no capacity for {name}: {job.reason}"), offer_failed=True)
    if job.reason.startswith("InternalServerError"):
        return _Verdict(AttemptLost(f"SageMaker failed at {name}: {job.reason}"), offer_failed=True)
    return _Verdict(EnvironmentProblem(f"SageMaker could not run {name}: {job.reason}"))


def _refused(name: str, failure: Mapping[str, str]) -> _Verdict:
    """CreateTrainingJob itself failed; the state machine heard why."""
    error, cause = failure.get("Error", ""), failure.get("Cause", "")
    said = f"{error}: {cause}"[-MAX_CAUSE_CHARACTERS:]
    if missing := missing_permission(said):
        return _Verdict(PermissionMissing(missing))
    codes = _codes(failure)
    if any(code.startswith(NO_CAPACITY) for code in codes):
        return _Verdict(AttemptLost(f"SageMaker has no room for {name}: {said}"), offer_failed=True)
    if any(code.startswith(PASSING) for code in codes) or cause.startswith("Rate exceeded"):
        return _Verdict(AttemptLost(f"the request for {name} did not come through: {said}"))
    return _Verdict(EnvironmentProblem(f"SageMaker did not take the training job {name}: {said}"))


def _codes(failure: Mapping[str, str]) -> list[str]:
    """Return how the service calls its refusal: in the error's name, or in the words of the SDK."""
    return [failure.get("Error", "").rpartition(".")[2], *ERROR_CODE.findall(failure.get("Cause", ""))]


def _stopped(
    name: str, job: TrainingJobStatus, failure: Mapping[str, str], over_budget: IsthmusError | None
) -> _Verdict:
    if job.secondary == "MaxRuntimeExceeded":
        late = TrainingFailed(f"the training did not end within its deadline ({name})")
        return _Verdict(over_budget or late)
    if job.secondary == "MaxWaitTimeExceeded":
        waited = AttemptLost(f"no spot capacity came for {name} in the time that it may wait")
        return _Verdict(waited, offer_failed=True)
    before = [status for status in job.passed if status not in ("Stopping", "Stopped")]
    if before[-1:] == ["Interrupted"]:
        return _Verdict(AttemptLost(f"SageMaker took back the spot capacity of {name}"), offer_failed=True)
    if failure.get("Error") == TIMED_OUT:
        return _Verdict(
            TrainingFailed(f"{name} had not ended when its deadline was long over: it was stopped")
        )
    if any(code.startswith((NAME_TAKEN, *PASSING)) for code in _codes(failure)):
        return _Verdict(AttemptLost(f"the state machine did not hear that {name} was made: it was stopped"))
    return _Verdict(TrainingFailed(f"the training job {name} was stopped"))


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
