"""A model of 600 MB that no planned function could hold: planned, cut, deployed, and asked slice after slice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import isthmus
from demo.system import System, wait_until
from isthmus.model.sliced import MAX_RELATIVE, SlicedModel
from isthmus.workflows.sliced_folder import load_sliced
from tests.e2e import world

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "wide"
WIDTH, LAYERS = 4096, 9
LAYER_BYTES = 4 * WIDTH * WIDTH
ROLL_OUT_SECONDS = 300
HERE = """schema: isthmus/device/1
id: desk
kind: edge
zone: onprem
arch: x86_64
cores: 1
memory_bytes: 1000000
disk_free_bytes: 1000000000
usage: [inference]
rates: {"*": {flops_per_second: 1.0e+9, bytes_per_second: 1.0e+9, overhead_seconds: 1.0e-5}}
links: [{to: relay, bytes_per_second: 1.0e+7, latency_seconds: 0.02}]
"""
LAMBDA = """schema: isthmus/device/1
id: lambda-%(number)d
kind: lambda
zone: "aws:eu-west-1"
arch: x86_64
cores: 1
memory_bytes: %(memory)d
disk_free_bytes: 536870912
usage: [inference]
rates: {"*": {flops_per_second: 5.0e+10, bytes_per_second: 1.0e+10, overhead_seconds: 1.0e-5}}
links: [{to: relay, bytes_per_second: 6.0e+7, latency_seconds: 0.02}]
"""
MEMORY_BYTES = 3 * LAYER_BYTES + 20_000_000
"""Of a function for weights: three layers, and what is computed with."""


def write_model(path: Path) -> Path:
    """Nine layers of 64 MiB, random and always the same."""
    random, nodes, held, name = np.random.default_rng(7), [], [], "x"
    for k in range(LAYERS):
        weights = random.standard_normal((WIDTH, WIDTH), dtype=np.float32) * np.float32(WIDTH**-0.5)
        held.append(numpy_helper.from_array(weights, f"w{k}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{k}"], [f"m{k}"], name=f"product{k}"))
        name = "y" if k == LAYERS - 1 else f"h{k}"
        nodes.append(helper.make_node("Tanh", [f"m{k}"], [name], name=f"bend{k}"))
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["n", WIDTH]) for end in ("x", "y")]
    graph = helper.make_graph(nodes, NAME, ends[:1], ends[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def write_devices(folder: Path, count: int = 4) -> list[Path]:
    """Where the input lies, which can hold nothing, and functions that hold a third of the model each."""
    (folder / "desk.yaml").write_text(HERE)
    for number in range(count):
        text = LAMBDA % {"number": number, "memory": MEMORY_BYTES}
        (folder / f"lambda-{number}.yaml").write_text(text)
    return [folder / "desk.yaml", *(folder / f"lambda-{number}.yaml" for number in range(count))]


def in_service(system: System, names: set[str]) -> bool:
    return names <= {entry["model"] for entry in json.loads(system.isthmus("model", "list", "--json"))}


def ask_in_turn(document: SlicedModel, client: isthmus.Client, x: Any) -> Any:
    """Ask slice after slice, each with what it reads of all that is known."""
    known = {"x": x}
    for entry in document.slices:
        answer = client.infer(entry.name, {spec.name: known[spec.name] for spec in entry.inputs})
        known |= answer.outputs
    return known["y"]


def test_a_model_of_600_mb_over_several_functions_answers_what_onnxruntime_answers(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.at_home(system, monkeypatch)
    model, devices = write_model(tmp_path / f"{NAME}.onnx"), write_devices(tmp_path)
    assert model.stat().st_size > 600_000_000
    plan, folder = tmp_path / "plan.json", tmp_path / "slices"
    system.isthmus("plan", model, "--devices", *devices, "-o", plan, "--json")
    system.isthmus("slice", model, "--plan", plan, "-o", folder, "--devices", *devices, "--deploy", "--json")
    document, _ = load_sliced(folder)
    assert len(document.slices) >= 3
    assert all(entry.size_bytes <= MEMORY_BYTES for entry in document.slices)
    assert document.proof.relative <= MAX_RELATIVE
    names = {entry.name for entry in document.slices}
    wait_until(
        lambda: in_service(system, names), "all slices to be in service", ROLL_OUT_SECONDS, every_seconds=3
    )
    x = np.random.default_rng(8).standard_normal((3, WIDTH), dtype=np.float32)
    expected = onnxruntime.InferenceSession(str(model)).run(None, {"x": x})[0]
    with isthmus.Client(api=world.outputs(system)["ApiUrl"]) as client:
        found = ask_in_turn(document, client, x)
    assert np.abs(found - expected).max() <= MAX_RELATIVE * np.ptp(expected)
