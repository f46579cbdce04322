"""What the client writes and reads, against a server of ours where one can say that it is right."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from bundle_factory import write_identity_model
from onnx import TensorProto

from isthmus.client.wire import as_json, read_answer, write_request
from isthmus.errors import InvalidAnswer, InvalidInput
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.http import HttpRequest, HttpResponse, json_response
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.served import ServedModel
from isthmus.inference.service import ModelService
from isthmus.model.bundle import BundleManifest, Lineage

ARRAYS = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([[0, 255], [7, 8]], np.uint8),
    "INT8": np.array([[-128, 127], [7, 8]], np.int8),
    "INT64": np.array([[-(2**63), 2**63 - 1], [0, 1]], np.int64),
    "UINT64": np.array([[0, 2**64 - 1], [0, 1]], np.uint64),
    "FP16": np.array([[0.5, -65504], [0, 1]], np.float16),
    "FP32": np.array([[0.1, -3e38], [np.nan, np.inf]], np.float32),
    "FP64": np.array([[0.1, -1e300], [-np.inf, 1e-320]], np.float64),
    "BYTES": np.array([["", "ä"], ["日本", "x" * 300]], object),
}
TYPES = {"BOOL": "BOOL", "FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}


FINITE = {
    name: np.nan_to_num(array, posinf=1, neginf=-1) if array.dtype.kind == "f" else array
    for name, array in ARRAYS.items()
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> ModelService:
    """A model that gives back what it gets: an input of each type, NaN allowed."""
    path = tmp_path_factory.mktemp("wire") / "identity.onnx"
    write_identity_model(
        path, {name: getattr(TensorProto, TYPES.get(name, name)) for name in ARRAYS}, ["n", 2]
    )
    inputs, outputs, opset = describe_onnx(path)
    manifest = BundleManifest(
        model="identity",
        release=3,
        files=(),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        lineage=Lineage(dataset="d", manifest_sha256="1" * 64, job_sha256="2" * 64, job_key="3" * 40),
        created_at="2026-01-01T00:00:00Z",
        allow_nan=True,
    )
    return ModelService([ServedModel(manifest, OnnxEngine(path))])


def there_and_back(service: ModelService, arrays: dict[str, Any], *, binary: bool) -> dict[str, Any]:
    headers, body = write_request(arrays, id="a", parameters={}, binary=binary)
    response = service.handle(HttpRequest("POST", "/v2/models/identity/infer", headers, body))
    assert response.status == 200, response.body
    answer, outputs = read_answer(response, id="a")
    assert (answer.model_name, answer.model_version) == ("identity", "3")
    return outputs


@pytest.mark.parametrize(("arrays", "binary"), [(FINITE, False), (FINITE, True), (ARRAYS, True)], ids=str)
def test_every_type_comes_back_as_it_was_sent(
    service: ModelService, arrays: dict[str, Any], binary: bool
) -> None:
    outputs = there_and_back(service, arrays, binary=binary)
    for name, array in arrays.items():
        np.testing.assert_array_equal(outputs[f"out_{name}"], array, strict=True)


@pytest.mark.parametrize("binary", [False, True])
def test_other_layouts_and_texts_are_sent_as_what_they_are(service: ModelService, binary: bool) -> None:
    odd = {**FINITE, "FP32": np.array([[1, 2], [3, 4]], ">f4").T, "BYTES": np.array([["a", "bc"], ["d", ""]])}
    outputs = there_and_back(service, odd, binary=binary)
    assert outputs["out_FP32"].tolist() == [[1, 3], [2, 4]]
    assert outputs["out_BYTES"].tolist() == [["a", "bc"], ["d", ""]]


def test_what_is_not_finite_has_names_in_json() -> None:
    tensor = as_json("x", np.array([1.5, np.nan, np.inf, -np.inf], np.float32))
    assert tensor == {
        "name": "x",
        "datatype": "FP32",
        "shape": [4],
        "data": [1.5, "NaN", "Infinity", "-Infinity"],
    }


def test_outputs_that_are_wanted_are_named() -> None:
    headers, body = write_request({"x": np.zeros(1)}, id="a", parameters={}, outputs=("y",), binary=False)
    assert headers == {"content-type": "application/json"}
    assert json.loads(body)["outputs"] == [{"name": "y"}]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([1j]), "complex128 has no name"),
        (np.array([{}], object), "not str"),
        (np.array(["\ud800"], object), "UTF-8"),
        (np.array([b"a"]), "has no name"),
        (np.zeros(2, [("a", "i4")]), "has no name"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_what_cannot_be_sent_is_bad_input(array: Any, said: str, binary: bool) -> None:
    with pytest.raises(InvalidInput, match=said if "UTF-8" not in said or binary else "JSON"):
        write_request({"x": array}, id="a", parameters={}, binary=binary)


def output(**changes: Any) -> dict[str, Any]:
    return {"name": "y", "datatype": "FP32", "shape": [2], "data": [1, 2], **changes}


def answer(*outputs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"model_name": "m", "model_version": "1", "id": "a", "outputs": list(outputs), **changes}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (answer(output(), id="b"), "answers the request 'b', not 'a'"),
        (answer(output(), id=None), "answers the request None"),
        (answer(output(shape=[3])), r"not FP32 \[3\]"),
        (answer(output(shape=[2, -1])), "not FP32"),
        (answer(output(shape=[1 << 62, 1 << 62])), "not FP32"),
        (answer(output(data=[1, "x"])), "not FP32"),
        (answer(output(data=[[1], [2, 3]])), "not FP32"),
        (answer(output(datatype="UINT8", data=[1, 300])), "not UINT8"),
        (answer(output(datatype="BOOL")), "no bool"),
        (answer(output(datatype="BYTES")), "no str"),
        (answer(output(datatype="FP8")), "no answer"),
        (answer(output(data=None)), "neither data"),
        (answer(output(data=None, parameters={"binary_data_size": 8})), "neither data"),
        (answer(output(data=None, parameters={"binary_data_size": -1})), "neither data"),
        (answer(output(data=None, parameters={"binary_data_size": "8"})), "neither data"),
        ({"error": "what?"}, "no answer"),
        ([], "no answer"),
    ],
)
def test_a_wrong_answer_is_told_from_a_right_one(wrong: Any, said: str) -> None:
    with pytest.raises(InvalidAnswer, match=said):
        read_answer(json_response(wrong), id="a")


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000, b'{"outputs": "'])
def test_what_is_no_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        read_answer(HttpResponse(200, body), id="a")


def binary_answer(rest: bytes, **changes: Any) -> HttpResponse:
    text = json.dumps(answer(output(data=None, **changes))).encode()
    return HttpResponse(200, text + rest, {"Inference-Header-Content-Length": str(len(text))})


@pytest.mark.parametrize(
    ("rest", "changes", "said"),
    [
        (b"\0" * 8, {"parameters": {"binary_data_size": 4}}, "follow its last output|not FP32"),
        (b"\0" * 8, {"parameters": {"binary_data_size": 8}, "shape": [3]}, "not FP32"),
        (b"\0" * 9, {"parameters": {"binary_data_size": 9}}, "not FP32"),
        (
            b"\x09\0\0\0ab",
            {"parameters": {"binary_data_size": 6}, "datatype": "BYTES", "shape": [1]},
            "1 strings",
        ),
        (
            b"\x01\0\0\0\xff",
            {"parameters": {"binary_data_size": 5}, "datatype": "BYTES", "shape": [1]},
            "BYTES",
        ),
        (
            b"\x01\0\0\0a",
            {"parameters": {"binary_data_size": 5}, "datatype": "BYTES", "shape": [9]},
            "9 strings",
        ),
    ],
)
def test_bytes_that_are_not_what_they_say_are_a_wrong_answer(
    rest: bytes, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidAnswer, match=said):
        read_answer(binary_answer(rest, **changes), id="a")


def test_bytes_that_nobody_names_are_a_wrong_answer() -> None:
    text = json.dumps(answer(output())).encode()
    response = HttpResponse(200, text + b"more", {"Inference-Header-Content-Length": str(len(text))})
    with pytest.raises(InvalidAnswer, match="4 bytes follow"):
        read_answer(response, id="a")
