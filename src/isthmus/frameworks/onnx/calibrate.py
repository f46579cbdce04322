"""A machine's rates: micro-benchmarks of single operators, a class at a time, with onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from isthmus.frameworks.onnx.grid import FIXED, GRIDS, Grid, Sizes
from isthmus.frameworks.onnx.measure import LOW, Slice, Timed, kernels
from isthmus.frameworks.onnx.micro import Micro, chain, micro
from isthmus.model.device import Rate

ROUNDS = 8
PASSES = 3
"""Over all classes, some seconds apart: what disturbs one pass, such as another program, spares another."""
BLOCKED = ("in", "out", "channels")
"""Axes along which kernels work in blocks of channels."""
BLOCKS = (16, 8, 4)
REORDERS = {"ReorderInput": "reorder/in", "ReorderOutput": "reorder/out"}
Moves = dict[str, list[tuple[float, float]]]
"""By class of a change of layout: elements and seconds of each that was seen."""
LINKS = (1, 41)


def calibrate(
    classes: Collection[str] | None = None,
    *,
    grids: Mapping[str, Grid] = GRIDS,
    rounds: int = ROUNDS,
    passes: int = PASSES,
    threads: int = 1,
    measured_at: str = "",
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Rate]:
    """Measure this machine; return its rates by class. All classes take under a minute on one core.

    ``classes``: those to measure (None: all that have a grid). Beside them, what a run costs (``run``), what a
    node costs beside its kernel (``view``), changes of layout (``reorder/in``, ``reorder/out``), and coarse
    rates for what has no class of its own (``conv``, ``*``).
    """
    chosen = [name for name in grids if classes is None or name in classes]
    run_seconds, node_seconds = _overheads(rounds, threads)
    moves: Moves = {}
    seconds: dict[str, list[float]] = {}
    for turn in range(passes):
        for name in chosen:
            report(f"measuring {name} ({turn + 1} of {passes})")
            found = _class_seconds(name, grids[name], rounds, threads, moves)
            seconds[name] = [min(pair) for pair in zip(found, seconds.get(name, found), strict=True)]
    rates = {
        name: Rate(
            axes=tuple(grids[name].axes),
            samples=_samples(grids[name], seconds[name]),
            multiples=_multiples(name, rounds, threads) if name.startswith("conv/") else {},
            overhead_seconds=node_seconds,
            measured_at=measured_at,
        )
        for name in chosen
    }
    rates["run"] = Rate(overhead_seconds=run_seconds, measured_at=measured_at)
    rates["view"] = Rate(overhead_seconds=node_seconds, measured_at=measured_at)
    rates |= {name: _binned(pairs, measured_at) for name, pairs in moves.items()}
    return rates | _coarse(rates, node_seconds, measured_at)


def _class_seconds(name: str, grid: Grid, rounds: int, threads: int, moves: Moves) -> list[float]:
    """Return the seconds of each point of a grid, and note the changes of layout around it."""
    found = []
    for sizes in grid.points():
        model = micro(name, sizes | FIXED.get(name, {}))
        timed = _kernels(model, rounds, threads)
        found.append(_of(model, timed))
        _collect(model, timed, moves)
    return found


def _samples(grid: Grid, seconds: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    return tuple(
        (*map(float, sizes.values()), taken) for sizes, taken in zip(grid.points(), seconds, strict=True)
    )


def _kernels(model: Micro, rounds: int, threads: int) -> list[Timed]:
    return kernels(model.model.SerializeToString(), model.feeds, rounds, threads=threads)


def _of(model: Micro, timed: list[Timed]) -> float:
    """Return the seconds of the operator that a micro-benchmark is for; at least half of the clock's microsecond."""
    seconds = [
        entry.seconds
        for entry in timed
        if entry.kind == model.kind and entry.node.startswith(("made", "timed"))
    ]
    return max(sum(seconds), 0.5e-6)


def _overheads(rounds: int, threads: int) -> tuple[float, float]:
    """Return the seconds of a run, and of a node beside its kernel: from chains of the smallest operators."""
    import numpy as np

    few, many = (
        float(
            np.quantile(Slice(chain(length).SerializeToString(), threads=threads).seconds(20 * rounds), LOW)
        )
        for length in LINKS
    )
    node = max(0.0, (many - few) / (LINKS[1] - LINKS[0]))
    return max(0.0, few - LINKS[0] * node), node


def _multiples(name: str, rounds: int, threads: int) -> dict[str, int]:
    """Find the block of channels that a convolution's kernel rounds up to: one more than a block costs two."""

    def seconds(channels: int) -> float:
        sizes: Sizes = {"in": 64, "out": channels, "pixels": 28**2, "taps": 27} | FIXED.get(name, {})
        model = micro(name, sizes)
        return _of(model, _kernels(model, rounds, threads))

    for block in BLOCKS:
        one, more, two = (seconds(channels) for channels in (4 * block, 4 * block + block // 2, 5 * block))
        if more - one > 0.75 * (two - one) > 0:
            return dict.fromkeys(BLOCKED, block)
    return {}


def _collect(model: Micro, timed: list[Timed], moves: Moves) -> None:
    """Note what changes of layout took around a convolution."""
    for entry in timed:
        elements = model.elements[entry.kind == "ReorderOutput"]
        if entry.kind in REORDERS and elements:
            moves.setdefault(REORDERS[entry.kind], []).append((float(elements), entry.seconds))


def _binned(pairs: list[tuple[float, float]], measured_at: str) -> Rate:
    """Return the median of the seconds of each power of two of elements."""
    import numpy as np

    bins: dict[int, list[float]] = {}
    for elements, seconds in pairs:
        bins.setdefault(round(math.log2(elements)), []).append(max(seconds, 0.5e-6) / elements)
    samples = tuple(
        (2.0**power, 2.0**power * float(np.median(found))) for power, found in sorted(bins.items())
    )
    return Rate(axes=("elements",), samples=samples, measured_at=measured_at)


def _coarse(found: Mapping[str, Rate], node_seconds: float, measured_at: str) -> dict[str, Rate]:
    """Return single rates from the classes' samples, for operators that fit none."""
    import numpy as np

    coarse: dict[str, Rate] = {}
    dense = [rate for name, rate in found.items() if name in ("conv/3x3/1", "conv/1x1/1") and rate.samples]
    if dense:
        taps = {"conv/3x3/1": 9, "conv/1x1/1": 1}
        speeds = [
            2.0 * taps[name] * math.prod(row[:-1]) / row[-1]
            for name in taps
            if name in found
            for row in found[name].samples
        ]
        coarse["conv"] = Rate(
            flops_per_second=float(np.median(speeds)), overhead_seconds=node_seconds, measured_at=measured_at
        )
    if "copy" in found:
        moved = [8.0 * row[0] / row[-1] for row in found["copy"].samples[2:]]
        coarse["*"] = Rate(
            bytes_per_second=float(np.median(moved)), overhead_seconds=node_seconds, measured_at=measured_at
        )
    return coarse
