"""What a plan is asked for."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from isthmus.errors import InvalidCase
from isthmus.model.policy import DataPolicy
from isthmus.model.slicing import Objective

Cast = Literal["", "float16", "int8"]
CAST_BYTES: dict[str, int] = {"float16": 2, "int8": 1}
MOST_MICROBATCHES = 10_000
"""A step is simulated, each of its micro-batches on each slice."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """``source``: the device at which the raw input lies and to which the results go; the first device
    when empty. ``batch``: samples of a request, or of a micro-batch of training. ``cast``: what 32-bit
    floating point tensors are turned into where they cross. ``tiers``: data moves only to later devices,
    in the order given. ``leaky``: tensors that only devices may read where raw data may lie, beside those
    that the policy and the figures of ``make_plan`` keep there.
    """

    objective: Objective = "latency"
    policy: DataPolicy = DataPolicy()
    usage: Literal["training", "inference"] = "inference"
    source: str = ""
    batch: int = 1
    cast: Cast = ""
    tiers: bool = False
    contiguous: bool = True
    replicate: bool = False
    microbatches: int = 8
    optimizer_bytes_per_weight_byte: float = 2.0
    """State of the optimizer beside weights and gradients; 2 for Adam (Kingma and Ba 2015)."""
    deadline_seconds: float | None = None
    max_usd_per_thousand: float | None = None
    leaky: frozenset[str] = frozenset()
    time_limit_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.microbatches < 1:
            raise InvalidCase(
                f"needs a batch and micro-batches of at least 1; asked were {self.batch} and {self.microbatches}"
            )
        if self.microbatches > MOST_MICROBATCHES:
            raise InvalidCase(
                f"needs at most {MOST_MICROBATCHES:,} micro-batches of a step; asked were {self.microbatches:,}: "
                f"make the batch larger"
            )
        if not 0 < self.time_limit_seconds < math.inf:
            raise InvalidCase(
                f"needs a time limit above 0 s, and a finite one; asked was {self.time_limit_seconds:g} s"
            )
        limits = {"deadline, in seconds": self.deadline_seconds, "price, in USD": self.max_usd_per_thousand}
        for name, limit in limits.items():
            if limit is not None and not 0 <= limit < math.inf:
                raise InvalidCase(f"needs a finite {name}, of 0 or more; asked was {limit:g}")
        sums = self.objective in ("latency", "cost", "energy")
        if not sums and (self.deadline_seconds is not None or self.max_usd_per_thousand is not None):
            raise InvalidCase(
                f"a deadline or a price goes with latency, cost or energy; the objective is {self.objective}"
            )
