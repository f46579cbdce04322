"""Shadow traffic: a candidate answers copies of real requests, and how it differs is put on record.

The one who asked never waits for it and never sees it. Of a request and its answers nothing is kept
but figures: the largest difference, whether the decision was another, and how long it took.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.errors import InvalidInput, Unavailable
from isthmus.inference.answers import read_answer
from isthmus.model import layout
from isthmus.ports import Functions, Invocation, Item, Records

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT_SECONDS = 30 * 24 * 3600
LARGEST = 1e100
"""What is beyond is recorded as this: DynamoDB's numbers end at 1e126, CloudWatch's at 2^360."""


class Comparison(msgspec.Struct, frozen=True):
    """``difference``: ``max |a-b| / max(1, max|b|)`` over all outputs, None when they cannot be compared
    (``problem`` says why). ``agreement``: the share of rows of the first output whose largest element is
    the same one, None when it has no rows to decide between."""

    milliseconds: float
    live_milliseconds: float
    difference: float | None = None
    agreement: float | None = None
    problem: str = ""


def shadow_inference(
    event: Mapping[str, Any], *, stack: str, functions: Functions, records: Records, now: str, clock: float
) -> Comparison:
    """Ask the candidate what was asked of the model in service, compare, and record what came of it."""
    model, release = str(event["model"]), int(event["release"])
    started = time.perf_counter()
    try:
        answer = functions.invoke(layout.function_name(stack, model), event["qualifier"], event["request"])
    except (InvalidInput, Unavailable) as error:
        answer = Invocation(b"", "", type(error).__name__)
    milliseconds = (time.perf_counter() - started) * 1000
    figures = (
        (None, None, answer.error)
        if answer.error
        else _compare(event["answer"], msgspec.json.decode(answer.payload))
    )
    found = Comparison(milliseconds, float(event["milliseconds"]), *figures)
    request = str((event["request"].get("requestContext") or {}).get("requestId") or now)
    expires = {"expires_at": int(clock) + KEPT_SECONDS, "at": now, "release": release}
    item = {"pk": layout.shadow_pk(model), "sk": f"{release:08d}#{request}"}
    records.put({**item, **expires, **msgspec.to_builtins(found)})
    return found


class Summary(msgspec.Struct, frozen=True):
    """Of a candidate's comparisons; times are medians of whole invocations, in milliseconds."""

    release: int
    comparisons: int
    failed: int
    largest_difference: float | None
    agreement: float | None
    milliseconds: float
    live_milliseconds: float


def summarise(items: Sequence[Item]) -> list[Summary]:
    """Return a summary for each release that was compared, oldest first."""
    releases = sorted({int(item["release"]) for item in items})
    return [_summary(release, [i for i in items if int(i["release"]) == release]) for release in releases]


def _summary(release: int, items: Sequence[Item]) -> Summary:
    differences = [float(item["difference"]) for item in items if item.get("difference") is not None]
    agreements = [float(item["agreement"]) for item in items if item.get("agreement") is not None]
    return Summary(
        release,
        len(items),
        sum(bool(item.get("problem")) for item in items),
        max(differences, default=None),
        sum(agreements) / len(agreements) if agreements else None,
        _median([float(item["milliseconds"]) for item in items]),
        _median([float(item["live_milliseconds"]) for item in items]),
    )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _compare(live: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float | None, float | None, str]:
    if theirs.get("statusCode") != 200:
        return None, None, f"status {theirs.get('statusCode')}"
    try:
        wanted, found = read_answer(live), read_answer(theirs)
    except InvalidInput:
        return None, None, "an answer that cannot be read"  # why may quote it
    if [(name, array.shape) for name, array in wanted.items()] != [
        (name, array.shape) for name, array in found.items()
    ]:
        return None, None, "other outputs, or of other shapes"
    if not wanted:
        return None, None, "no outputs"
    if any(array.dtype.kind not in "biuf" for array in (*wanted.values(), *found.values())):
        return None, None, "outputs that are no numbers"
    differences = [_difference(found[name], array) for name, array in wanted.items()]
    name = next(iter(wanted))
    agreement = _agreement(found[name], wanted[name])
    finite = [difference for difference in differences if difference is not None]
    if len(finite) < len(differences):
        return None, agreement, "numbers that are not finite"
    return max(finite, default=None), agreement, ""


def _difference(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """Return None when a gap is not finite: a NaN or an infinity on either side."""
    import numpy as np

    if not b.size:
        return 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(a - b)
    if not np.isfinite(gap).all():
        return None
    return min(float(gap.max()) / max(1.0, float(np.abs(b).max())), LARGEST)


def _agreement(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    if b.ndim < 2 or b.shape[-1] < 2 or not b.size or b.dtype.kind != "f":
        return None
    return float((a.argmax(-1) == b.argmax(-1)).mean())
