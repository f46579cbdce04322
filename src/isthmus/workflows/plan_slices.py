"""Plan which layers of a network run where, also after a device is lost or a link slows; read plans back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import EnvironmentProblem, InvalidCase, InvalidDocument
from isthmus.model.device import DeviceDescriptor, Link
from isthmus.model.leakage import LeakageReport
from isthmus.model.network import NetworkProfile
from isthmus.model.slicing import UNITS, SlicePlan
from isthmus.planning.slicing.request import Request

LIBRARIES = frozenset(
    {"highspy", "matplotlib", "networkx", "numba", "numpy", "onnx", "ortools", "scipy", "threadpoolctl"}
)
"""What the extra ``isthmus[planner]`` installs."""


class SlowLink(msgspec.Struct, frozen=True):
    """``factor``: by how much slower than its links say data goes between two devices, or between a device
    and ``relay``, in both directions."""

    one: str
    other: str
    factor: float


def plan_slices(
    profile: NetworkProfile,
    devices: Sequence[DeviceDescriptor],
    request: Request,
    *,
    without: Sequence[str] = (),
    slow_links: Sequence[SlowLink] = (),
    leakage: LeakageReport | None = None,
    current: SlicePlan | None = None,
    threshold: float = 0.05,
) -> SlicePlan:
    """Plan on the devices that are left, with their links as slow as they are told to be.

    ``leakage``: what was measured of the network; where the policy limits what activations give away, only
    what was measured may leave.
    ``current``: the plan in force; it is kept where a better one gains less than ``threshold``, a fraction.

    Raises:
        InvalidCase: a device or link is named that is not there, the case cannot be planned with, or the
            leakage is another network's.
        NoPlan: no plan meets every constraint.
        EnvironmentProblem: a library of ``isthmus[planner]`` is missing.
    """
    if not 0 <= threshold < float("inf"):
        raise InvalidCase(f"needs a threshold of at least 0; asked was {threshold:g}")
    _distinct(devices)
    for entry in slow_links:
        devices = slowed(devices, entry)
    left = remaining(devices, without)
    try:
        from isthmus.planning.slicing.planner import make_plan

        return make_plan(profile, left, request, leakage=leakage, current=current, threshold=threshold)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in LIBRARIES:
            raise
        raise EnvironmentProblem(f"planning needs {library}; install `isthmus[planner]`") from error


def _distinct(devices: Sequence[DeviceDescriptor]) -> None:
    names = [device.id for device in devices]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidCase(f"each device may be named once; {', '.join(twice)} stands there more than once")


def remaining(devices: Sequence[DeviceDescriptor], without: Sequence[str]) -> list[DeviceDescriptor]:
    """Return the devices but those named.

    Raises:
        InvalidCase: one is named that is not there.
    """
    for name in without:
        _find(devices, name)
    return [device for device in devices if device.id not in without]


def slowed(devices: Sequence[DeviceDescriptor], slow: SlowLink) -> list[DeviceDescriptor]:
    """Return the devices with the bandwidth between two of them divided; latencies stay.

    Raises:
        InvalidCase: a device is not there, the two have no link, or the factor is not above 0.
    """
    if not 0 < slow.factor < float("inf"):
        raise InvalidCase(f"needs a factor above 0 by which a link is slower; asked was {slow.factor:g}")
    if slow.one == slow.other:
        raise InvalidCase(f"a link has two ends; {slow.one} was named twice")
    ends = [_find(devices, name) for name in (slow.one, slow.other) if name != "relay"]
    found = {}
    for device in ends:
        other = slow.other if device.id == slow.one else slow.one
        zone = next((end.zone for end in ends if end.id == other), other)
        changed = _slower(device, other, zone, slow.factor)
        if changed is not None:
            found[device.id] = changed
    if not found:
        raise InvalidCase(f"{slow.one} and {slow.other} have no link that could be slower: neither lists one")
    return [found.get(device.id, device) for device in devices]


def _slower(device: DeviceDescriptor, other: str, zone: str, factor: float) -> DeviceDescriptor | None:
    """A link to a zone stays as it is for the zone's other devices: the slow one gets a link of its own."""
    by_name = {link.to: link for link in device.links}
    link = by_name.get(other) or by_name.get(zone)
    if link is None:
        return None
    slow = Link(
        to=other,
        bytes_per_second=link.bytes_per_second / factor,
        latency_seconds=link.latency_seconds,
        opens=link.opens,
        usd_per_gib=link.usd_per_gib,
    )
    return msgspec.structs.replace(
        device, links=(*(entry for entry in device.links if entry.to != other), slow)
    )


def _find(devices: Sequence[DeviceDescriptor], name: str) -> DeviceDescriptor:
    for device in devices:
        if device.id == name:
            return device
    there = ", ".join(device.id for device in devices) or "none"
    raise InvalidCase(f"there is no device {name}; there are: {there}")


def load_plan(raw: bytes, what: str) -> SlicePlan:
    """Read a plan's document; ``what`` names it in messages.

    Raises:
        InvalidDocument: it does not fit its schema, or contradicts itself.
    """
    plan = documents.decode(SlicePlan, raw, what)
    if problem := _contradiction(plan):
        raise InvalidDocument(f"{what} cannot be used: {problem}")
    return plan


def _contradiction(plan: SlicePlan) -> str:
    if plan.unit != UNITS[plan.objective]:
        return f"{plan.objective} is counted in {UNITS[plan.objective]}, not in {plan.unit}"
    if not plan.slices:
        return "it has no slices"
    for k, entry in enumerate(plan.slices):
        if not entry.replicas:
            return f"slice {k} is on no device"
        times = (entry.compute_seconds, *entry.range_seconds, *(r.busy_seconds for r in entry.replicas))
        if min(times) < 0:
            return f"slice {k} takes less than no time"
    for sent in plan.transfers:
        if not (0 <= sent.source < len(plan.slices) and 0 <= sent.target < len(plan.slices)):
            return f"a transfer goes from slice {sent.source} to {sent.target}; there are {len(plan.slices)}"
        if sent.seconds < 0:
            return f"the transfer from slice {sent.source} to {sent.target} takes less than no time"
    spans = sorted(span for entry in plan.slices for span in entry.ranges if span != (0, 0))
    ends = [0, *(end for _, end in spans)]
    if not spans or any(start >= end for start, end in spans) or [start for start, _ in spans] != ends[:-1]:
        return "its slices do not hold every operator once"
    return ""


def plan_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a plan's document."""
    return msgspec.json.schema(SlicePlan)
