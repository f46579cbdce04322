"""From a network's profile, devices and a request to the numbers that a method sees.

Operator 0 of every case stands for the raw inputs: it costs nothing, and is pinned to the device at which they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase, NoPlan
from isthmus.model.device import DeviceDescriptor
from isthmus.model.network import NetworkProfile, Tensor
from isthmus.planning.slicing.case import Graph, Limit, LoadCase, Signal, SumCase
from isthmus.planning.slicing.links import Route, routes
from isthmus.planning.slicing.predict import operator_seconds
from isthmus.planning.slicing.request import CAST_BYTES, Request
from isthmus.planning.slicing.step_case import StepCase, prefix_cut_sizes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

THOUSAND = 1000.0
BACKWARD = 2.0
"""The backward pass of a layer is two products of the forward pass's size: by its input and by its weights
(Narayanan et al., SC 2021, appendix)."""


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

    @property
    def names(self) -> tuple[str, ...]:
        """Of the devices."""
        return tuple(device.id for device in self.devices)


def problem(profile: NetworkProfile, devices: Sequence[DeviceDescriptor], request: Request) -> Problem:
    """Return what every objective's case is made of.

    Raises:
        InvalidCase: no devices, one named twice, an unknown source, or costs that nobody knows.
        NoPlan: an operator that no device may and can run.
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
    refused = tuple(
        "" if request.usage in device.usage else f"it is not for {request.usage}" for device in devices
    )
    columns = [
        np.full(len(profile.operators), np.inf)
        if refused[d]
        else operator_seconds(profile, device, request.batch)
        for d, device in enumerate(devices)
    ]
    seconds = np.stack(columns, axis=1)
    _keep_raw_data(profile, devices, request, seconds)
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


def _keep_raw_data(
    profile: NetworkProfile, devices: Sequence[DeviceDescriptor], request: Request, seconds: Floats
) -> None:
    """What reads a tensor that may not leave runs where raw data may lie."""
    kept = request.leaky
    if request.policy.may_leave != "everything":
        kept = kept | frozenset(profile.inputs)
    barred = [d for d, device in enumerate(devices) if not request.policy.allows_zone(device.zone)]
    for v, operator in enumerate(profile.operators):
        if kept.intersection(operator.inputs):
            seconds[v, barred] = float("inf")


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


def parameter_bytes(profile: NetworkProfile) -> Floats:
    """Return float64 ``[n + 1]``: each parameter counted at the first operator that has it."""
    import numpy as np

    seen: set[str] = set()
    found = np.zeros(len(profile.operators) + 1)
    for v, operator in enumerate(profile.operators, start=1):
        for parameter in operator.parameters:
            if parameter.name not in seen:
                seen.add(parameter.name)
                found[v] += parameter.size_bytes
    return found


def working_bytes(profile: NetworkProfile, batch: int) -> int:
    """Return the most that one operator reads and writes: a device needs it beside its slices' parameters."""
    sizes = {tensor.name: tensor.bytes_at(batch) for tensor in profile.tensors}
    return max(
        (sum(sizes.get(name, 0) for name in {*entry.inputs, *entry.outputs}) for entry in profile.operators),
        default=0,
    )


def _with_input(given: Problem, rows: Floats) -> Floats:
    """Put a first row for the raw inputs: free at their device, impossible elsewhere."""
    import numpy as np

    first = np.full((1, len(given.devices)), np.inf)
    first[0, given.source] = 0.0
    return np.concatenate([first, rows])


def _room(given: Problem) -> Floats:
    import numpy as np

    working = working_bytes(given.profile, given.request.batch)
    return np.array([max(float(device.memory_bytes) - working, 0.0) for device in given.devices])


def _links(given: Problem, part: str) -> Floats:
    import numpy as np

    return np.array([[getattr(way, part) for way in row] for row in given.routes])


def _scaled(matrix: Floats, factor: float) -> Floats:
    """Multiply; what is impossible stays impossible where the factor is 0."""
    import numpy as np

    return np.where(np.isinf(matrix), np.inf, np.where(np.isinf(matrix), 0.0, matrix) * factor)


def latency_case(given: Problem) -> SumCase:
    """Return the case of one request's seconds, the way of the results back to the source included."""
    fixed, pace = _links(given, "latency_seconds"), _links(given, "seconds_per_byte")
    return _sum_case(given, given.seconds, fixed, pace, "s", price=1.0)


def cost_case(given: Problem) -> SumCase:
    """Return the case of US dollars for 1,000 requests: device time at its hourly price, and what leaves over links."""
    import numpy as np

    hourly = np.array([device.price_per_hour_usd for device in given.devices])
    rows = _scaled(given.seconds, THOUSAND / 3600) * np.where(np.isinf(given.seconds), 1.0, hourly)
    fixed = np.where(np.isinf(_links(given, "latency_seconds")), np.inf, 0.0)
    pace = _scaled(_links(given, "usd_per_byte"), THOUSAND)
    return _sum_case(given, rows, fixed, pace, "USD/1000 requests", price=THOUSAND)


def energy_case(given: Problem) -> SumCase:
    """Return the case of joules for 1,000 requests, of devices while they compute."""
    import numpy as np

    watts = np.array([device.power_watts for device in given.devices])
    rows = _scaled(given.seconds, THOUSAND) * np.where(np.isinf(given.seconds), 1.0, watts)
    fixed = np.where(np.isinf(_links(given, "latency_seconds")), np.inf, 0.0)
    return _sum_case(given, rows, fixed, fixed.copy(), "J/1000 requests", price=0.0)


def _sum_case(
    given: Problem, rows: Floats, fixed: Floats, pace: Floats, unit: str, *, price: float
) -> SumCase:
    import numpy as np

    made = {name: v for v, operator in enumerate(given.profile.operators) for name in operator.outputs}
    cost = rows.copy()
    for name in given.profile.outputs:
        if name in made:
            home = np.arange(len(given.devices)) == given.source
            back = fixed[:, given.source] + given.crossing_bytes[name] * pace[:, given.source]
            cost[made[name]] += np.where(home, 0.0, back)
    return SumCase(
        graph=given.graph,
        devices=given.names,
        cost=_with_input(given, cost),
        memory_bytes=parameter_bytes(given.profile),
        capacity_bytes=_room(given),
        link_fixed=fixed,
        link_per_size=pace,
        unit=unit,
        monotone=given.request.tiers,
    )


def sum_case(given: Problem) -> SumCase:
    """Return the case of the request's objective, with its deadline and price as limits beside it."""
    import dataclasses

    makers = {"latency": latency_case, "cost": cost_case, "energy": energy_case}
    case = makers[given.request.objective](given)
    limits = []
    for name, most, make in (
        ("the deadline", given.request.deadline_seconds, latency_case),
        ("the price", given.request.max_usd_per_thousand, cost_case),
    ):
        if most is not None:
            other = make(given)
            limits.append(Limit(name, other.unit, most, other.cost, other.link_fixed, other.link_per_size))
    return dataclasses.replace(case, limits=tuple(limits))


def load_case(given: Problem) -> LoadCase:
    """Return the case of the busiest device's seconds a sample.

    Raises:
        NoPlan: two devices cannot reach each other; a pipeline may need any pair.
    """
    import numpy as np

    pace = _links(given, "seconds_per_byte")
    if np.isinf(pace).any():
        a, b = (int(index) for index in np.argwhere(np.isinf(pace))[0])
        raise NoPlan(
            f"{given.names[a]} cannot send to {given.names[b]}: neither side can open a link, and not both reach the "
            f"relay; add a link, or leave one of them out"
        )
    batch = given.request.batch
    return LoadCase(
        graph=given.graph,
        devices=given.names,
        seconds=_with_input(given, given.seconds / batch),
        memory_bytes=parameter_bytes(given.profile),
        capacity_bytes=_room(given),
        send_seconds=pace / batch,
        receive_seconds=pace / batch,
        contiguous=given.request.contiguous,
        replicated=given.request.replicate,
    )


def step_case(given: Problem) -> StepCase:
    """Return the case of a training step; ``batch`` is a micro-batch's. Backward seconds are twice the forward ones
    where they were not measured."""
    import numpy as np

    rows = _with_input(given, given.seconds)
    sizes = {tensor.name: tensor.bytes_at(given.request.batch) for tensor in given.profile.tensors}
    kept = [sum(sizes.get(name, 0) for name in operator.outputs) for operator in given.profile.operators]
    return StepCase(
        graph=given.graph,
        devices=given.names,
        forward_seconds=rows,
        backward_seconds=rows * BACKWARD,
        parameter_bytes=parameter_bytes(given.profile),
        activation_bytes=np.array([0.0, *kept]),
        crossing_bytes=prefix_cut_sizes(given.graph),
        seconds_per_byte=_links(given, "seconds_per_byte"),
        latency_seconds=_links(given, "latency_seconds"),
        capacity_bytes=_room(given),
        microbatches=given.request.microbatches,
        optimizer_bytes_per_weight_byte=given.request.optimizer_bytes_per_weight_byte,
        replicated=given.request.replicate,
    )
