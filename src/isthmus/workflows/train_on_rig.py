"""Hand the training's task token to the rig that holds the lease, and report how it ended."""

from __future__ import annotations

import json

import msgspec

from isthmus import documents
from isthmus.errors import AttemptLost, BudgetExceeded, Conflict, IsthmusError, TrainingFailed
from isthmus.model import layout
from isthmus.model.ledger import Reported
from isthmus.model.messages import AttemptState, Outcome
from isthmus.ports import Records, Tasks
from isthmus.workflows import attempts_planned
from isthmus.workflows.keep_ledger import report_training


class Finished(msgspec.Struct, frozen=True):
    """Whether the state machine still waited for this attempt, and how the attempt ended."""

    delivered: bool
    state: AttemptState
    seconds: float


def train_on_rig(
    job_key: str, fencing: int, token: str, *, records: Records, tasks: Tasks, now: float = 0.0
) -> None:
    """Write ``token`` into the lease, where the rig reads it. ``now``: seconds since the epoch.

    A rig that succeeded while nobody waited (the execution had ended, and was redriven) is not asked
    again: its outcome answers the token.

    Raises:
        AttemptLost: the lease is not of this attempt any more.
    """
    try:
        records.update(
            layout.job_pk(job_key),
            layout.LEASE,
            {"token": token, "state": AttemptState.RUNNING.value},
            expect={"fencing": fencing, "outcome": None},
        )
    except Conflict as error:
        outcome = _outcome(job_key, fencing, records)
        if outcome is None or outcome.state is not AttemptState.SUCCEEDED:
            raise AttemptLost(f"attempt {fencing} of job {job_key} no longer holds the lease") from error
        _answer(token, fencing, outcome, tasks)
    attempts_planned.started(job_key, fencing, records, now=now)


def _outcome(job_key: str, fencing: int, records: Records) -> Outcome | None:
    """Return what the attempt committed, if it is the lease's."""
    lease = records.get(layout.job_pk(job_key), layout.LEASE)
    if lease is None or lease["fencing"] != fencing or not lease.get("outcome"):
        return None
    return documents.convert(Outcome, lease["outcome"], "the outcome")


def finish_attempt(job_key: str, fencing: int, *, records: Records, tasks: Tasks) -> Finished:
    """Answer the training's token with the outcome that the rig committed; may be called again.

    Raises:
        Conflict: no outcome is committed under this fencing number.
    """
    lease = records.get(layout.job_pk(job_key), layout.LEASE)
    if lease is None or lease["fencing"] != fencing or not lease.get("outcome"):
        raise Conflict(f"attempt {fencing} of job {job_key} has no committed outcome")
    outcome = documents.convert(Outcome, lease["outcome"], "the outcome")
    if outcome.seconds:
        said = Reported(
            seconds=outcome.seconds,
            fetched_bytes=outcome.fetched_bytes,
            output_bytes=outcome.output_bytes,
        )
        report_training(job_key, fencing, said, records)
    took = outcome.seconds if outcome.state is AttemptState.SUCCEEDED else None
    attempts_planned.ended(job_key, fencing, records, seconds=took)
    if not lease.get("token"):
        # Committed before the training's token was handed out; train_on_rig then finds the outcome.
        return Finished(False, outcome.state, outcome.seconds)
    try:
        _answer(lease["token"], fencing, outcome, tasks)
    except Conflict:
        # Answered before, or nobody waits any more: the outcome is on record either way.
        return Finished(False, outcome.state, outcome.seconds)
    return Finished(True, outcome.state, outcome.seconds)


def _answer(token: str, fencing: int, outcome: Outcome, tasks: Tasks) -> None:
    if outcome.state is AttemptState.SUCCEEDED:
        tasks.succeed(token, {"output": outcome.output, "fencing": fencing, "seconds": outcome.seconds})
        return
    kind: type[IsthmusError] = AttemptLost if outcome.state is AttemptState.LOST else TrainingFailed
    if outcome.cause.startswith(BudgetExceeded.__name__):
        kind = BudgetExceeded
    cause = {"state": outcome.state.value, "exit_code": outcome.exit_code, "cause": outcome.cause}
    tasks.fail(token, kind.__name__, json.dumps(cause))
