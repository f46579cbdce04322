"""Published planner workloads, read from the folder that ``ISTHMUS_WORKLOADS`` names.

``dnn-partitioning`` (msr-fiddle/dnn-partitioning): an accelerator pays a tensor's cost, in milliseconds
a sample, once for each crossing of its boundary, in and out; a CPU pays nothing. All figures are turned
into seconds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.planning.slicing.case import Graph, LoadCase, Signal

DEFAULT = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
MILLISECOND = 1e-3


def folder() -> Path:
    """Return where the workloads are.

    Raises:
        SystemExit: there are none; the sentence says what is needed.
    """
    found = Path(os.environ.get("ISTHMUS_WORKLOADS") or DEFAULT)
    if not found.is_dir():
        raise SystemExit(f"needs the published workloads in {found}: name their folder in ISTHMUS_WORKLOADS")
    return found


def throughput_graphs() -> dict[str, Path]:
    """Return every throughput graph, of inference and of training, by its name in ``known_optima.json``."""
    roots = sorted((folder() / "dnn-partitioning").glob("throughput*"))
    found = {
        str(path.relative_to(root).with_suffix("")): path
        for root in roots
        for path in sorted(root.rglob("*.json"))
    }
    if not found:
        raise SystemExit(f"needs dnn-partitioning's throughput graphs; there are none in {folder()}")
    return found


def known_optima() -> dict[str, Any]:
    """Return the published optima, by graph; values in milliseconds."""
    known: dict[str, Any] = json.loads((folder() / "dnn-partitioning" / "known_optima.json").read_text())
    found: dict[str, Any] = known["throughput"]
    return found


def dnn_partitioning(path: Path, *, contiguous: bool) -> LoadCase:
    """Read one graph, of inference or of training; devices are ``acc-0`` … and then ``cpu-0`` ….

    Operators of one ``colorClass`` are co-located; one without is alone. ``contiguous``: as ``throughput-dp`` has it,
    see :func:`isthmus.planning.slicing.blocks.precedence`.
    """
    raw = json.loads(path.read_text())
    nodes = {node["id"]: node for node in raw["nodes"]}
    index = {name: v for v, name in enumerate(sorted(nodes))}
    ordered = [nodes[name] for name in sorted(nodes)]
    consumers: dict[int, set[int]] = {}
    cost: dict[int, float] = {}
    for edge in raw["edges"]:
        source = index[edge["sourceId"]]
        if source != index[edge["destId"]]:
            consumers.setdefault(source, set()).add(index[edge["destId"]])
            cost[source] = max(cost.get(source, 0.0), float(edge["cost"]))
    colours = {colour: k for k, colour in enumerate(sorted({str(_colour(node)) for node in ordered}))}
    graph = Graph(
        names=tuple(str(node.get("name", node["id"])) for node in ordered),
        signals=tuple(
            Signal(u, tuple(sorted(found)), cost[u] * MILLISECOND) for u, found in sorted(consumers.items())
        ),
        groups=tuple(colours[str(_colour(node))] for node in ordered),
        backward=tuple(bool(node.get("isBackwardNode", False)) for node in ordered),
    )
    accelerators, cpus = int(raw["maxFPGAs"]), int(raw["maxCPUs"])
    on_accelerator = [
        node["fpgaLatency"] * MILLISECOND if node["supportedOnFpga"] else np.inf for node in ordered
    ]
    on_cpu = [node["cpuLatency"] * MILLISECOND for node in ordered]
    side = np.array([1.0] * accelerators + [0.0] * cpus)
    m = accelerators + cpus
    return LoadCase(
        graph=graph,
        devices=(*(f"acc-{i}" for i in range(accelerators)), *(f"cpu-{i}" for i in range(cpus))),
        seconds=np.array([on_accelerator] * accelerators + [on_cpu] * cpus, dtype=np.float64).T.copy(),
        memory_bytes=np.array([float(node.get("size", 0.0)) for node in ordered]),
        capacity_bytes=np.array([float(raw["maxSizePerFPGA"])] * accelerators + [np.inf] * cpus),
        send_seconds=np.repeat(side[:, None], m, axis=1),
        receive_seconds=np.repeat(side[None, :], m, axis=0),
        contiguous=contiguous,
    )


def _colour(node: dict[str, Any]) -> object:
    colour = node.get("colorClass")
    return ("alone", node["id"]) if colour is None else colour


def pipedream(name: str) -> Profile:
    """Read a profiled training graph of PipeDream (``vgg16``, ``resnet50``, ``gnmt``, ``squeezenet1_0``).

    The time of ``Input`` nodes is set to 0: it is of loading data. Each operator's signal is as large as its
    activations.
    """
    path = folder() / "pipedream" / f"{name}.graph.txt"
    lines = path.read_text().splitlines()
    nodes = dict(_pipedream_node(line) for line in lines if not line.startswith("\t"))
    index = {
        node: v for v, node in enumerate(sorted(nodes, key=lambda entry: int(entry.removeprefix("node"))))
    }
    consumers: dict[str, set[int]] = {}
    for line in lines:
        if line.startswith("\t"):
            source, target = line.strip().split(" -- ")
            consumers.setdefault(source, set()).add(index[target])
    ordered = [nodes[node] for node in index]
    graph = Graph(
        names=tuple(f"{node} {nodes[node].name}" for node in index),
        signals=tuple(
            Signal(index[node], tuple(sorted(found)), nodes[node].activation_bytes)
            for node, found in consumers.items()
        ),
    )
    return Profile(graph, tuple(ordered))


class PipedreamNode(NamedTuple):
    """Seconds of a mini-batch, and bytes."""

    name: str
    forward_seconds: float
    backward_seconds: float
    activation_bytes: float
    parameter_bytes: float


class Profile(NamedTuple):
    """``nodes``: by the graph's index."""

    graph: Graph
    nodes: tuple[PipedreamNode, ...]


def _pipedream_node(line: str) -> tuple[str, PipedreamNode]:
    """``node4 -- ReLU(inplace) -- forward_compute_time=1.1, …, activation_size=2.0, parameter_size=3.0``."""
    node, name, numbers = line.split(" -- ")
    found: dict[str, float] = {}
    for field in numbers.split(", "):
        key, value = field.split("=")
        # Operators with several outputs list each one's size.
        found[key] = sum(float(part) for part in value.strip("[]").split("; "))
    loads = name.startswith("Input")
    return node, PipedreamNode(
        name,
        0.0 if loads else found["forward_compute_time"] * MILLISECOND,
        0.0 if loads else found["backward_compute_time"] * MILLISECOND,
        found["activation_size"],
        found["parameter_size"],
    )


def pipeedge(model: str, boards: dict[str, int]) -> LoadCase:
    """Read PipeEdge's profile of a transformer on edge boards: seconds of a batch of 8.

    A board computes, sends and receives at once; its link is 1,000 Mbps of 1,048,576 bits, as PipeEdge counts.
    ``boards``: how many of each type.
    """
    import yaml

    root = folder() / "pipeedge"
    network = yaml.safe_load((root / "models.yml").read_text())[model]
    types = yaml.safe_load((root / "device_types.yml").read_text())
    layers, batch = int(network["layers"]), 8
    outputs = [
        network["parameters_out"][v % len(network["parameters_out"])] * 4.0 * batch for v in range(layers)
    ]
    kinds = [kind for kind, count in sorted(boards.items()) for _ in range(count)]
    seconds = [types[kind]["model_profiles"][model][0]["time_s"] for kind in kinds]
    rate = {kind: types[kind]["bw_Mbps"] * 2**20 / 8 for kind in boards}
    pace = np.array([[1 / min(rate[a], rate[b]) for b in kinds] for a in kinds])
    return LoadCase(
        graph=Graph(
            tuple(f"layer{v}" for v in range(layers)),
            tuple(Signal(v, (v + 1,), outputs[v]) for v in range(layers - 1)),
        ),
        devices=tuple(f"{kind}-{k}" for k, kind in enumerate(kinds)),
        seconds=np.array(seconds, dtype=np.float64).T.copy(),
        memory_bytes=np.array(network["mem_MB"], dtype=np.float64) * 2**20,
        capacity_bytes=np.array([types[kind]["mem_MB"] * 2.0**20 for kind in kinds]),
        send_seconds=pace,
        receive_seconds=pace,
        overlap=True,
    )
