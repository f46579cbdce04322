"""What a request may make a model do: its fault, not the server's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundle_factory import save
from onnx import TensorProto, helper, numpy_helper

from isthmus.errors import InvalidModel, InvalidRequest, PayloadTooLarge
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.output_size import MAX_OUTPUT_BYTES, check_size_of_outputs
from isthmus.model.bundle import TensorSpec


def reshaping(path: Path, shape: list[int]) -> OnnxEngine:
    """A model that only runs on what has the shape."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "reshaping",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", "k"])],
        [numpy_helper.from_array(np.array(shape), "shape")],
    )
    save(graph, path)
    return OnnxEngine(path)


def floats(count: int) -> dict[str, np.ndarray]:
    return {"x": np.zeros(count, np.float32)}


def test_a_model_that_answered_others_refuses_what_it_cannot_run_on(tmp_path: Path) -> None:
    engine = reshaping(tmp_path / "m.onnx", [-1, 2])
    assert engine.run(floats(4))["y"].shape == (2, 2)
    with pytest.raises(InvalidRequest, match="cannot run on these inputs"):
        engine.run(floats(3))


def test_a_model_that_would_answer_refuses_too(tmp_path: Path) -> None:
    engine = reshaping(tmp_path / "m.onnx", [1, 1])
    with pytest.raises(InvalidRequest, match="cannot run on these inputs"):
        engine.run(floats(3))


def test_a_model_of_which_nothing_is_known_is_at_fault(tmp_path: Path) -> None:
    engine = reshaping(tmp_path / "m.onnx", [7, 7])
    with pytest.raises(InvalidModel, match="fails on these inputs"):
        engine.run(floats(3))


def test_outputs_are_weighed_before_they_are_computed() -> None:
    wide = TensorSpec(name="y", datatype="FP32", shape=(-1, 1024))
    most = MAX_OUTPUT_BYTES // 4096
    check_size_of_outputs(floats(most), (wide,))
    with pytest.raises(PayloadTooLarge, match="outputs for 65,537 rows would be"):
        check_size_of_outputs(floats(most + 1), (wide,))


@pytest.mark.parametrize("shape", [(), (3,), (-1,), (-1, -1), (1, -1)])
@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT64", "FP16", "FP64", "BYTES"])
def test_outputs_of_any_form_can_be_weighed(shape: tuple[int, ...], datatype: str) -> None:
    check_size_of_outputs(floats(10), (TensorSpec(name="y", datatype=datatype, shape=shape),))  # type: ignore[arg-type]
