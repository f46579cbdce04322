"""Profiles of ONNX files: operators, bytes, shapes, slices, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from profile_networks import residual, save, tied, value, weights

from isthmus.errors import InvalidCase, InvalidModel
from isthmus.frameworks import networks
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.frameworks.onnx.measure import measure
from isthmus.frameworks.onnx.profile import from_graph, profile
from isthmus.inference.files import sha256_file


@pytest.fixture(scope="module")
def cutter(tmp_path_factory: pytest.TempPathFactory) -> Cutter:
    return Cutter(residual(tmp_path_factory.mktemp("models") / "residual.onnx"))


def test_operators_are_those_that_run_fused(cutter: Cutter) -> None:
    found = from_graph(cutter.graph)
    assert [operator.name for operator in found.operators] == [
        "first",
        "second",
        "pool",
        "flatten",
        "classify",
    ]
    first, second, *_, classify = found.operators
    assert (first.kind, first.rate_class) == ("FusedConv", "conv/shallow/1")
    assert (second.kind, second.rate_class) == ("Conv", "conv/3x3/1")
    assert second.inputs == ("r1",)
    assert second.outputs == ("r2",)
    assert classify.rate_class == "matmul/weights"


def test_a_multiply_add_counts_as_two_operations(cutter: Cutter) -> None:
    first, second, *_, classify = from_graph(cutter.graph).operators
    outputs = 32 * 16 * 16
    assert first.flops == 2 * 27 * outputs + outputs
    # Beside the products the bias, the addition and the activation, one operation an element each.
    assert second.flops == 2 * 288 * outputs + 3 * outputs
    assert classify.flops == 2 * 32 * 10 + 10
    assert second.parameter_bytes == 4 * (32 * 32 * 9 + 32)


def test_bytes_follow_for_any_batch(cutter: Cutter) -> None:
    found = from_graph(cutter.graph)
    tensor = {entry.name: entry for entry in found.tensors}["r2"]
    assert (tensor.shape, tensor.dtype, tensor.fixed_bytes) == ((32, 16, 16), "float32", 0)
    assert tensor.bytes_at(7) == 7 * 32 * 16 * 16 * 4
    assert (found.inputs, found.outputs, found.source) == (("image",), ("scores",), "onnx")
    assert len(found.digest) == 64


def test_every_input_is_made_before_it_is_read(tmp_path: Path) -> None:
    found = profile(tied(tmp_path / "tied.onnx"))
    known = set(found.inputs)
    for operator in found.operators:
        assert set(operator.inputs) <= known, operator.name
        known |= set(operator.outputs)
    assert set(found.outputs) <= known


def test_shared_weights_have_one_name_and_small_constants_do_not(tmp_path: Path) -> None:
    held = {
        operator.name: [entry.name for entry in operator.parameters]
        for operator in profile(tied(tmp_path / "tied.onnx")).operators
    }
    assert held["embed"] == held["embed2"] == ["table"]
    assert held["scale1"] != held["scale2"]


def test_an_optimised_model_reads_as_the_one_that_it_came_from(cutter: Cutter, tmp_path: Path) -> None:
    path = tmp_path / "optimised.onnx"
    onnx.save(cutter.model, str(path))
    again, before = profile(path), from_graph(cutter.graph)
    assert [operator.flops for operator in again.operators] == [
        operator.flops for operator in before.operators
    ]


def test_slices_one_after_the_other_compute_what_the_whole_does(cutter: Cutter, tmp_path: Path) -> None:
    path = tmp_path / "whole.onnx"
    onnx.save(cutter.model, str(path))
    image = np.random.default_rng(1).standard_normal((3, 3, 16, 16)).astype("float32")
    known = {"image": image}
    for start, end in ((0, 1), (1, 3), (3, 5)):
        session = _session(cutter.slice(start, end, 3).SerializeToString())
        asked = {entry.name: known[entry.name] for entry in session.get_inputs()}
        names = [entry.name for entry in session.get_outputs()]
        known |= dict(zip(names, session.run(None, asked), strict=True))
    whole = _session(str(path)).run(None, {"image": image})[0]
    np.testing.assert_allclose(known["scores"], whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("start", "end"), [(0, 0), (2, 1), (-1, 2), (0, 9)])
def test_a_slice_must_lie_within_the_network(cutter: Cutter, start: int, end: int) -> None:
    with pytest.raises(InvalidCase, match=r"needs a range within \[0, 5\)"):
        cutter.slice(start, end, 1)


def test_measuring_fills_in_the_seconds_of_each_operator(cutter: Cutter) -> None:
    found = measure(cutter, from_graph(cutter.graph), "here", rounds=3)
    seconds = {operator.name: operator.seconds["here"] for operator in found.operators}
    assert seconds["second"] > 0
    assert all(taken >= 0 for taken in seconds.values())


def test_operators_without_names_are_told_apart(tmp_path: Path) -> None:
    nodes = [helper.make_node("Erf", [x], [y]) for x, y in (("x", "a"), ("a", "y"))]
    path = save(
        tmp_path / "nameless.onnx", nodes, [value("x", ["batch", 4096])], [value("y", ["batch", 4096])]
    )
    cutter = Cutter(path)
    found = measure(cutter, from_graph(cutter.graph), "here", rounds=3)
    assert [operator.name for operator in found.operators] == ["a", "y"]
    assert all(operator.seconds["here"] > 0 for operator in found.operators)


def test_weights_that_are_listed_as_inputs_too_are_weights(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="project")]
    inputs = [value("x", ["batch", 64]), value("w", [64, 32]), value("unused", [])]
    held = [weights("w", 64, 32), onnx.numpy_helper.from_array(np.array(7.0, "float32"), "unused")]
    path = save(tmp_path / "listed.onnx", nodes, inputs, [value("y", ["batch", 32])], held)
    found = profile(path)
    assert found.inputs == ("x",)
    assert [entry.name for entry in found.operators[0].parameters] == ["w"]
    assert [entry.name for entry in Cutter(path).slice(0, 1, None).graph.input] == ["x"]


def test_slices_leave_open_what_the_batch_or_values_decide(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="first"),
        helper.make_node("NonZero", ["r"], ["where"], name="search"),
        helper.make_node("Cast", ["where"], ["y"], name="number", to=TensorProto.FLOAT),
    ]
    path = save(tmp_path / "values.onnx", nodes, [value("x", ["batch", 8])], [value("y", ["rank", "found"])])
    cutter = Cutter(path)
    shapes = [
        [
            dim.dim_param or dim.dim_value
            for dim in cutter.slice(k, k + 1, None).graph.output[0].type.tensor_type.shape.dim
        ]
        for k in range(3)
    ]
    assert shapes == [["batch", 8], [2, 0], [2, 0]]


def test_other_open_dimensions_are_asked_for_and_taken(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="project")]
    path = save(
        tmp_path / "open.onnx",
        nodes,
        [value("x", ["batch", "sequence", 64])],
        [value("y", ["batch", "sequence", 32])],
        [weights("w", 64, 32)],
    )
    with pytest.raises(
        InvalidModel, match="leaves dimension sequence open; say its size: --dimension sequence="
    ):
        profile(path)
    found = profile(path, {"sequence": 10})
    assert found.operators[0].sizes == {"rows": 10, "in": 64, "out": 32}
    assert found.operators[0].batch_axis == "rows"


def test_a_fixed_batch_is_one_sample(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="only")]
    found = profile(save(tmp_path / "fixed.onnx", nodes, [value("x", [4, 8])], [value("y", [4, 8])]))
    assert [tensor.bytes_at(1) for tensor in found.tensors] == [128, 128]


def test_shapes_that_depend_on_values_are_seen_in_a_run(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"], name="search"),
        helper.make_node("Cast", ["where"], ["y"], name="number", to=TensorProto.FLOAT),
    ]
    found = profile(
        save(tmp_path / "values.onnx", nodes, [value("x", ["batch", 8])], [value("y", ["rank", "found"])])
    )
    assert {tensor.name: tensor.sample_bytes for tensor in found.tensors}["where"] == 2 * 8 * 8


def _cycle(path: Path) -> Path:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    return save(path, nodes, [value("x", [1])], [value("b", [1])])


def _garbage(path: Path) -> Path:
    path.write_bytes(b"\xff" * 100)
    return path


def _mismatch(path: Path) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return save(path, nodes, [value("x", [1, 7])], [value("y", [1, 4])], [weights("w", 8, 4)])


def _unknown(path: Path) -> Path:
    nodes = [helper.make_node("Nonsense", ["x"], ["y"])]
    return save(path, nodes, [value("x", [1])], [value("y", [1])])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_cycle, "not a valid ONNX model.*topological"),
        (_garbage, "not a valid ONNX model"),
        (_mismatch, "onnxruntime cannot load"),
        (_unknown, "not a valid ONNX model.*Nonsense"),
        (lambda path: path, "cannot be read: No such file"),
    ],
    ids=["cycle", "garbage", "mismatch", "unknown operator", "missing"],
)
def test_what_is_no_network_is_refused_in_a_sentence(tmp_path: Path, make: object, sentence: str) -> None:
    path = make(tmp_path / "model.onnx")  # type: ignore[operator]
    with pytest.raises(InvalidModel, match=sentence):
        profile(path)


def test_too_large_a_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31)
    with pytest.raises(InvalidModel, match="keep its weights as external data"):
        profile(path)


def test_other_weights_beside_a_model_are_another_model(tmp_path: Path) -> None:
    path = residual(tmp_path / "net.onnx")
    inside = profile(path).digest
    assert inside == sha256_file(path)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="net.weights", size_threshold=0)
    file, first = sha256_file(path), profile(path).digest
    weights = bytearray((tmp_path / "net.weights").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "net.weights").write_bytes(weights)
    assert sha256_file(path) == file
    assert len({inside, file, first, profile(path).digest}) == 4


def test_a_model_without_operators_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"not a valid ONNX model|no operators left"):
        profile(save(tmp_path / "empty.onnx", [], [value("x", [1])], [value("x", [1])]))


def test_a_trained_mxnet_folder_is_read_by_its_export(tmp_path: Path) -> None:
    (tmp_path / "model-symbol.json").write_text("{}")
    residual(tmp_path / "model.onnx")
    found = networks.profile(tmp_path)
    assert (found.source, found.name, len(found.operators)) == ("mxnet", tmp_path.name, 5)


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="a folder that holds no saved network"):
        networks.profile(tmp_path)


def _session(model: bytes | str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
