"""plan_pays: splitting pays, or is refused: measured on this machine, and told by the plan.

(b) The figure. Each of three networks (``benchmarks/networks.py``) is profiled on this machine and planned for
throughput over two of its cores, a local socket between them. The plan is then run: a process for each slice, pinned to
its core, onnxruntime on one thread; against the whole network in one process on one core, in turns. ``ours`` is the
plan's measured milliseconds a sample of the network that gains least, ``reference`` the single core's, ``ratio`` the
reference over ours; what the plan predicted is printed beside.

(a) A network that no device of the set can hold is planned; the plan says of each why. (c) Over a link of 20 Mbit/s and
40 ms one device does all, and the plan says what the best split would have taken. Both are planned from the measured
profile, or the script fails.
"""

from __future__ import annotations

import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.networks import NETWORKS, write
from benchmarks.report import report
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.frameworks.onnx.measure import measure
from isthmus.frameworks.onnx.profile import from_graph
from isthmus.model.device import DeviceDescriptor, Link
from isthmus.model.network import NetworkProfile
from isthmus.model.policy import DataPolicy
from isthmus.model.slicing import SlicePlan
from isthmus.planning.slicing.build import parameter_bytes
from isthmus.planning.slicing.planner import make_plan
from isthmus.planning.slicing.problem import working_bytes
from isthmus.planning.slicing.request import Request
from isthmus.rig.discover import describe

ROUNDS, SECONDS_EACH = 7, 1.5
"""Of each the quickest round counts: what the machine does when nothing else disturbs it."""
WAN = (20e6 / 8, 0.04)
"""Bytes a second, and seconds."""
NAMES = ("core-a", "core-b")
POLICY = DataPolicy(may_leave="everything")


def devices(link: tuple[float, float], memory_bytes: int | None = None) -> list[DeviceDescriptor]:
    """Return this machine's descriptor twice, as two devices with a link between them."""
    here = describe("here", zone="onprem", folder=Path(tempfile.gettempdir()), now=time.time())
    return [
        msgspec.structs.replace(
            here,
            id=name,
            usage=("inference",),
            memory_bytes=memory_bytes or here.memory_bytes,
            links=(Link(to=other, bytes_per_second=link[0], latency_seconds=link[1]),),
        )
        for name, other in itertools.permutations(NAMES)
    ]


def profiled(cutter: Cutter, name: str, batch: int = 1) -> NetworkProfile:
    """Return a network's profile with each operator's measured seconds for a batch, the same for both devices."""
    network = msgspec.structs.replace(from_graph(cutter.graph, name), batch=batch)
    found = measure(cutter, network, NAMES[0])
    operators = [
        msgspec.structs.replace(entry, seconds=dict.fromkeys(NAMES, entry.seconds[NAMES[0]]))
        for entry in found.operators
    ]
    return msgspec.structs.replace(found, operators=tuple(operators))


def local_link(size: int = 2**19, rounds: int = 64) -> tuple[float, float]:
    """Return bytes a second of a local socket for messages of ``size``, and the seconds of a byte there."""
    near, far = socket.socketpair()
    echo = threading.Thread(target=_echo, args=(far, size, rounds))
    echo.start()
    once = _exchange(near, 1, rounds)
    many = _exchange(near, size, rounds)
    echo.join()
    near.close()
    return 2 * size / max(many - once, 1e-9), once / 2


def _echo(far: socket.socket, size: int, rounds: int) -> None:
    with far:
        for each in [1] * rounds + [size] * rounds:
            far.sendall(_read(far, each))


def _exchange(near: socket.socket, size: int, rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        near.sendall(bytes(size))
        _read(near, size)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def _read(source: socket.socket, size: int) -> bytearray:
    found = bytearray(size)
    view, done = memoryview(found), 0
    while done < size:
        done += source.recv_into(view[done:])
    return found


def run_stages(models: list[Path], samples: int) -> float:
    """Run stages as processes, each on its core; return the last one's seconds a sample.

    Raises:
        SystemExit: a stage failed.
    """
    cores = sorted(os.sched_getaffinity(0))
    pairs = [socket.socketpair() for _ in models[1:]]
    stages = []
    for k, model in enumerate(models):
        command = [sys.executable, "-m", "benchmarks.stage", str(model), "--samples", str(samples)]
        command += ["--core", str(cores[k % len(cores)])]
        ends = {"--source": pairs[k - 1][1] if k else None, "--sink": pairs[k][0] if k < len(pairs) else None}
        held = {option: end.fileno() for option, end in ends.items() if end is not None}
        command += [word for option, number in held.items() for word in (option, str(number))]
        stages.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=tuple(held.values()))
        )
    for end in itertools.chain(*pairs):
        end.close()
    said = [stage.communicate()[0] for stage in stages]
    if any(stage.returncode for stage in stages):
        raise SystemExit(f"a stage of {models[0].parent} ended with an error")
    return float(said[-1])


def slices(cutter: Cutter, plan: SlicePlan, folder: Path) -> list[Path]:
    """Write each slice of a contiguous plan as a model; return them in order.

    Raises:
        SystemExit: a slice is not one range.
    """
    ranges = [entry.ranges for entry in plan.slices if entry.works]
    if any(len(found) != 1 for found in ranges):
        raise SystemExit(f"slices of {plan.network} are no ranges: {ranges}")
    found = []
    for start, end in sorted(entry[0] for entry in ranges):
        path = folder / f"{plan.network}-{start}-{end}.onnx"
        path.write_bytes(cutter.slice(start, end, 1).SerializeToString())
        found.append(path)
    return found


def measured_case(
    cutter: Cutter, profile: NetworkProfile, link: tuple[float, float], folder: Path
) -> dict[str, Any]:
    """(b) Plan a network over two cores, run it and the best single device in turns, and return its row."""
    plan = make_plan(profile, devices(link), Request(objective="throughput", policy=POLICY))
    single = max(entry.value for entry in plan.alternatives if entry.value is not None)
    whole = folder / f"{profile.name}.onnx"
    whole.write_bytes(cutter.slice(0, len(profile.operators), 1).SerializeToString())
    parts = slices(cutter, plan, folder)
    samples = max(20, round(SECONDS_EACH * single))
    taken = [(run_stages([whole], samples), run_stages(parts, samples)) for _ in range(ROUNDS)]
    alone, split = (min(column) * 1e3 for column in zip(*taken, strict=True))
    return {
        "network": profile.name,
        "slices": len(parts),
        "single_ms": round(alone, 3),
        "plan_ms": round(split, 3),
        "gain": round(alone / split, 3),
        "predicted_single_ms": round(1e3 / single, 3),
        "predicted_plan_ms": round(1e3 / plan.value, 3),
        "predicted_gain": round(plan.value / single, 3),
    }


def too_large(profile: NetworkProfile, link: tuple[float, float]) -> dict[str, Any]:
    """(a) Plan a network over devices of which none can hold it.

    Raises:
        SystemExit: one device was said to hold it, or the plan does not say why not.
    """
    weights = float(parameter_bytes(profile).sum())
    memory_bytes = int(0.8 * weights + working_bytes(profile, 1))
    plan = make_plan(profile, devices(link, memory_bytes), Request(policy=POLICY))
    refused = {entry.device: entry.reason for entry in plan.alternatives if entry.value is None}
    if not plan.split or len(refused) < len(NAMES) or not all(refused.values()):
        raise SystemExit(f"a network that no device holds was planned as {plan}")
    return {
        "network": profile.name,
        "latency_ms": round(plan.value * 1e3, 3),
        "exact": plan.exact,
        "memory_bytes": memory_bytes,
        "refused": refused,
    }


def over_a_wan(profile: NetworkProfile) -> list[dict[str, Any]]:
    """(c) Plan over a slow link; return the plan's value and the best split's, in milliseconds, for two objectives.

    Raises:
        SystemExit: the plan splits, or does not say what splitting would take.
    """
    found = []
    for objective in ("latency", "throughput"):
        request = Request(objective=objective, policy=POLICY)
        plan = make_plan(profile, devices(WAN), request)
        if plan.split or plan.best_split is None or plan.best_split.value is None:
            raise SystemExit(
                f"over a WAN, the plan of {profile.name} does not say that splitting loses: {plan}"
            )
        both = plan.value, plan.best_split.value
        ours, split = (1e3 / value if objective == "throughput" else 1e3 * value for value in both)
        found.append(
            {
                "network": profile.name,
                "objective": objective,
                "plan_ms": round(ours, 3),
                "best_split_ms": round(split, 3),
                "best_split": plan.best_split.device,
            }
        )
    return found


def main() -> None:
    """Plan and run the three cases."""
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("needs two cores: a pipeline of two stages is measured")
    link, rows, large, wan = local_link(), [], [], []
    with tempfile.TemporaryDirectory() as name:
        for network in NETWORKS:
            cutter = Cutter(write(network, Path(name)))
            profile = profiled(cutter, network)
            rows.append(measured_case(cutter, profile, link, Path(name)))
            large.append(too_large(profile, link))
            wan += over_a_wan(profile)
            print(rows[-1], large[-1], wan[-2:], sep="\n", file=sys.stderr)
    least = min(rows, key=lambda row: row["gain"])
    report(
        "plan_pays",
        ours=least["plan_ms"],
        reference=least["single_ms"],
        unit="ms",
        speedup=True,
        rows=rows,
        none_can_hold=large,
        over_a_wan=wan,
        link={"bytes_per_second": round(link[0]), "latency_seconds": round(link[1], 7)},
        rounds=ROUNDS,
        reference_is="the whole network in one process on one core, measured in turns; of each the quickest round",
    )


if __name__ == "__main__":
    main()
