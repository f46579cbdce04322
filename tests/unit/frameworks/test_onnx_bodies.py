"""What the bodies of an If or a Loop read from around them is read by the operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from profile_networks import branching, value

from isthmus.frameworks.onnx import fuse
from isthmus.frameworks.onnx.bodies import reads
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.frameworks.onnx.leakage import measure
from isthmus.frameworks.onnx.profile import from_graph


@pytest.fixture(scope="module")
def cutter(tmp_path_factory: pytest.TempPathFactory) -> Cutter:
    return Cutter(branching(tmp_path_factory.mktemp("models") / "branching.onnx"))


def test_the_operator_lists_what_its_bodies_read(cutter: Cutter) -> None:
    (body,) = [operator for operator in from_graph(cutter.graph).operators if operator.kind == "If"]
    assert set(body.inputs) == {"cond", "x", "h"}
    assert [entry.name for entry in body.parameters] == ["w3"]
    assert body.moved_bytes == 1 + 3 * 64 * 4


def test_a_body_within_a_body_reads_what_neither_makes() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["far", "near"], ["sum"])], "inner", [], [value("sum", [1])]
    )
    nodes = [
        helper.make_node("Relu", ["given"], ["near"]),
        helper.make_node("If", ["asked"], ["out"], then_branch=inner, else_branch=inner),
    ]
    given = [value("given", [1]), value("asked", [1], TensorProto.BOOL)]
    outer = helper.make_graph(nodes, "outer", given, [value("out", [1]), value("as_it_is", [1])])
    node = helper.make_node("Loop", ["count", "", "state"], ["end"], body=outer)
    assert set(reads(node)) == {"count", "state", "far", "as_it_is"}


def test_a_convolution_that_a_body_reads_is_not_fused_away() -> None:
    branch = helper.make_graph([helper.make_node("Neg", ["c"], ["n"])], "branch", [], [value("n", [1])])
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("If", ["cond"], ["z"], then_branch=branch, else_branch=branch),
    ]
    graph = helper.make_graph(nodes, "read twice", [value("x", [1])], [value("r", [1]), value("z", [1])])
    assert [group.nodes for group in fuse.groups(graph)] == [(0,), (1,), (2,)]


def test_slices_hand_a_body_what_it_reads(cutter: Cutter) -> None:
    x = np.random.default_rng(1).standard_normal((2, 64)).astype("float32")
    known, count = {"x": x}, len(cutter.groups)
    for start in range(count):
        session = _session(cutter.slice(start, start + 1, 2))
        asked = {entry.name: known[entry.name] for entry in session.get_inputs()}
        names = [entry.name for entry in session.get_outputs()]
        known |= dict(zip(names, session.run(None, asked), strict=True))
    whole = _session(cutter.model).run(None, {"x": x})[0]
    np.testing.assert_allclose(known["y"], whole, rtol=1e-4, atol=1e-4)


def test_leakage_of_what_a_body_alone_reads_is_measured(tmp_path: Path) -> None:
    samples = np.random.default_rng(2).standard_normal((300, 64)).astype("float32")
    found = measure(branching(tmp_path / "branching.onnx"), samples, fit=100)
    assert {("h",), ("z",)} <= {cut.tensors for cut in found.cuts}


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
