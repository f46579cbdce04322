"""All cuts of a network between two devices: how long a request takes, what is sent, and what that gives away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from isthmus.errors import InvalidCase
from isthmus.model.device import DeviceDescriptor
from isthmus.model.leakage import LeakageReport
from isthmus.model.network import NetworkProfile
from isthmus.model.policy import DataPolicy
from isthmus.planning.slicing import build, choose, leakage
from isthmus.planning.slicing.comparison import split
from isthmus.planning.slicing.problem import Problem, problem
from isthmus.planning.slicing.request import Request

WHOLE_INPUT_R2 = 1.0
"""Of raw inputs that are sent: they are there, and need not be rebuilt."""


class CutFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Operators before ``at`` on the first device, the rest on the second; what crosses, for one request.

    ``leakage_r2``: 0 where nothing of the input crosses, 1 where it crosses itself; None: not measured.
    ``best``: no other cut is as good in all of what is known (seconds, bytes, R²) and better in one. Of cuts that
    were not measured only others like them, and cuts that give nothing away, say so.
    """

    at: int
    after: str
    """Name of the last operator before it."""
    tensors: tuple[str, ...]
    size_bytes: int
    latency_seconds: float | None
    """None: a device cannot hold its part."""
    leakage_r2: float | None
    best: bool = False


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """Of one network between ``first``, where the raw input lies, and ``second``."""

    schema: Literal["isthmus/frontier/1"] = "isthmus/frontier/1"
    network: str
    network_digest: str
    batch: int
    cast: Literal["", "float16", "int8"]
    first: str
    second: str
    cuts: tuple[CutFigures, ...]


def frontier(
    profile: NetworkProfile,
    devices: Sequence[DeviceDescriptor],
    report: LeakageReport | None = None,
    *,
    batch: int = 1,
    cast: Literal["", "float16", "int8"] = "",
) -> Frontier:
    """Return the figures of each cut, from all on the second device to all on the first.

    No policy is asked: this is what one would decide by.

    Raises:
        InvalidCase: there are not two devices, they cannot be planned with, or the figures are another network's.
        NoPlan: neither device can take part.
    """
    if len(devices) != 2:
        raise InvalidCase(f"needs two devices, the first where the raw input lies; there are {len(devices)}")
    if report is not None:
        leakage.check(profile, report)
    request = Request(policy=DataPolicy(may_leave="everything"), batch=batch, cast=cast)
    given = problem(profile, devices, request)
    case = build.case_of(given)
    found = []
    for at, tensors in enumerate(crossings(profile)):
        found.append(
            CutFigures(
                at=at,
                after=profile.operators[at - 1].name if at else "",
                tensors=tensors,
                size_bytes=round(sum(given.crossing_bytes[name] for name in tensors)),
                latency_seconds=choose.value_of(case, split(given, at, 0, 1)),
                leakage_r2=_r2(given, tensors, report),
            )
        )
    return Frontier(
        network=profile.name,
        network_digest=profile.digest,
        batch=batch,
        cast=cast,
        first=given.names[0],
        second=given.names[1],
        cuts=_marked(found),
    )


def crossings(profile: NetworkProfile) -> Iterator[tuple[str, ...]]:
    """Yield for each place from before the first operator to after the last the tensors that operators before it
    make, or the caller gives, and later ones read."""
    last = {name: k for k, operator in enumerate(profile.operators) for name in operator.inputs}
    alive = [name for name in profile.inputs if name in last]
    yield tuple(alive)
    for k, operator in enumerate(profile.operators):
        alive = [name for name in alive if last[name] > k]
        alive += [name for name in operator.outputs if last.get(name, -1) > k]
        yield tuple(alive)


def _r2(given: Problem, tensors: Sequence[str], report: LeakageReport | None) -> float | None:
    profile = given.profile
    if set(tensors) & set(profile.inputs):
        return WHOLE_INPUT_R2
    telling = leakage.derived(profile)
    names = tuple(name for name in tensors if name in telling)
    if not names:
        return 0.0
    found = leakage.figure(profile, names, report, cast=given.request.cast)
    return None if found is None else max(found.r2, 0.0)


def _marked(cuts: Sequence[CutFigures]) -> tuple[CutFigures, ...]:
    """Mark the cuts that no other dominates."""
    able = [cut for cut in cuts if cut.latency_seconds is not None]
    return tuple(
        msgspec.structs.replace(cut, best=cut in able and not any(_dominates(other, cut) for other in able))
        for cut in cuts
    )


def _dominates(one: CutFigures, other: CutFigures) -> bool:
    if one.leakage_r2 is None and other.leakage_r2 is not None:
        return False
    if other.leakage_r2 is None and one.leakage_r2 is not None and one.leakage_r2 > 0:
        return False
    a, b = _figures(one), _figures(other)
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def _figures(cut: CutFigures) -> tuple[float, float, float]:
    unknown = float("inf")
    seconds = unknown if cut.latency_seconds is None else cut.latency_seconds
    return seconds, float(cut.size_bytes), unknown if cut.leakage_r2 is None else cut.leakage_r2
