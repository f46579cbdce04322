"""Ask people whether a model may go into service, put their answer on record, and give one.

The answer is one call of ``SendTaskSuccess``, which Step Functions takes once: that is the commit point, also for two
who answer at the same moment. The state machine hands it back to be recorded (docs/adr/0046).
"""

from __future__ import annotations

import datetime
from typing import Any, Literal

import msgspec

from isthmus import documents
from isthmus.errors import Conflict, InvalidInput, Refused
from isthmus.model import layout
from isthmus.model.approval import MAX_REASON_CHARACTERS, Answer, Approval
from isthmus.ports import Item, Records, Registry, Tasks

ASKING = "AskApproval"
"""The state in which an execution waits for an answer."""
MAX_DESCRIPTION_CHARACTERS = 1024
"""Of ``ApprovalDescription``, which is one line (SageMaker API reference, UpdateModelPackage)."""
KEPT_SECONDS = 30 * 86400
"""How much longer than it is waited for the question is kept; its answer stays with the job."""
STATUS: dict[str, Literal["Approved", "Rejected"]] = {
    "APPROVED": "Approved",
    "REJECTED": "Rejected",
    "EXPIRED": "Rejected",
}
"""What the model registry calls each answer."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What waits: a release, the one that it was compared with (0: none was in service), the ARN of the execution that
    asks, and for how many seconds it waits."""

    model: str
    release: int
    against: int
    execution: str
    seconds: int


def ask_approval(
    job_key: str,
    asked: Asked,
    package: str,
    token: str,
    *,
    records: Records,
    registry: Registry,
    now: datetime.datetime,
) -> Approval:
    """Put on record what waits for an answer, and the token that answers it. ``package`` is the registry's id of the
    release; ``now`` is in UTC.

    Said again, by a retry or a redrive, the newest token counts.
    """
    evaluation = (records.get(layout.job_pk(job_key), layout.STATE) or {}).get("evaluation", {})
    until = now + datetime.timedelta(seconds=asked.seconds)
    approval = Approval(
        execution=asked.execution,
        model=asked.model,
        release=asked.release,
        candidate=evaluation.get("candidate"),
        champion=evaluation.get("champion"),
        champion_release=asked.against,
        since=now.isoformat(timespec="seconds"),
        until=until.isoformat(timespec="seconds"),
    )
    registry.judge(package, "PendingManualApproval", "")
    # The job first: whoever finds the token finds what it is about.
    _tell_job(job_key, approval, records)
    expires = {"expires_at": int(until.timestamp()) + KEPT_SECONDS}
    question = {"token": token, "approval": msgspec.to_builtins(approval), **expires}
    records.update(layout.APPROVALS, job_key, question)
    return approval


def record_approval(
    job_key: str, package: str, answer: Any, *, records: Records, registry: Registry
) -> Approval:
    """Put an answer on record, with the job and in the model registry; may be called again.

    Raises:
        InvalidDocument: it is no answer.
        Conflict: nothing was asked.
    """
    said = documents.convert(Answer, answer, "the answer")
    state = records.get(layout.job_pk(job_key), layout.STATE) or {}
    if not state.get("approval"):
        raise Conflict(f"nobody was asked about job {job_key}")
    asked = _read(state["approval"])
    answered = msgspec.structs.replace(asked, state=said.state, by=said.by, reason=said.reason, at=said.at)
    registry.judge(package, STATUS[said.state], describe_answer(answered)[:MAX_DESCRIPTION_CHARACTERS])
    _tell_job(job_key, answered, records)
    # Without the token: it is worth nothing any more.
    records.update(layout.APPROVALS, job_key, {"token": "", "approval": msgspec.to_builtins(answered)})
    return answered


def answer_approval(job_key: str, answer: Answer, *, records: Records, tasks: Tasks) -> Approval:
    """Answer for a job that waits; return what was asked, with the answer.

    Raises:
        InvalidInput: a rejection without a reason, or a reason that is too long.
        Refused: it does not wait; the message says what became of it.
    """
    if answer.state == "REJECTED" and not answer.reason.strip():
        raise InvalidInput("a rejection needs a reason, which goes on record: add --reason TEXT")
    if len(answer.reason) > MAX_REASON_CHARACTERS:
        raise InvalidInput(
            f"a reason has at most {MAX_REASON_CHARACTERS} characters; this one has {len(answer.reason)}"
        )
    question = records.get(layout.APPROVALS, job_key)
    if question is None:
        raise Refused(
            f"job {job_key} does not wait for approval; see where it is with `isthmus pipeline show {job_key}`"
        )
    asked = _read(question["approval"])
    if not question["token"]:
        raise Refused(f"job {job_key} does not wait for approval: it was {describe_answer(asked)}")
    try:
        tasks.succeed(question["token"], msgspec.to_builtins(answer))
    except Conflict as error:
        raise Refused(
            f"job {job_key} does not wait for approval any more: it was answered, stopped, or its time was up "
            f"at {asked.until}; see `isthmus pipeline show {job_key}`"
        ) from error
    return msgspec.structs.replace(
        asked, state=answer.state, by=answer.by, reason=answer.reason, at=answer.at
    )


def approval_of(item: Item, execution: str) -> Approval | None:
    """Return what an execution asked, by its job's record; None: nothing."""
    found = _read(item["approval"]) if item.get("approval") else None
    return found if found is not None and found.execution == execution else None


def describe_answer(approval: Approval) -> str:
    """Return how a question was answered, in one line."""
    if approval.state == "EXPIRED":
        return f"not approved: nobody answered from {approval.since} until {approval.at}"
    reason = " ".join(approval.reason.split())
    why = f": {reason}" if reason else ""
    return f"{approval.state.lower()} by {approval.by} at {approval.at}{why}"


def _tell_job(job_key: str, approval: Approval, records: Records) -> None:
    records.update(layout.job_pk(job_key), layout.STATE, {"approval": msgspec.to_builtins(approval)})


def _read(found: Any) -> Approval:
    return documents.convert(Approval, found, "what is asked")
