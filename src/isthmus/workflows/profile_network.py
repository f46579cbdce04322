"""Profile a model: what its operators compute, and how long they take, predicted and measured."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from isthmus.errors import InvalidModel
from isthmus.frameworks import networks
from isthmus.model.device import DeviceDescriptor
from isthmus.model.network import NetworkProfile

if TYPE_CHECKING:
    from isthmus.frameworks.onnx.cut import Cutter

MEASURED_SLICES = 8
ROUNDS = 30


class TimedSlice(msgspec.Struct, frozen=True, kw_only=True):
    """A half-open range of operators and its seconds for the profile's batch; None: not known.

    ``error``: max(predicted / measured, measured / predicted).
    """

    start: int
    end: int
    first: str
    last: str
    predicted_seconds: float | None = None
    measured_seconds: float | None = None
    error: float | None = None


class Profiled(msgspec.Struct, frozen=True, kw_only=True):
    """A profile, and how well its seconds are predicted on a device. ``median_error``: of the slices."""

    profile: NetworkProfile
    device: str = ""
    slices: tuple[TimedSlice, ...] = ()
    median_error: float | None = None


def read_network(
    model: Path, *, batch: int = 1, dimensions: Mapping[str, int] | None = None
) -> NetworkProfile:
    """Return the profile of a model of any kind that can be read, for a batch.

    Raises:
        InvalidModel: it cannot be read, or the batch is no number of samples.
        EnvironmentProblem: what reads it is not installed.
    """
    if batch < 1:
        raise InvalidModel(f"needs a batch of at least 1; it is {batch}")
    found = networks.profile(model, dimensions)
    return msgspec.structs.replace(found, batch=batch)


def predict(profile: NetworkProfile, device: DeviceDescriptor) -> Profiled:
    """Return the seconds of a few slices on a device, from its descriptor alone.

    Raises:
        InvalidCase: the descriptor has no rates for an operator.
    """
    from isthmus.planning.slicing.predict import slice_seconds

    return _profiled(
        profile,
        device,
        {
            (start, end): slice_seconds(profile, device, start, end, profile.batch)
            for start, end in ranges(profile)
        },
        {},
    )


def measure(
    model: Path,
    profile: NetworkProfile,
    device: DeviceDescriptor,
    dimensions: Mapping[str, int] | None = None,
) -> Profiled:
    """Run an ONNX model on this machine, which ``device`` describes: the profile then has each operator's seconds
    there. Where the device has rates, they have predicted each slice's seconds before.

    Raises:
        InvalidModel: the model is no ONNX file, or onnxruntime refuses it.
    """
    from isthmus.frameworks.onnx.cut import Cutter
    from isthmus.frameworks.onnx.measure import measure as measure_operators

    cutter = Cutter(model, dimensions)
    predicted: dict[tuple[int, int], float] = {}
    if device.rates:
        found = predict(profile, device)
        predicted = {(entry.start, entry.end): entry.predicted_seconds or 0.0 for entry in found.slices}
    measured = slices_seconds(cutter, ranges(profile), profile.batch, rounds=ROUNDS)
    timed = measure_operators(cutter, profile, device.id, rounds=ROUNDS)
    return _profiled(timed, device, predicted, measured)


def ranges(profile: NetworkProfile, count: int = MEASURED_SLICES) -> list[tuple[int, int]]:
    """Return consecutive ranges of about as many operators each."""
    length = len(profile.operators)
    count = min(count, length)
    borders = [round(i * length / count) for i in range(count + 1)]
    return list(itertools.pairwise(borders))


def slices_seconds(
    cutter: Cutter, parts: Sequence[tuple[int, int]], batch: int, *, rounds: int, passes: int = 3
) -> dict[tuple[int, int], float]:
    """Return the seconds of each range of operators, run as a model of its own, request after request.

    Of ``passes`` over all of them, the best one's low quantile: what other programs take away differs.

    Raises:
        InvalidModel: onnxruntime refuses a slice.
    """
    import numpy as np

    from isthmus.frameworks.onnx.measure import LOW, Slice

    models = [Slice(cutter.slice(start, end, batch).SerializeToString()) for start, end in parts]
    found = dict.fromkeys(parts, float("inf"))
    for _ in range(passes):
        for part, model in zip(parts, models, strict=True):
            found[part] = min(found[part], float(np.quantile(model.seconds(rounds), LOW)))
    return found


def _profiled(
    profile: NetworkProfile,
    device: DeviceDescriptor,
    predicted: Mapping[tuple[int, int], float],
    measured: Mapping[tuple[int, int], float],
) -> Profiled:
    import statistics

    slices = tuple(
        _timed(profile, start, end, predicted.get((start, end)), measured.get((start, end)))
        for start, end in ranges(profile)
    )
    errors = [entry.error for entry in slices if entry.error is not None]
    median = statistics.median(errors) if errors else None
    return Profiled(profile=profile, device=device.id, slices=slices, median_error=median)


def _timed(
    profile: NetworkProfile, start: int, end: int, predicted: float | None, measured: float | None
) -> TimedSlice:
    error = max(predicted / measured, measured / predicted) if predicted and measured else None
    return TimedSlice(
        start=start,
        end=end,
        first=profile.operators[start].name,
        last=profile.operators[end - 1].name,
        predicted_seconds=predicted,
        measured_seconds=measured,
        error=error,
    )
