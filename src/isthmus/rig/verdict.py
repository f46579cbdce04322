"""Why nobody waits for an attempt any more.

The errors of SendTaskHeartbeat cannot tell a stop from a timeout: both are TaskTimedOut or TaskDoesNotExist.
So the reason is read where the control plane writes it: a rule on the execution's end marks the job
(``workflows.record_outcome``), and the plan of the next attempt marks the lease as lost.
"""

from __future__ import annotations

import datetime

from isthmus.model import layout
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.ports import Clock, Item, Records
from isthmus.rig import lease
from isthmus.workflows.record_outcome import ENDED, order_of

LOOK_SECONDS = 1.0


def why_lost(work: Work, records: Records, clock: Clock, wait_seconds: float, told: str) -> Outcome:
    """Return ABORTED with the person's cause, or LOST with what became of the attempt.

    EventBridge brings the mark within seconds, mostly; after ``wait_seconds`` the attempt counts as LOST,
    with ``told`` as its cause, which is what Step Functions answered.

    Raises:
        Unavailable: the table did not answer.
    """
    waited = 0.0
    while (found := _look(work, records)) is None and waited < wait_seconds:
        clock.sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS
    return found or Outcome(state=AttemptState.LOST, cause=told)


def _look(work: Work, records: Records) -> Outcome | None:
    job = records.get(layout.job_pk(work.job_key), layout.STATE) or {}
    if job.get("state") in ENDED and _is_of(work, job):
        state = AttemptState.ABORTED if job["state"] == "ABORTED" else AttemptState.LOST
        return Outcome(
            state=state, cause=f"the job is {job['state']}: {job.get('cause') or 'no cause was given'}"
        )
    item = lease.read(work.job_key, records)
    if item.get("fencing") != work.fencing:
        by = f"attempt {item.get('fencing')} of rig {item.get('rig')} holds the lease"
        return Outcome(state=AttemptState.LOST, cause=by)
    if lease.is_given_up(item):
        return Outcome(state=AttemptState.LOST, cause=item.get("cause") or "another attempt is planned")
    return None


def _is_of(work: Work, job: Item) -> bool:
    """Whether the end on record is of the execution that this attempt is of, and not of one before it.

    A message of a stack that knew no order says nothing: its job's mark is believed.
    """
    if not work.started_at or "order" not in job:
        return True
    started = int(datetime.datetime.fromisoformat(work.started_at).timestamp())
    return bool(job["order"] >= order_of(started, work.redrives, ended=True))
