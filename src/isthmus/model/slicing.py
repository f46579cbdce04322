"""A slicing plan: which layers run on which device, why, and how far from the best it can be."""

from __future__ import annotations

from typing import Literal

import msgspec

Objective = Literal["latency", "throughput", "cost", "energy", "step"]
"""Seconds of one request run serially; samples per second of the slowest stage; US dollars per 1,000
requests; joules per 1,000 requests; seconds of a training step under 1F1B."""

UNITS: dict[str, str] = {
    "latency": "s",
    "throughput": "samples/s",
    "cost": "USD/1000 requests",
    "energy": "J/1000 requests",
    "step": "s",
}


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a slice and its share of the samples."""

    device: str
    share: float = 1.0
    busy_seconds: float = 0.0
    """A sample, or a step of training, of computing, sending and receiving."""
    memory_bytes: int = 0
    capacity_bytes: int | None = None
    """None: no limit is known."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """``ranges``: half-open ranges ``[start, end)`` of the profile's operators; one in a contiguous plan
    of a chain, and ``[0, 0)`` where only the raw inputs lie. ``compute_seconds``: of one sample on its
    (slowest) device."""

    ranges: tuple[tuple[int, int], ...]
    replicas: tuple[Replica, ...]
    compute_seconds: float = 0.0
    range_seconds: tuple[float, ...] = ()
    """Of ``compute_seconds``, each range's; empty where not told apart."""
    first: str = ""
    last: str = ""
    """Names of its first and last operator."""

    @property
    def works(self) -> bool:
        """Whether it has operators: the raw inputs may lie where nothing is computed."""
        return any(start < end for start, end in self.ranges)


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """What crosses from one slice to another for each sample; ``source`` and ``target`` number slices.

    ``transport``: ``direct``, or ``relay`` through the bucket. ``dtype``: of what is sent, when cast.
    ``leakage_r2``: how well a decoder rebuilt the raw inputs from it, where the policy asks.
    """

    source: int
    target: int
    tensors: tuple[str, ...]
    size_bytes: int
    seconds: float
    transport: Literal["direct", "relay", "local"] = "direct"
    dtype: str = ""
    leakage_r2: float | None = None


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a device is used or not, with its figures, in one sentence."""

    device: str
    used: bool
    reason: str


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan predicts, whatever its objective was. None: not known."""

    latency_seconds: float
    samples_per_second: float
    usd_per_thousand: float | None = None
    joules_per_thousand: float | None = None
    step_seconds: float | None = None


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """The whole network on one device, for comparison."""

    device: str
    value: float | None
    """In the plan's unit; None: it cannot."""
    reason: str = ""


class SlicePlan(msgspec.Struct, frozen=True, kw_only=True):
    """``value``, ``bound`` in ``unit``; no plan is better than ``bound``, and ``gap`` is how far this one
    can be from the best, as a fraction. ``given_up``: what was not searched; empty when nothing was."""

    schema: Literal["isthmus/slices/1"] = "isthmus/slices/1"
    network: str
    network_digest: str = ""
    batch: int = 1
    objective: Objective
    unit: str
    value: float
    bound: float
    gap: float
    exact: bool
    method: str
    given_up: str = ""
    slices: tuple[Slice, ...]
    transfers: tuple[Transfer, ...]
    reasons: tuple[Reason, ...]
    prediction: Prediction
    alternatives: tuple[Alternative, ...] = ()
    best_split: Alternative | None = None
    """Where one device does all: the best plan found that uses several, for comparison. Its ``device``
    names them: ``rig-1 + cloud``."""
    certificate: str = ""
    """What proves the bound, in a sentence; the figures are checked when the plan is made."""
    solve_seconds: float = 0.0
    signature: str | None = None

    @property
    def split(self) -> bool:
        """Whether more than one device runs operators; one that only holds the raw inputs does not count."""
        working = [entry for entry in self.slices if entry.works]
        return len({replica.device for entry in working for replica in entry.replicas}) > 1
