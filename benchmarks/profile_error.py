"""profile_error: how far slice times predicted from a descriptor alone are from measured ones.

The descriptor's rates come from micro-benchmarks of single operators, at sizes of a fixed grid. Three networks that
were never profiled (``benchmarks/networks.py``) are then cut into 4, 6 and 10 ranges of operators; each range is run as
a model of its own, on one thread, request after request. The figure is the median over all slices of
max(predicted / measured, measured / predicted). The reference is the same for what common planners do: operations
divided by one rate, the fastest that any micro-benchmark saw.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.networks import NETWORKS, write
from benchmarks.report import report
from isthmus.frameworks.onnx.calibrate import calibrate
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.frameworks.onnx.profile import from_graph
from isthmus.model.device import DeviceDescriptor, Rate
from isthmus.model.network import NetworkProfile
from isthmus.planning.slicing.predict import slice_seconds
from isthmus.workflows.profile_network import slices_seconds

SLICES = (4, 6, 10)
ROUNDS, PASSES = 20, 4
Range = tuple[int, int]


def ranges(operators: int) -> list[Range]:
    """Return the distinct ranges of all ways to cut a network."""
    found: set[Range] = set()
    for count in SLICES:
        borders = [round(i * operators / count) for i in range(count + 1)]
        found |= set(itertools.pairwise(borders))
    return sorted(found)


def peak_flops_per_second(rates: dict[str, Rate]) -> float:
    """Return the highest rate of operations that a micro-benchmark of a dense class reached."""
    taps = {"conv/1x1/1": 1, "conv/3x3/1": 9, "matmul/weights": 1, "matmul/batched": 1}
    return max(
        2.0 * factor * float(np.prod(row[:-1])) / row[-1]
        for name, factor in taps.items()
        for row in rates[name].samples
    )


def errors(predicted: list[float], measured: list[float]) -> np.ndarray:
    """Return max(predicted / measured, measured / predicted) of each slice."""
    ratio = np.array(predicted) / np.array(measured)
    return np.maximum(ratio, 1 / ratio)


def row(network: str, found: np.ndarray) -> dict[str, float | str | int]:
    """Return one network's figures."""
    return {
        "network": network,
        "slices": len(found),
        "median": round(float(np.median(found)), 3),
        "p90": round(float(np.quantile(found, 0.9)), 3),
        "worst": round(float(found.max()), 3),
    }


def predictions(profile: NetworkProfile, device: DeviceDescriptor) -> tuple[list[float], list[float]]:
    """Return each slice's seconds by us and by the single rate."""
    peak = peak_flops_per_second(device.rates)
    parts = ranges(len(profile.operators))
    ours = [slice_seconds(profile, device, start, end, 1) for start, end in parts]
    single = [sum(operator.flops for operator in profile.operators[start:end]) / peak for start, end in parts]
    return ours, single


def measurements(cutters: dict[str, Cutter]) -> dict[str, list[float]]:
    """Return each slice's seconds. Passes go over all networks in turn, so that a disturbance spares some."""
    found: dict[str, list[float]] = {}
    for _ in range(PASSES):
        for name, cutter in cutters.items():
            parts = ranges(len(cutter.groups))
            seconds = slices_seconds(cutter, parts, 1, rounds=ROUNDS, passes=1)
            now = [seconds[part] for part in parts]
            found[name] = [min(pair) for pair in zip(now, found.get(name, now), strict=True)]
    return found


def main() -> None:
    """Calibrate, predict, measure, and print a row for each network."""
    begin = time.perf_counter()
    rates = calibrate()
    calibration = time.perf_counter() - begin
    device = DeviceDescriptor(
        id="here", kind="rig", zone="here", arch="", cores=1, memory_bytes=0, disk_free_bytes=0, rates=rates
    )
    with tempfile.TemporaryDirectory() as folder:
        cutters = {name: Cutter(write(name, Path(folder))) for name in NETWORKS}
    # Predictions first: nothing that is measured of these networks can reach them.
    predicted = {name: predictions(from_graph(cutter.graph), device) for name, cutter in cutters.items()}
    measured = measurements(cutters)
    for name, (ours, _) in predicted.items():
        for part, guess, taken in zip(ranges(len(cutters[name].groups)), ours, measured[name], strict=True):
            print(f"{name} {part}: {guess * 1e3:.3f} ms, measured {taken * 1e3:.3f} ms", file=sys.stderr)
    found = {name: errors(predicted[name][0], measured[name]) for name in NETWORKS}
    single = [errors(predicted[name][1], measured[name]) for name in NETWORKS]
    rows = [row(name, found[name]) for name in NETWORKS]
    everything = np.concatenate(list(found.values()))
    for entry in rows:
        print(json.dumps(entry), file=sys.stderr)
    report(
        "profile_error",
        ours=float(np.median(everything)),
        reference=float(np.median(np.concatenate(single))),
        unit="x",
        p90=round(float(np.quantile(everything, 0.9)), 3),
        worst=round(float(everything.max()), 3),
        rows=rows,
        calibration_seconds=round(calibration, 1),
        samples=sum(len(rate.samples) for rate in rates.values()),
        threads=1,
        reference_is="operations divided by the fastest rate that a micro-benchmark saw",
    )


if __name__ == "__main__":
    main()
