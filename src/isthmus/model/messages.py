"""What the control plane and a rig say to each other."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

DEFAULT_TEAM = "default"
"""Of a job that names no team."""
DEFAULT_PRIORITY = 5
"""Of a job that names none: in the middle of 0 to 9."""


class AttemptState(StrEnum):
    """States of an attempt; LOST is the rig's fault, FAILED the script's, ABORTED a person's or a budget's stop.

    QUEUED is planned, and taken by no rig yet; LEASED is taken, and waits for the training's token.
    """

    QUEUED = "QUEUED"
    LEASED = "LEASED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    LOST = "LOST"
    ABORTED = "ABORTED"


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One SQS message: an attempt to be taken. ``token`` (Step Functions, at most 2,048 characters)
    only says that the work was taken; the training's own token follows in the lease.

    ``submitted_at`` and ``started_at`` (UTC, ``…T12:00:00.000Z``) are when the manifest was committed,
    to the second (S3's event), and when its execution began, which orders what was committed in the same
    second. Every attempt of a job carries the same. Empty in a message of a stack that knew no teams.
    """

    schema: Literal["isthmus/work/1"] = "isthmus/work/1"
    job_key: str
    fencing: int
    job: str
    """Bucket key of the registered job (JSON)."""
    manifest: str
    """Bucket key of the registered dataset manifest (JSON)."""
    token: str
    execution: str
    team: str = DEFAULT_TEAM
    submitted_at: str = ""
    started_at: str = ""
    redrives: int = 0
    """How often the execution was redriven before: a redrive waits for the same attempt, by another token."""
    retries: int = 0
    """How often the state was retried before, since the last redrive: each retry has another token too."""
    priority: int = DEFAULT_PRIORITY
    """0 to 9, the highest first, among the work of its team alone."""
    accelerators: int = 0
    """How many GPUs its job needs: an agent that has fewer leaves it to another one of its rig."""
    max_seconds: float = 0.0
    """When its training has cost what was set aside for it; 0: in a message of a stack that knew no budgets."""

    @property
    def sending(self) -> tuple[int, int]:
        """What orders the messages of one attempt: only the latest one's token is waited for."""
        return self.redrives, self.retries


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended, committed on condition of its fencing number.

    ``output`` is the bucket prefix that holds ``model.onnx`` and what else the script left. ``withheld`` is where on
    its rig the rest lies, if the data policy keeps it there. ``fetched_bytes``: of its data, from the bucket;
    ``output_bytes``: of what it left there.
    """

    state: AttemptState
    cause: str = ""
    exit_code: int | None = None
    output: str = ""
    metrics: dict[str, float] = {}
    seconds: float = 0.0
    withheld: str = ""
    fetched_bytes: int | None = None
    output_bytes: int | None = None


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs which attempt; a higher ``fencing`` number always wins."""

    job_key: str
    fencing: int
    rig: str
    state: AttemptState
    token: str = ""
    outcome: Outcome | None = None
