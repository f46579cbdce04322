"""A network, devices and a request, checked and put together: what every objective's case is made of.

Operator 0 of every case stands for the raw inputs: it costs nothing, and is pinned to the device at which they lie.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase, NoPlan
from isthmus.model.device import DeviceDescriptor
from isthmus.model.network import NetworkProfile, Tensor
from isthmus.model.units import format_bytes
from isthmus.planning.slicing.case import Graph, Signal
from isthmus.planning.slicing.leakage import WITH_SUBGRAPHS
from isthmus.planning.slicing.links import Route, routes
from isthmus.planning.slicing.predict import operator_seconds
from isthmus.planning.slicing.request import CAST_BYTES, Request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NAMED = 3
"""So many refused devices are told."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Shapes: n operators of the profile, m devices. ``seconds``: float64 ``[n, m]`` for the request's batch, inf where
    an operator may not or cannot run; ``refused[d]``: why device d runs nothing, or empty.
    ``crossing_bytes``: of each tensor by name, as sent for the request's batch.
    """

    profile: NetworkProfile
    devices: tuple[DeviceDescriptor, ...]
    request: Request
    source: int
    graph: Graph
    seconds: Floats
    routes: list[list[Route]]
    crossing_bytes: dict[str, float]
    refused: tuple[str, ...]
    inside: frozenset[int] = frozenset()
    """Operators of the profile that have to run in the policy's zones, beside those that always have to."""
    outside: frozenset[int] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the devices."""
        return tuple(device.id for device in self.devices)


def problem(profile: NetworkProfile, devices: Sequence[DeviceDescriptor], request: Request) -> Problem:
    """Return what every objective's case is made of.

    Raises:
        InvalidCase: no devices, one named twice, an unknown source, or costs that nobody knows.
        NoPlan: the raw input lies where the policy does not let it lie, or every device is refused as such.
    """
    import numpy as np

    names = [device.id for device in devices]
    if not names:
        raise InvalidCase("needs at least one device; there are none: join one, or name one to plan for")
    if len(set(names)) < len(names):
        raise InvalidCase(f"needs devices of different names; there are {', '.join(sorted(names))}")
    if request.source and request.source not in names:
        raise InvalidCase(f"the raw input lies at {request.source}, which is none of {', '.join(names)}")
    source = names.index(request.source) if request.source else 0
    _check_source(devices[source], request)
    refused = tuple(_refusal(profile, device, request) for device in devices)
    if all(refused):
        raise NoPlan(_none_takes_part(profile, devices, request, refused))
    columns = [
        np.full(len(profile.operators), np.inf)
        if refused[d]
        else operator_seconds(profile, device, request.batch)
        for d, device in enumerate(devices)
    ]
    _keep_raw_data(profile, devices, request, seconds := np.stack(columns, axis=1))
    sent = {tensor.name: _sent_bytes(tensor, request) for tensor in profile.tensors}
    return Problem(
        profile,
        tuple(devices),
        request,
        source,
        _graph(profile, sent),
        seconds,
        routes(devices),
        sent,
        refused,
    )


def _refusal(profile: NetworkProfile, device: DeviceDescriptor, request: Request) -> str:
    """Return why a device can run nothing of the network, or an empty text."""
    if request.usage not in device.usage:
        return f"it is not for {request.usage}"
    working = working_bytes(profile, request.batch)
    if device.memory_bytes < working:
        return f"one operator reads and writes {format_bytes(working)}, and it has {format_bytes(device.memory_bytes)}"
    return ""


def _none_takes_part(
    profile: NetworkProfile,
    devices: Sequence[DeviceDescriptor],
    request: Request,
    refused: Sequence[str],
) -> str:
    """Return why no device does, and what would make one."""
    said = [f"{device.id}: {reason}" for device, reason in zip(devices, refused, strict=True)]
    rest = f"; and {len(said) - NAMED} more" if len(said) > NAMED else ""
    cure = f"a device for {request.usage}"
    if any(request.usage in device.usage for device in devices):
        smaller = f"a smaller batch than {request.batch:,}, or " if request.batch > 1 else ""
        cure = f"{smaller}a device with more than {format_bytes(working_bytes(profile, request.batch))}"
    return f"no device can take part: {'; '.join(said[:NAMED])}{rest}; {cure} would make a plan possible"


def left_out(given: Problem) -> str:
    """Return which devices run nothing and why, to follow a sentence; empty where there are none."""
    said = [f"{name}: {reason}" for name, reason in zip(given.names, given.refused, strict=True) if reason]
    rest = f"; and {len(said) - NAMED} more" if len(said) > NAMED else ""
    return f"; left out are {'; '.join(said[:NAMED])}{rest}" if said else ""


def working_bytes(profile: NetworkProfile, batch: int) -> int:
    """Return the most that one operator reads and writes: a device needs it beside its slices' parameters."""
    sizes = {tensor.name: tensor.bytes_at(batch) for tensor in profile.tensors}
    return max(
        (sum(sizes.get(name, 0) for name in {*entry.inputs, *entry.outputs}) for entry in profile.operators),
        default=0,
    )


def placed(given: Problem, inside: Iterable[int], outside: Iterable[int]) -> Problem:
    """Return the problem with operators of the profile that have to run inside the policy's zones, or outside."""
    found = dataclasses.replace(
        given,
        seconds=given.seconds.copy(),
        inside=given.inside | frozenset(inside),
        outside=given.outside | frozenset(outside),
    )
    for d, device in enumerate(given.devices):
        allowed = given.request.policy.allows_zone(device.zone)
        found.seconds[sorted(found.outside if allowed else found.inside), d] = float("inf")
    _keep_raw_data(found.profile, found.devices, found.request, found.seconds)
    return found


def _check_source(source: DeviceDescriptor, request: Request) -> None:
    policy = request.policy
    if policy.may_leave != "everything" and not policy.allows_zone(source.zone):
        raise NoPlan(
            f"the raw input lies at {source.id} in {source.zone}, and the policy lets raw data lie in "
            f"{', '.join(policy.zones) or 'no zone'} alone: name a source there"
        )


def _keep_raw_data(
    profile: NetworkProfile, devices: Sequence[DeviceDescriptor], request: Request, seconds: Floats
) -> None:
    """What reads a tensor that may not leave runs where raw data may lie, if what makes the tensor does.

    Where it may run on either side, nothing is barred: the tensor leaves only by some assignments.
    What has bodies stays inside too: a profile need not say what they read.
    """
    kept, held = request.leaky, frozenset(profile.inputs)
    if request.policy.may_leave != "everything":
        kept = kept | held
    barred = [d for d, device in enumerate(devices) if not request.policy.allows_zone(device.zone)]
    made_inside = set(held)
    for v, operator in enumerate(profile.operators):
        unknown = bool(kept) and operator.kind in WITH_SUBGRAPHS
        if unknown or kept.intersection(operator.inputs) & made_inside:
            seconds[v, barred] = float("inf")
        if not (seconds[v, barred] < float("inf")).any():
            made_inside.update(operator.outputs)


def _sent_bytes(tensor: Tensor, request: Request) -> float:
    size = float(tensor.bytes_at(request.batch))
    if request.cast and tensor.dtype == "float32":
        return size * CAST_BYTES[request.cast] / 4
    return size


def _graph(profile: NetworkProfile, sent: dict[str, float]) -> Graph:
    readers: dict[str, list[int]] = {}
    maker: dict[str, int] = dict.fromkeys(profile.inputs, 0)
    for v, operator in enumerate(profile.operators, start=1):
        maker |= dict.fromkeys(operator.outputs, v)
        for name in dict.fromkeys(operator.inputs):
            readers.setdefault(name, []).append(v)
    signals = []
    for name, found in readers.items():
        if name not in maker or name not in sent:
            raise InvalidCase(f"{name} is read by operator {found[0] - 1}, and nothing makes it")
        signals.append(Signal(maker[name], tuple(found), sent[name]))
    return Graph(
        ("raw inputs", *(operator.name for operator in profile.operators)),
        tuple(signals),
        groups=_groups(profile),
    )


def _groups(profile: NetworkProfile) -> tuple[int, ...]:
    """Operators that share a parameter are on one device."""
    owner: dict[str, int] = {}
    groups = list(range(len(profile.operators) + 1))
    for v, operator in enumerate(profile.operators, start=1):
        for parameter in operator.parameters:
            first = owner.setdefault(parameter.name, groups[v])
            if first != groups[v]:
                old = groups[v]
                groups = [first if group == old else group for group in groups]
                owner = {name: first if group == old else group for name, group in owner.items()}
    return tuple(groups)
