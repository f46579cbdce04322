"""What devices tell of their inferences: results and batches of them; never the raw inputs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from isthmus.model.units import KIB, MIB

MAX_RESULT_BYTES = 16 * KIB
"""Of one result's outputs, as JSON: labels and scores, no pictures."""
MAX_BATCH_BYTES = 4 * MIB
"""Of a batch as JSON. A Lambda function is handed 6 MB at most (Lambda Developer Guide, "Lambda quotas")."""
RESULTS_PATH = "/results/"
"""Of the API; the device's name follows, and its role lets a device post to its own name alone."""

Sequence = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Priority = Annotated[int, msgspec.Meta(ge=0, le=9)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]


Way = Literal["local", "split", "cloud"]
"""Where a request was answered: on the device, by both, or by the cloud alone."""


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A classifier's decision on one sample. ``index``: of the largest score. ``confidence`` (0..1): its probability,
    where the bundle says how to make one of scores."""

    index: int
    label: str | None = None
    confidence: float | None = None


class Answered(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an edge core tells of an answered request, as a result's ``outputs``. ``latency_ms``: from the request's
    arrival to its answer. ``predictions``: one a sample, of a classifier. ``values``: the outputs of any other model,
    flat and in row-major order, without those that are no numbers; None stands for what is not finite."""

    way: Way
    latency_ms: float
    predictions: tuple[Prediction, ...] = ()
    values: dict[str, list[float | None]] = {}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one inference came to. ``at_ms``: milliseconds since 1970, by the device's clock. ``outputs``: JSON, at most
    ``MAX_RESULT_BYTES``. ``priority``: 0 is dropped first when the outbox is full, 9 last."""

    model: Name
    release: Annotated[int, msgspec.Meta(ge=0)]
    at_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    outputs: msgspec.Raw
    priority: Priority = 0


class Numbered(msgspec.Struct, frozen=True, kw_only=True):
    """A result under the number that its outbox gave it. Numbers rise, and none is given twice."""

    sequence: Sequence
    result: Result


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Results in the order of their numbers. A number that is missing between two was dropped: ``dropped`` says how
    many that were since the outbox was made.

    ``outbox``: the life of an outbox, whose numbers begin with 1: another one on the same device (its disk was
    replaced) is another life.
    """

    schema: Literal["isthmus/results/1"] = "isthmus/results/1"
    device: Name
    outbox: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]
    results: Annotated[list[Numbered], msgspec.Meta(min_length=1)]
    dropped: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def last(self) -> int:
        """The highest number in it."""
        return self.results[-1].sequence


class Confirmed(msgspec.Struct, frozen=True):
    """The cloud's answer to a batch: ``last`` is the highest number of its outbox that is there for good."""

    last: Annotated[int, msgspec.Meta(ge=0)]
