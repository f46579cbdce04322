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
    runs_on: Literal["rig", "sagemaker"] = "rig"
    instance_type: str = ""
    """Of SageMaker, such as ``ml.m5.xlarge``."""
    spot: bool = False
    """On capacity that SageMaker may take back; ``price_per_hour_usd`` is then the most that it costs."""
    wait_seconds: float = 0.0
    """Until it starts, by what waits and runs there before it."""
    expected_seconds: float = 0.0
    """Of the training, and ``basis`` says whence that is known."""
    basis: str = ""
    max_runtime_seconds: int = 0
    """When it is ended, whatever it has reached."""
    max_wait_seconds: int = 0
    """Of spot: when it is ended, its waits for capacity included."""
    predicted_cost_usd: float = 0.0
    """Of the expected seconds, at ``price_per_hour_usd``."""
    reason: str = ""
    """Why this device."""
    signature: str | None = None
