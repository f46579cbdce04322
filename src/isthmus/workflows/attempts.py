"""Where a job's training is: the state of its newest attempt, and why."""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.model import layout
from isthmus.model.messages import AttemptState
from isthmus.ports import Item, Records
from isthmus.workflows.record_outcome import ENDED


class AttemptStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt. ``cause`` says why it is where it is: of FAILED the script's last lines, of LOST what the
    rig or the state machine said, of ABORTED the person's own words."""

    fencing: int
    state: AttemptState
    rig: str = ""
    agent: str = ""
    cause: str = ""
    exit_code: int | None = None
    seconds: float = 0.0


def newest_attempt(job_key: str, records: Records) -> AttemptStatus | None:
    """Return the newest attempt of a job; None: none was planned yet."""
    pk = layout.job_pk(job_key)
    number = int((records.get(pk, "FENCING") or {}).get("number", 0))
    if not number:
        return None
    lease = records.get(pk, layout.LEASE) or {}
    if lease.get("fencing") != number:
        return _untaken(number, records.get(pk, layout.STATE) or {})
    outcome: dict[str, Any] = lease.get("outcome") or {}
    return AttemptStatus(
        fencing=number,
        state=AttemptState(lease.get("state") or outcome.get("state") or AttemptState.LEASED),
        rig=lease.get("rig", ""),
        agent=lease.get("agent", ""),
        cause=outcome.get("cause") or lease.get("cause", ""),
        exit_code=outcome.get("exit_code"),
        seconds=float(outcome.get("seconds", 0.0)),
    )


def _untaken(number: int, job: Item) -> AttemptStatus:
    """No rig took it: it waits, or its job ended while it did."""
    if job.get("state") not in ENDED:
        return AttemptStatus(
            fencing=number, state=AttemptState.QUEUED, cause="it waits for its turn on a rig"
        )
    state = AttemptState.ABORTED if job["state"] == "ABORTED" else AttemptState.LOST
    return AttemptStatus(fencing=number, state=state, cause=job.get("cause") or f"the job is {job['state']}")
