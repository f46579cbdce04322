"""Published graphs of training are read like those of inference: passes, co-location by colour, what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import workloads
from isthmus.planning.slicing import lattice
from isthmus.planning.slicing.verify import verify


def node(number: int, *, back: object, colour: int | None = None, **more: object) -> dict[str, object]:
    found = {
        "id": number,
        "supportedOnFpga": 1,
        "cpuLatency": 40.0,
        "fpgaLatency": 4.0,
        "isBackwardNode": back,
    }
    if colour is not None:
        found["colorClass"] = colour
    return found | more


def graph() -> dict[str, object]:
    """Two layers, whose gradients run as the forward pass does, and one that is added up where nothing else is."""
    nodes = [
        node(1, back=0, colour=7, size=5.0, name="first"),
        node(2, back=0, colour=8, size=6.0),
        node(3, back=1, colour=7, size=5.0),
        node(4, back=1, colour=8),
        node(9, back=True, supportedOnFpga=False, cpuLatency=1.0),
    ]
    edges = [(1, 2, 0.5), (3, 4, 0.25), (3, 9, 0.25), (4, 4, 9.0)]
    return {
        "maxSizePerFPGA": 11.0,
        "maxFPGAs": 2,
        "maxCPUs": 1,
        "nodes": nodes,
        "edges": [{"sourceId": u, "destId": v, "cost": cost} for u, v, cost in edges],
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "dnn-partitioning" / "throughput" / "LayerGraphs" / "small_training.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(graph()))
    monkeypatch.setenv("ISTHMUS_WORKLOADS", str(tmp_path))
    return path


def test_training_graphs_are_found_and_read(folder: Path) -> None:
    assert workloads.throughput_graphs() == {"LayerGraphs/small_training": folder}
    case = workloads.dnn_partitioning(folder, contiguous=True)
    assert case.graph.names == ("first", "2", "3", "4", "9")
    assert case.graph.backward == (False, False, True, True, True)
    assert case.graph.colocated == ((0, 2), (1, 3), (4,))
    assert case.memory_bytes.tolist() == [5.0, 6.0, 5.0, 0.0, 0.0]
    assert case.seconds[4].tolist() == [np.inf, np.inf, 1e-3]
    assert case.graph.edges == ((0, 1), (2, 3), (2, 4))


def test_a_training_graph_is_sliced_by_its_layers(folder: Path) -> None:
    """Each layer, with its gradient, on an accelerator: 8 ms, and what crosses, 0.75 ms; the sum on the CPU."""
    case = workloads.dnn_partitioning(folder, contiguous=True)
    found = lattice.solve(case)
    assert verify(case, found) == pytest.approx(8.75e-3)
    assert {stage.operators for stage in found.stages} == {(0, 2), (1, 3), (4,)}
