"""A plan: where a job runs, and why not elsewhere. Frozen, printable, parseable."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.model.blob import Name


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a device does not get the job: one sentence with what was needed and what there was."""

    device: str
    reason: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One device for the whole job; ``fencing`` is the attempt's number, rising with every plan."""

    schema: Literal["isthmus/plan/1"] = "isthmus/plan/1"
    job_key: str
    fencing: int
    device: Name
    zone: str
    queue_url: str
    refusals: tuple[Refusal, ...] = ()
    price_per_hour_usd: float = 0.0
    signature: str | None = None
