"""split_pays: an edge of a quarter core, a cloud, and a link that tc shapes: where splitting pays, and where not.

The edge is a process held to a quarter of a core by a cgroup, in a network namespace of its own; the cloud is another
process on another core, in another namespace; between them is a veth pair whose rate tc sets. Both run what ships: the
edge core's split engine with its balancer, and the inference protocol. The network is ViT-Tiny with random weights
(``benchmarks/networks.py``): its first layer turns an image of 602 kB into 151 kB for a fiftieth of the work. It is
planned for latency from the profile of this machine, the edge being four times as slow.

At each rate all-local, split and all-cloud are asked for in turns, then the balancer chooses. ``ours`` is the split's
median latency at the rate of ``PAYS``, ``reference`` the better of all-local and all-cloud there. At the rate of
``REFUSED`` the plan must not split, every answer must come from the edge, and that must be the quickest, or the script
fails; the balancer may ask the cloud beside it, which is printed. Needs root, ip, tc and a cgroup with a CPU quota;
without them it says so and ends. The link has no added delay: where the kernel has no netem, tc has none to give.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.networks import write
from benchmarks.plan_pays import NAMES, POLICY, devices, profiled
from benchmarks.report import report
from benchmarks.slicing import namespaces
from benchmarks.slicing.processes import Host, end, start
from isthmus import bootstrap, bootstrap_slicing, documents
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.inference.bundle import describe_files, seal_bundle
from isthmus.inference.onnx_model import describe_onnx
from isthmus.model.bundle import MODEL_FILE, BundleManifest, Lineage
from isthmus.model.network import NetworkProfile
from isthmus.model.slicing import SlicePlan
from isthmus.planning.slicing.planner import make_plan
from isthmus.planning.slicing.request import Request
from isthmus.ports import Signer
from isthmus.workflows.slice_model import Order, slice_model

NETWORK = "vit_tiny"
SHARE = 0.25
PAYS, REFUSED = 50e6, 1e6
RATES = (100e6, PAYS, 20e6, REFUSED)
WAYS = ("local", "split", "cloud")
ROUNDS, EACH, CHOICES = 5, 4, 24
SLOW_ROUNDS, SLOW_EACH = 2, 1
"""At the rate that is refused, a request to the cloud takes seconds."""
SETTLED = 8
"""Of the balancer's choices, so many last ones count: it has then learnt of the link."""
LATENCY_SECONDS = 2e-4


def quarter(profile: NetworkProfile) -> NetworkProfile:
    """Return the profile with the edge, the first device, so much slower."""
    return msgspec.structs.replace(
        profile,
        operators=tuple(
            msgspec.structs.replace(
                entry, seconds={**entry.seconds, NAMES[0]: entry.seconds[NAMES[0]] / SHARE}
            )
            for entry in profile.operators
        ),
    )


def planned(profile: NetworkProfile, bits_per_second: float) -> SlicePlan:
    """Return the plan for latency over a link of that rate."""
    link = (bits_per_second / 8, LATENCY_SECONDS)
    return make_plan(profile, devices(link), Request(objective="latency", policy=POLICY))


def whole_bundle(model: Path, folder: Path, signer: Signer) -> Path:
    """Seal the whole model as a bundle."""
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(model.read_bytes())
    inputs, outputs, opset = describe_onnx(model)
    manifest = BundleManifest(
        model=NETWORK.replace("_", "-"),
        release=1,
        files=describe_files(folder),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        goldens=(),
        lineage=Lineage(dataset="none", manifest_sha256="0" * 64, job_sha256="0" * 64, job_key="0" * 40),
        created_at=bootstrap.now(),
    )
    seal_bundle(folder, manifest, signer)
    return folder


class Edge:
    """The edge's process, asked by lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, wish: str, count: int) -> tuple[list[float], list[str], list[str]]:
        """Return seconds, placements and reasons of so many requests.

        Raises:
            SystemExit: the process ended; its own words stand on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([wish, count]) + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        if not said:
            raise SystemExit("the edge's process ended early")
        seconds, placements, reasons = json.loads(said)
        return seconds, placements, reasons


def measured_at(edge: Edge, bits_per_second: float, plan: SlicePlan) -> dict[str, Any]:
    """Ask for each way in turns, then let the balancer choose; return the row.

    Raises:
        SystemExit: a way was asked for, and another was taken.
    """
    slow = bits_per_second == REFUSED
    rounds, each = (SLOW_ROUNDS, SLOW_EACH) if slow else (ROUNDS, EACH)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _, way in itertools.product(range(rounds), WAYS):
        took, placements, reasons = edge.ask(way, each)
        if any(found.partition(":")[0] != way for found in placements):
            raise SystemExit(
                f"{way} was asked for at {bits_per_second:g} bit/s; it ran {placements}: {reasons[-1]}"
            )
        seconds[way] += took
    took, placements, reasons = edge.ask("", CHOICES)
    settled = Counter(placements[-SETTLED:])
    return {
        "mbit_per_second": bits_per_second / 1e6,
        **{f"{way}_ms": round(statistics.median(found) * 1e3, 1) for way, found in seconds.items()},
        "balancer_ms": round(statistics.median(took[-SETTLED:]) * 1e3, 1),
        "balancer_chose": dict(settled),
        "balancer_asked_in_vain": sum(said.startswith("the cloud") for said in reasons[-SETTLED:]),
        "balancer_says": reasons[-1],
        "plan": "split"
        if plan.split
        else f"all at {next(s for s in plan.slices if s.works).replicas[0].device}",
        "planned_ms": round(plan.value * 1e3, 1),
    }


def run(bundle: Path, slices: Path, key: Path, profile: NetworkProfile) -> list[dict[str, Any]]:
    """Start edge and cloud, measure at each rate, and return the rows."""
    cores, rows = sorted(os.sched_getaffinity(0)), []
    with namespaces.shaped_pair(RATES[0]) as pair, ExitStack() as stack:
        served = [bundle, *sorted(path for path in slices.iterdir() if path.is_dir())]
        command = [sys.executable, "-m", "benchmarks.slicing.cloud", pair.far_address, *map(str, served)]
        cloud = start(command, Host(pair.within(pair.far), cores[-1]))
        stack.callback(end, cloud)
        assert cloud.stdout is not None
        address = f"http://{pair.far_address}:{cloud.stdout.readline().strip()}"
        command = [
            sys.executable,
            "-m",
            "benchmarks.slicing.edge",
            str(bundle),
            str(slices),
            str(key),
            address,
        ]
        process = start(command, Host(pair.within(pair.near), cores[0]))
        stack.callback(end, process)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit("the edge's process did not start")
        # From here on it has a quarter core; starting on so little would take a while and measure nothing.
        stack.enter_context(namespaces.share_of_a_core(SHARE, process.pid))
        edge = Edge(process)
        for rate in RATES:
            namespaces.shape(pair, rate)
            rows.append(measured_at(edge, rate, planned(profile, rate)))
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def check(rows: Sequence[dict[str, Any]]) -> None:
    """Raises SystemExit where plan and balancer do not keep to the edge over the slowest link, or are wrong to."""
    row = next(row for row in rows if row["mbit_per_second"] == REFUSED / 1e6)
    kept = set(row["balancer_chose"]) == {"local"} and row["plan"] != "split"
    if not kept or row["local_ms"] >= min(row["split_ms"], row["cloud_ms"]):
        raise SystemExit(
            f"at {REFUSED:g} bit/s all should run at the edge, and be the quickest there; it is {row}"
        )


def main() -> None:
    """Plan, slice, serve, measure."""
    namespaces.check()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write(NETWORK, folder)
        profile = quarter(profiled(Cutter(model), NETWORK))
        plan = planned(profile, PAYS)
        if not plan.split:
            raise SystemExit(f"at {PAYS:g} bit/s the plan should split; it is {plan.slices}")
        signer = bootstrap_slicing.own_signer()
        bundle = whole_bundle(model, folder / "whole", signer)
        key = folder / "key.der"
        key.write_bytes(signer.public_key())
        slices = folder / "slices"
        order = Order(model, documents.encode(plan))
        slice_model(order, slices, signer=signer, open_engine=bootstrap.open_engine, now=bootstrap.now())
        rows = run(bundle, slices, key, profile)
    check(rows)
    pays = next(row for row in rows if row["mbit_per_second"] == PAYS / 1e6)
    report(
        "split_pays",
        ours=pays["split_ms"],
        reference=min(pays["local_ms"], pays["cloud_ms"]),
        unit="ms",
        speedup=True,
        rows=rows,
        network=NETWORK,
        ranges=[entry.ranges for entry in plan.slices],
        edge_share_of_a_core=SHARE,
        reference_is=f"the better of all-local and all-cloud over the same {PAYS / 1e6:g} Mbit/s, in turns; medians",
    )


if __name__ == "__main__":
    main()
