"""How long operators and slices take on a device, from what was measured or from its rates. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from isthmus.errors import InvalidCase
from isthmus.model.device import DeviceDescriptor, Rate
from isthmus.model.network import NetworkProfile, Operator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ANY = "*"
"""The class whose rate serves an operator without a rate of its own."""
RUN = "run"
"""The class of what each run of a slice costs beside its operators: ``overhead_seconds`` of one call."""
REORDERS = ("reorder/in", "reorder/out")
"""The classes of what a slice pays to bring images that it reads into its own layout, and back what it gives."""
IMAGES = ("conv", "pool")
"""Operators, by the first part of their class, that work in a layout of their own; but for shallow convolutions, which
read images as they are."""


def operator_seconds(profile: NetworkProfile, device: DeviceDescriptor, batch: int) -> Floats:
    """Return the seconds that each operator takes on ``device`` for ``batch`` samples: float64 ``[n]``.

    What was measured on the device is taken, scaled from the profile's batch; else its rates are used.
    Infinity where the device cannot run the operator: it lacks a feature, or lists its kind as unsupported.

    Raises:
        InvalidCase: neither a measurement nor a rate is known for an operator that the device can run.
    """
    import numpy as np

    if batch < 1:
        raise InvalidCase(f"needs a batch of at least 1; it is {batch}")
    found = np.full(len(profile.operators), np.inf)
    asked: dict[str, list[int]] = {}
    for v, operator in enumerate(profile.operators):
        if not runs(operator, device):
            continue
        if device.id in operator.seconds:
            found[v] = operator.seconds[device.id] * batch / profile.batch
        else:
            asked.setdefault(_class_of(operator, device), []).append(v)
    for name, members in asked.items():
        operators = [profile.operators[v] for v in members]
        found[members] = _from_rate(device.rates[name], operators, batch)
    return found


def slice_seconds(
    profile: NetworkProfile, device: DeviceDescriptor, start: int, end: int, batch: int
) -> float:
    """Return the seconds that the operators ``[start, end)`` take when they are run as one model on ``device``:
    their own, one call, and the changes of layout of the images that cross its borders.

    Raises:
        InvalidCase: an empty range, or as :func:`operator_seconds`.
    """
    if not 0 <= start < end <= len(profile.operators):
        raise InvalidCase(
            f"needs a range of operators within [0, {len(profile.operators)}); it is [{start}, {end})"
        )
    part = msgspec.structs.replace(profile, operators=profile.operators[start:end])
    total = float(operator_seconds(part, device, batch).sum())
    if RUN in device.rates:
        total += device.rates[RUN].overhead_seconds
    for name, elements in zip(REORDERS, _images(profile, start, end), strict=True):
        rate = device.rates.get(name)
        if rate is not None and elements:
            moved = [
                Operator(name="", kind="", rate_class=name, sizes={"elements": size}) for size in elements
            ]
            total += batch * float(_from_rate(rate, moved, 1).sum())
    return total


def _images(profile: NetworkProfile, start: int, end: int) -> tuple[list[float], list[float]]:
    """Return the elements, for one sample, of the images that a slice takes in and of those that it gives out."""
    inside, outside = profile.operators[start:end], (*profile.operators[:start], *profile.operators[end:])
    made = {name for operator in inside for name in operator.outputs}
    asked = {name for operator in outside for name in operator.inputs} | set(profile.outputs)
    sizes = {tensor.name: float(math.prod(tensor.shape)) for tensor in profile.tensors}
    taken = {
        name
        for operator in inside
        if operator.rate_class.startswith(IMAGES) and not operator.rate_class.startswith("conv/shallow")
        for name in operator.inputs
        if name not in made
    }
    given = {
        name for operator in inside if operator.rate_class.startswith(IMAGES) for name in operator.outputs
    }
    return [sizes[name] for name in sorted(taken)], [sizes[name] for name in sorted(given & asked)]


def runs(operator: Operator, device: DeviceDescriptor) -> bool:
    """Whether a device can run an operator at all."""
    return operator.kind not in device.unsupported and set(operator.features) <= set(device.features)


def _class_of(operator: Operator, device: DeviceDescriptor) -> str:
    """Return the rate class of the device that serves an operator: the nearest, from fine to coarse.

    ``conv/3x3/2`` is served by ``conv/3x3/2``, else ``conv/3x3``, else ``conv``, else ``*``.
    """
    parts = operator.rate_class.split("/")
    for length in range(len(parts), 0, -1):
        name = "/".join(parts[:length])
        rate = device.rates.get(name)
        if rate is not None and set(rate.axes) <= set(operator.sizes):
            return name
    if ANY in device.rates:
        return ANY
    raise InvalidCase(
        f"needs seconds of {operator.name} ({operator.rate_class}) on {device.id}; it has neither a measurement "
        f"nor a rate for it: calibrate it with `isthmus profile --calibrate`"
    )


def _from_rate(rate: Rate, operators: Sequence[Operator], batch: int) -> Floats:
    import numpy as np

    if rate.samples:
        return _interpolate(rate, operators, batch)
    flops = np.array([operator.flops for operator in operators]) * batch
    moved = np.array([operator.moved_bytes * batch + operator.parameter_bytes for operator in operators])
    seconds = np.full(len(operators), rate.overhead_seconds, dtype=float)
    if rate.flops_per_second > 0:
        seconds += flops / rate.flops_per_second
    if rate.bytes_per_second > 0:
        seconds += moved / rate.bytes_per_second
    return seconds


def _interpolate(rate: Rate, operators: Sequence[Operator], batch: int) -> Floats:
    """Interpolate between samples, in logarithms of sizes and of seconds.

    Radial basis functions on top of a linear trend (scipy's ``RBFInterpolator``), which pass through all samples.
    Above the largest sample the seconds grow as the sizes do: what calls cost no longer shows there.
    """
    import numpy as np
    from scipy.interpolate import RBFInterpolator

    table = np.log(np.array(rate.samples, dtype=float))
    wanted = np.log(np.array([_sizes(operator, rate, batch) for operator in operators]))
    known = np.minimum(wanted, table[:, :-1].max(axis=0))
    degree = 1 if len(table) > len(rate.axes) else 0
    surface = RBFInterpolator(table[:, :-1], table[:, -1], kernel="linear", degree=degree)
    times = np.array([1 if operator.batch_axis in rate.axes else batch for operator in operators])
    found: Floats = np.exp(surface(known) + (wanted - known).sum(axis=1)) * times + rate.overhead_seconds
    return found


def _sizes(operator: Operator, rate: Rate, batch: int) -> list[float]:
    found = []
    for axis in rate.axes:
        size = max(1.0, operator.sizes[axis] * (batch if axis == operator.batch_axis else 1))
        block = rate.multiples.get(axis, 1)
        found.append(math.ceil(size / block) * block if block > 1 else size)
    return found
