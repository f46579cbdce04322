"""A crossing: bytes that leave a zone, by what they are and by which rule of a data policy they may."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import msgspec

from isthmus.model.policy import DataPolicy

What = Literal["control", "results", "script output", "checkpoints", "unknown"]
"""``control``: names, numbers, states and times that a job cannot do without. ``results``: a model, its scores, metrics
that a script printed. ``script output``: its log, its failure file, ``SM_OUTPUT_DATA_DIR``. ``unknown``: all else."""

_JOB_KEY = re.compile(rb"\b[0-9a-f]{40}\b")
_OUTPUT = re.compile(r"jobs/[0-9a-f]{40}/attempts/[0-9]+/output/(.+)$")
_RESULTS = ("model.onnx", "export.json", "metrics.json", "curves.json", "judgement.json", "output.json")
_MEASUREMENT = re.compile(r"probes/[^/]+$")
_CHECKPOINT = re.compile(r"checkpoints/[0-9a-f]{40}/")
_METRICS = re.compile(rb'"metrics": ?\{"M": ?\{"|: ?"metrics"[,}]')
"""A map of metrics that is not empty, in DynamoDB's JSON (API reference, "AttributeValue"), or an attribute of that
name in an update (``ExpressionAttributeNames``)."""
CONTROL_SERVICES = ("dynamodb", "sqs", "sfn", "lambda", "cloudwatch", "cloudformation", "sts")
"""By botocore's service ids in lower case. What these are sent is made by the agent; the script's part of it is its
metrics, and the last lines of one that failed."""


class Sent(NamedTuple):
    """A request as it goes out. ``service``: botocore's id in lower case. ``name``: of an object, its bucket or
    ``/`` may stand before it. ``size_bytes``: of the body, without HTTP's own framing; -1 if that is not known before
    it is sent. ``body``: of a request that is no object's."""

    service: str
    operation: str
    name: str
    size_bytes: int
    body: bytes = b""

    @property
    def job_key(self) -> str:
        """The job that it names, or an empty text."""
        found = _JOB_KEY.search(self.name.encode()) or _JOB_KEY.search(self.body)
        return found.group().decode() if found else ""


def what_is(sent: Sent) -> What:
    """Return what a request of a rig's agent carries; whatever is not known counts as raw data do."""
    if not sent.size_bytes:
        return "control"
    if sent.service == "s3":
        return _what_object(sent.name)
    if sent.service not in CONTROL_SERVICES:
        return "unknown"
    return "results" if sent.service == "dynamodb" and _METRICS.search(sent.body) else "control"


def _what_object(name: str) -> What:
    if output := _OUTPUT.search(name):
        return "results" if output.group(1) in _RESULTS else "script output"
    if _CHECKPOINT.search(name):
        return "checkpoints"
    return "control" if _MEASUREMENT.search(name) else "unknown"


def rule_for(what: What, policy: DataPolicy, zone: str) -> str | None:
    """Return the rule by which it may go to ``zone``, for a person to read; None: none lets it."""
    if what == "control":
        return "every job needs it"
    if policy.allows_zone(zone):
        return f"raw data may lie in {zone}"
    if what == "results" and policy.lets_models_lie_in(zone):
        return f"{policy.may_leave} may leave"
    return "everything may leave" if policy.may_leave == "everything" else None


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of one kind crossed in one minute. ``refused``: requests that were held back, and sent nothing."""

    what: What
    rule: str
    requests: int
    size_bytes: int
    refused: int = 0


class Crossings(msgspec.Struct, frozen=True, kw_only=True):
    """What left a rig for one job in one minute (an hour, while it has none: ``job_key`` is empty then).

    ``since``: the minute's beginning (UTC). ``life``: of the agent's process, and a number of its own.
    """

    rig: str
    life: str
    job_key: str
    since: str
    from_zone: str
    to_zone: str
    rows: tuple[Row, ...]
