"""From a problem to the numbers that a method sees: the case of each objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.errors import NoPlan
from isthmus.model.network import NetworkProfile
from isthmus.planning.slicing.case import Limit, LoadCase, SumCase
from isthmus.planning.slicing.problem import working_bytes
from isthmus.planning.slicing.step_case import StepCase, prefix_cut_sizes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.choose import AnyCase
    from isthmus.planning.slicing.problem import Problem

    Floats = NDArray[np.float64]

THOUSAND = 1000.0
BACKWARD = 2.0
"""The backward pass of a layer is two products of the forward pass's size: by its input and by its weights
(Narayanan et al., SC 2021, appendix)."""


def case_of(given: Problem) -> AnyCase:
    """Return the case of the request's objective.

    Raises:
        NoPlan: as ``load_case``.
    """
    if given.request.objective == "throughput":
        return load_case(given)
    return step_case(given) if given.request.objective == "step" else sum_case(given)


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
