"""``isthmus profile``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from isthmus.cli.main import main
from isthmus.documents import decode
from isthmus.model.network import NetworkProfile

DEVICE = {"id": "edge", "kind": "edge", "zone": "z", "arch": "aarch64", "cores": 4} | {
    "memory_bytes": 1,
    "disk_free_bytes": 1,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node(kind, [x], [y], name=y) for kind, x, y in (("Relu", "x", "a"), ("Erf", "a", "y"))
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "two", ends[:1], ends[1:])
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_a_profile_is_printed_and_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(model), "--batch", "4", "-o", str(tmp_path / "two.json")]) == 0
    assert capsys.readouterr().out.startswith("two: 2 operators")
    written = decode(NetworkProfile, (tmp_path / "two.json").read_bytes(), "the profile")
    assert (written.batch, [operator.kind for operator in written.operators]) == (4, ["Relu", "Erf"])


def test_seconds_are_predicted_from_a_descriptor_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.json"
    file.write_text(json.dumps(DEVICE | {"rates": {"*": {"overhead_seconds": 0.25}}}))
    assert main(["profile", str(model), "--on", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["predicted_seconds"] for entry in found["slices"]] == [0.25, 0.25]
    assert found["median_error"] is None


def test_this_machine_runs_the_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(model), "--on", "this", "--json", "-o", str(tmp_path / "two.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(entry["measured_seconds"] > 0 for entry in found["slices"])
    written = decode(NetworkProfile, (tmp_path / "two.json").read_bytes(), "the profile")
    assert all(set(operator.seconds) == {found["device"]} for operator in written.operators)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--calibrate"], "go with --on this"),
        (["--dimension", "sequence"], "--dimension needs NAME=N"),
        (["--batch", "0"], "needs a batch of at least 1"),
        (["--on", "nowhere.json"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(
    model: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(model), *arguments]) == 2
    assert sentence in capsys.readouterr().err
