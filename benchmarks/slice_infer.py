"""slice_infer: inference by two workers on one core each, against one process with the whole model on one core.

Three networks (``benchmarks/networks.py``) are profiled on this machine, operator by operator, and planned for
throughput over two cores with the direct stream between them. The slices are cut, proven and served: the head runs in a
process that has the inputs, and asks the tail, which `isthmus slice serve` serves in another one; several questions
are under way. The reference runs the whole in a loop in one process, on inputs of its own likewise. All take turns.
``ratio`` is the worst network's gain over one core; ``two_threads_ratio`` its gain over one process with two threads.

A question costs each side some tenths of a millisecond beside its bytes. So MobileNet's 8 ms go in questions of a few
samples, and the reference is the quicker of the whole sample by sample, and in batches of as many.

``prediction_ratio`` is min(p/m, m/p) of the plan's samples a second over the measured ones, the worst of the planned
cuts and of two more of each network, at about a third and two thirds of the work. No slice was profiled: plans add up
operators, which were timed within the whole network.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS, write
from benchmarks.plan_pays import NAMES, POLICY, devices, profiled
from benchmarks.report import report
from benchmarks.slicing.plans import cut_of, cuts_by_share, make_slices, plan_at
from benchmarks.slicing.processes import ANSWER_SECONDS, Chain, Host, Loop, chain, feeds_of
from benchmarks.slicing.rate import direct_link
from isthmus.bootstrap_chain import chained_slice
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.inference.engine import OnnxEngine
from isthmus.model.sliced import MAX_RELATIVE
from isthmus.model.slicing import SlicePlan
from isthmus.planning.slicing.planner import make_plan
from isthmus.planning.slicing.request import Request
from isthmus.transport.ports import within
from isthmus.workflows.sliced_folder import load_sliced

ROUNDS, SECONDS_EACH = 5, 1.5
"""Of each the quickest round counts: what the machine does when nothing else disturbs it."""
UNDER_WAY = 6
OTHER_CUTS = (0.35, 0.65)
FEEDS = 4
ROWS = {"mobilenet_v2": 4}
"""Samples of a question, where it is not one."""


def measured(
    wholes: Sequence[Path], folders: Sequence[Path], cores: Sequence[int], runs: int, rows: int
) -> tuple[list[float], float, float]:
    """Return the seconds of a sample by each of the slicings, by the whole on one core, and by it with two threads.

    ``wholes``: the model for one sample, and for ``rows``, where those differ; the quicker one counts.

    Raises:
        SystemExit: slices answered otherwise than the whole.
    """
    rounds = []
    with ExitStack() as stack:

        def loop(rows: int, name: str, *arguments: object, core: int | None) -> tuple[Loop, int]:
            found = Loop(name, *arguments, core=core)
            stack.callback(found.close)
            return found, rows

        heads = []
        for folder in folders:
            served = stack.enter_context(chain(folder, [Host(core=cores[1])], first=1))
            check(folder, served, wholes[0])
            heads.append(loop(rows, "head", folder, served.address[1], UNDER_WAY, rows, core=cores[0]))
        sizes = list(zip(wholes, (1, rows), strict=False))
        ones = [loop(size, "whole", whole, 1, core=cores[0]) for whole, size in sizes]
        twos = [loop(size, "whole", whole, 2, core=None) for whole, size in sizes]
        for _ in range(ROUNDS):
            rounds.append(
                [each.seconds_each(runs * rows // size) / size for each, size in (*heads, *ones, *twos)]
            )
    best = [min(column) for column in zip(*rounds, strict=True)]
    split, alone, threads = best[: len(heads)], best[len(heads) : -len(twos)], best[-len(twos) :]
    return split, min(alone), min(threads)


def check(folder: Path, served: Chain, whole: Path) -> None:
    """Raises SystemExit where head and tail do not answer what the whole answers."""
    head, engine = chained_slice(folder, 0, served.address, tls=None), OnnxEngine(whole)
    for feed in feeds_of(load_sliced(folder)[0], FEEDS):
        found = head.ask(feed, deadline=within(ANSWER_SECONDS)).result()
        for name, expected in engine.run(feed).items():
            off = float(np.abs(found[name] - expected).max()) / float(np.ptp(expected))
            if not off <= MAX_RELATIVE:
                raise SystemExit(f"{name} of {whole.stem}: slices and whole differ by {off:.2g} of its range")
    if head.following is not None:
        head.following.close()


def network_case(
    network: str, link: tuple[float, float], folder: Path, cores: Sequence[int]
) -> dict[str, Any]:
    """Plan, slice, serve and measure a network; return its row."""
    model = write(network, folder)
    cutter = Cutter(model)
    rows = ROWS.get(network, 1)
    profile = profiled(cutter, network, rows)
    request, hosts = Request(objective="throughput", policy=POLICY, batch=rows), devices(link)
    best = make_plan(profile, hosts, request)
    others = [cut for cut in cuts_by_share(profile, NAMES[0], OTHER_CUTS) if (cut,) != cut_of(best)]
    plans = [best, *(plan_at(profile, hosts, request, [cut]) for cut in others)]
    folders = [folder / f"{network}-{k}" for k in range(len(plans))]
    for plan, place in zip(plans, folders, strict=True):
        make_slices(model, plan, place)
    wholes = [write_whole(cutter, size, folder / f"{network}-{size}.onnx") for size in sorted({1, rows})]
    runs = max(20, round(SECONDS_EACH * best.value / rows))
    split, alone, threads = measured(wholes, folders, cores, runs, rows)
    return {
        "network": network,
        "samples_of_a_question": rows,
        "single_ms": round(alone * 1e3, 3),
        "two_threads_ms": round(threads * 1e3, 3),
        "slices_ms": round(split[0] * 1e3, 3),
        "gain": round(alone / split[0], 3),
        "gain_over_two_threads": round(threads / split[0], 3),
        "cuts": [cut_row(plan, seconds) for plan, seconds in zip(plans, split, strict=True)],
    }


def write_whole(cutter: Cutter, rows: int, path: Path) -> Path:
    """Write the whole model for so many samples; return ``path``."""
    path.write_bytes(cutter.slice(0, len(cutter.groups), rows).SerializeToString())
    return path


def cut_row(plan: SlicePlan, seconds: float) -> dict[str, Any]:
    """Return what a plan predicted, and what was measured."""
    rate = 1 / seconds
    return {
        "cut": cut_of(plan),
        "crossing_bytes": sum(entry.size_bytes for entry in plan.transfers),
        "predicted_per_second": round(plan.value, 2),
        "measured_per_second": round(rate, 2),
        "prediction_ratio": round(min(plan.value / rate, rate / plan.value), 4),
    }


def main() -> None:
    """Measure three networks."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("needs two cores: a pipeline of two workers is measured")
    link, rows = direct_link((cores[0], cores[1])), []
    with tempfile.TemporaryDirectory() as name:
        for network in NETWORKS:
            rows.append(network_case(network, link, Path(name), cores))
            print(rows[-1], file=sys.stderr, flush=True)
    least = min(rows, key=lambda row: row["gain"])
    report(
        "slice_infer",
        ours=least["slices_ms"],
        reference=least["single_ms"],
        unit="ms",
        speedup=True,
        prediction_ratio=min(cut["prediction_ratio"] for row in rows for cut in row["cuts"]),
        two_threads_ratio=min(row["gain_over_two_threads"] for row in rows),
        rows=rows,
        link={"bytes_per_second": round(link[0]), "latency_seconds": round(link[1], 7)},
        rounds=ROUNDS,
        under_way=UNDER_WAY,
        reference_is="the whole network in one process on one core, measured in turns; of each the quickest round",
    )


if __name__ == "__main__":
    main()
