"""The binary tensor data extension: what goes in as bytes comes out as bytes, and what does not fit is told so."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from bundle_factory import WEIGHTS, write_identity_model
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto

from isthmus.errors import InvalidModel, InvalidRequest
from isthmus.inference.binary import HEADER, read_binary, write_binary
from isthmus.inference.bundle import Bundle
from isthmus.inference.datatypes import NUMPY, from_numpy
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.events import MAX_BINARY_BYTES, MAX_LAMBDA_BYTES, RESPONSE_ROOM_BYTES, to_proxy
from isthmus.inference.http import HttpRequest, HttpResponse, json_response
from isthmus.inference.infer import MAX_JSON_BYTES
from isthmus.inference.lambda_handler import answer
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.served import ServedModel
from isthmus.inference.service import ModelService, served
from isthmus.inference.tensors import InputTensor
from isthmus.model.bundle import BundleManifest, Lineage, TensorSpec

INFER = "/v2/models/fashion/infer"
X = np.float32([[1, 2, 3, 4]])
ALL = {"parameters": {"binary_data_output": True}}


def described(name: str, array: np.ndarray, size: int | None = None) -> dict[str, Any]:
    size = array.nbytes if size is None else size
    datatype = from_numpy(array.dtype)
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": datatype,
        "parameters": {"binary_data_size": size},
    }


def body(call: dict[str, Any], *pieces: bytes) -> tuple[bytes, int]:
    text = msgspec.json.encode(call)
    return b"".join((text, *pieces)), len(text)


def send(service: ModelService, data: bytes, header: object, path: str = INFER, **more: str) -> HttpResponse:
    headers = {"Inference-Header-Content-Length": str(header), **more}
    return service.handle(HttpRequest("POST", path, headers, data))


def unpack(response: HttpResponse) -> tuple[dict[str, Any], bytes]:
    assert response.status == 200, response.body
    end = int(response.headers.get(HEADER, len(response.body)))
    return msgspec.json.decode(response.body[:end]), response.body[end:]


def test_bytes_in_and_bytes_out(service: ModelService) -> None:
    data, length = body({"id": "7", "inputs": [described("x", X)], **ALL}, X.tobytes())
    response = send(service, data, length, **{"Content-Type": "application/octet-stream"})
    answer, rest = unpack(response)
    assert response.headers["content-type"] == "application/octet-stream"
    assert answer["id"] == "7"
    assert answer["outputs"] == [
        {"name": "logits", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}
    ]
    np.testing.assert_allclose(np.frombuffer(rest, "<f4"), (X @ WEIGHTS)[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "binary"),
    [
        ({}, False),
        (ALL, True),
        ({"outputs": [{"name": "logits"}]}, False),
        ({"outputs": [{"name": "logits"}], **ALL}, True),
        ({"outputs": [{"name": "logits", "parameters": {"binary_data": True}}]}, True),
        ({"outputs": [{"name": "logits", "parameters": {"binary_data": False}}], **ALL}, False),
    ],
)
def test_who_asks_for_bytes_gets_them(service: ModelService, call: dict[str, Any], binary: bool) -> None:
    data, length = body({"inputs": [described("x", X)], **call}, X.tobytes())
    answer, rest = unpack(send(service, data, length))
    assert ("data" in answer["outputs"][0], len(rest)) == (not binary, 12 if binary else 0)


def test_json_in_and_bytes_out_needs_no_header(service: ModelService) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    data, _ = body({"inputs": [x], **ALL})
    _, rest = unpack(service.handle(HttpRequest("POST", INFER, {"content-type": "application/json"}, data)))
    np.testing.assert_allclose(np.frombuffer(rest, "<f4"), (X @ WEIGHTS)[0], rtol=1e-6)


def test_labels_travel_as_bytes(service: ModelService) -> None:
    pixels = np.array([[[0, 0], [0, 255]]], np.uint8)
    parameters = {"preprocess": True, "postprocess": True, "binary_data_output": True}
    call = {"inputs": [described("pixels", pixels)], "outputs": [{"name": "label"}], "parameters": parameters}
    data, length = body(call, pixels.tobytes())
    answer, rest = unpack(send(service, data, length))
    assert answer["outputs"][0]["datatype"] == "BYTES"
    assert rest == struct.pack("<I", 3) + b"bag" + struct.pack("<I", 4) + b"shoe"


GOOD = {"inputs": [described("x", X)]}
RAW = X.tobytes()


def told(service: ModelService, data: bytes, header: object, **headers: str) -> tuple[int, str]:
    response = send(service, data, header, **headers)
    return response.status, msgspec.json.decode(response.body)["error"]


@pytest.mark.parametrize(
    ("call", "pieces", "says"),
    [
        (GOOD, [], "add up to 16, but 0 bytes follow"),
        (GOOD, [RAW, b"\0"], "add up to 16, but 17 bytes follow"),
        ({"inputs": [described("x", X, 12)]}, [RAW[:12]], "needs 16 bytes of FP32, not 12"),
        ({"inputs": [described("x", X, 2**40)]}, [RAW], "add up to 1099511627776"),
        ({"inputs": [described("x", X, -16)]}, [RAW], "must be a number of bytes, not -16"),
        ({"inputs": [{**described("x", X), "parameters": {"binary_data_size": "16"}}]}, [RAW], "not '16'"),
        ({"inputs": [{**described("x", X), "parameters": {"binary_data_size": True}}]}, [RAW], "not True"),
        ({"inputs": [{**described("x", X), "parameters": {}}]}, [RAW], "add up to 0, but 16 bytes"),
        ({"inputs": [{**described("x", X), "parameters": {}}]}, [], "needs data, or binary_data_size"),
        ({"inputs": [{**described("x", X), "shape": [1, 5]}]}, [RAW], "must have shape [-1, 4]"),
        ({"inputs": [{**described("x", X), "shape": [10**30, 4]}]}, [RAW], "Expected `int` <= 922"),
        ({"inputs": [{**described("x", X), "shape": [2**60, 4]}]}, [RAW], "needs 18446744073709551616 bytes"),
        ({"inputs": [{**described("x", X), "datatype": "FP64"}]}, [RAW], "must be FP32, not FP64"),
        (GOOD, [np.float32([[1, 2, 3, np.nan]]).tobytes()], "takes finite numbers only"),
        ({**GOOD, "parameters": {"binary_data_output": "yes"}}, [RAW], "must be true or false"),
        (
            {**GOOD, "outputs": [{"name": "logits", "parameters": {"binary_data": 1}}]},
            [RAW],
            "must be true or false",
        ),
        (
            {**GOOD, "outputs": [{"name": "logits", "parameters": {"shared_memory_region": "r"}}]},
            [RAW],
            "asks for 'shared_memory_region', which this server does not know",
        ),
    ],
)
def test_what_does_not_fit_is_told_so(
    service: ModelService, call: dict[str, Any], pieces: list[bytes], says: str
) -> None:
    data, length = body(call, *pieces)
    status, error = told(service, data, length)
    assert (status, says in error) == (400, True), error


@pytest.mark.parametrize("header", ["-1", "1_0", "x", "9" * 30, "²", "99999", "1.0"])
def test_a_header_that_is_no_length_of_the_body(service: ModelService, header: str) -> None:
    data, _ = body(GOOD, RAW)
    status, error = told(service, data, header)
    assert (status, HEADER in error) == (400, True), error


def test_bytes_without_the_header_are_not_understood(service: ModelService) -> None:
    headers = {"content-type": "application/octet-stream"}
    assert service.handle(HttpRequest("POST", INFER, headers, RAW)).status == 415


EVERY = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> ModelService:
    """A model of one input and one output of every datatype that is served."""
    path = tmp_path_factory.mktemp("echo") / "model.onnx"
    write_identity_model(path, EVERY, ["n"])
    inputs, outputs, opset = describe_onnx(path)
    manifest = BundleManifest(
        model="echo",
        release=1,
        files=(),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        lineage=Lineage(dataset="d", manifest_sha256="1" * 64, job_sha256="2" * 64, job_key="3" * 40),
        created_at="2026-01-01T00:00:00Z",
    )
    return ModelService([ServedModel(manifest, OnnxEngine(path))])


def example(datatype: str) -> np.ndarray:
    if datatype == "BYTES":
        return np.array(["", "ünï", "\0x"], dtype=object)
    return np.array([0, 1, 1]).astype(NUMPY[datatype])


def test_every_datatype_there_and_back_in_one_request(echo: ModelService) -> None:
    """Some as bytes, some as JSON, in both directions."""
    assert set(EVERY) == set(NUMPY)
    inputs, pieces, wanted = [], [], []
    for number, datatype in enumerate(EVERY):
        array = example(datatype)
        if number % 2:
            data = {"shape": [3], "datatype": datatype, "data": array.tolist()}
            inputs.append({"name": datatype, **data})
        else:
            pieces.append(bytes(write_binary(datatype, array)))
            inputs.append(described(datatype, array, len(pieces[-1])))
        wanted.append({"name": f"out_{datatype}", "parameters": {"binary_data": number % 3 == 0}})
    data, length = body({"inputs": inputs, "outputs": wanted}, *pieces)
    answer, rest = unpack(send(echo, data, length, "/v2/models/echo/infer"))
    for output in answer["outputs"]:
        expected = example(output["datatype"])
        if size := output.get("parameters", {}).get("binary_data_size"):
            assert rest[:size] == bytes(write_binary("", expected))
            rest = rest[size:]
        else:
            assert output["data"] == expected.tolist()
    assert [output["name"] for output in answer["outputs"]] == [f"out_{name}" for name in EVERY]
    assert rest == b""


@given(st.data())
def test_bytes_keep_every_value(data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from(list(NUMPY)))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
    if datatype == "BYTES":
        flat = st.lists(
            st.text(st.characters(exclude_categories=["Cs"])), min_size=(n := int(np.prod(shape))), max_size=n
        )
        array = np.empty(n, dtype=object)
        array[:] = data.draw(flat)
        array = array.reshape(shape)
    else:
        array = data.draw(hnp.arrays(NUMPY[datatype], shape))
    sent = memoryview(bytes(write_binary("x", array)))
    spec = TensorSpec(name="x", datatype=datatype, shape=shape)
    tensor = InputTensor(name="x", datatype=datatype, shape=list(shape))
    back = read_binary(tensor, sent, spec, allow_nan=True)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


def test_nothing_is_copied_on_the_way_in() -> None:
    data = np.arange(8, dtype=np.float32).tobytes()
    spec = TensorSpec(name="x", datatype="FP32", shape=(2, 4))
    tensor = InputTensor(name="x", datatype="FP32", shape=[2, 4])
    array = read_binary(tensor, memoryview(data), spec, allow_nan=False)
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))
    assert not array.flags.writeable


def strings(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        (b"", "needs 2 strings, but has 0 bytes"),
        (strings(b"a"), "needs 2 strings, but has 5 bytes"),
        (strings(b"abcd"), "ends within string 1 of 2"),
        (struct.pack("<I", 2**32 - 1) + b"abcdefgh", "ends within string 0 of 2"),
        (strings(b"a", b"b") + b"c", "1 bytes more than its 2 strings"),
        (strings(b"a", b"\xff"), "string 1 of input 'BYTES' is not UTF-8"),
    ],
)
def test_strings_that_do_not_fit(echo: ModelService, piece: bytes, says: str) -> None:
    inputs, pieces = [], []
    for datatype in EVERY:
        array = example(datatype)[:2]
        pieces.append(piece if datatype == "BYTES" else array.tobytes())
        inputs.append(described(datatype, array, len(pieces[-1])))
    data, length = body({"inputs": inputs}, *pieces)
    response = send(echo, data, length, "/v2/models/echo/infer")
    assert response.status == 400
    assert says in msgspec.json.decode(response.body)["error"]


def test_a_bool_is_zero_or_one() -> None:
    spec = TensorSpec(name="b", datatype="BOOL", shape=(2,))
    tensor = InputTensor(name="b", datatype="BOOL", shape=[2])
    with pytest.raises(InvalidRequest, match="neither 0 nor 1"):
        read_binary(tensor, memoryview(b"\x01\x02"), spec, allow_nan=False)


def test_a_string_that_is_no_text_is_the_models_fault() -> None:
    with pytest.raises(InvalidModel, match="UTF-8 cannot carry"):
        write_binary("s", np.array(["\ud800"], dtype=object))


def test_bfloat16_has_no_place(tmp_path: Path) -> None:
    write_identity_model(tmp_path / "m.onnx", {"b": TensorProto.BFLOAT16}, [1])
    with pytest.raises(InvalidModel, match="bfloat16"):
        describe_onnx(tmp_path / "m.onnx")


def test_as_an_event_bytes_are_base64_both_ways(service: ModelService) -> None:
    data, length = body({"inputs": [described("x", X)], **ALL}, X.tobytes())
    event = {
        "httpMethod": "POST",
        "path": INFER,
        "headers": {"Inference-Header-Content-Length": str(length)},
        "body": base64.b64encode(data).decode(),
        "isBase64Encoded": True,
    }
    answered = answer(event, service)
    assert (answered["statusCode"], answered["isBase64Encoded"]) == (200, True)
    assert base64.b64decode(answered["body"])[-12:] == (X @ WEIGHTS).tobytes()
    assert answered["headers"]["content-type"] == "application/octet-stream"


def test_a_fuzzed_header_and_body_never_break_it(service: ModelService) -> None:
    @given(st.binary(max_size=200), st.text(max_size=6) | st.integers(0, 250).map(str))
    def tried(data: bytes, header: str) -> None:
        assert send(service, data, header).status in (400, 415)

    tried()


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
def test_bytes_that_are_too_many_as_base64_are_413(more: int, status: int) -> None:
    large = HttpResponse(200, bytes(MAX_BINARY_BYTES + more), {"content-type": "application/octet-stream"})
    answered = to_proxy(large)
    assert (answered["statusCode"], answered["isBase64Encoded"]) == (status, status == 200)
    assert len(msgspec.json.encode(answered)) < 6 * 1024 * 1024


@pytest.mark.parametrize("character", ["a", '"', "\\", "é", "\n"])
@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
def test_text_is_weighed_as_it_travels(character: str, more: int, status: int) -> None:
    """Lambda's answer is JSON, of which a body in JSON is a string: its quotes and backslashes travel as two."""
    weigh = len(msgspec.json.encode(msgspec.json.encode(character).decode())) - len(rb'"\"\""')
    count, rest = divmod(MAX_LAMBDA_BYTES - RESPONSE_ROOM_BYTES - len(rb"\"\""), weigh)
    answered = to_proxy(json_response(character * count + "a" * (rest + more)))
    assert answered["statusCode"] == status
    assert len(msgspec.json.encode(answered)) < 6 * 1024 * 1024
    assert ("binary_data" in answered["body"]) == (status == 413)


def test_json_has_a_limit_of_its_own_and_bytes_do_not_count(bundle: Bundle) -> None:
    service = ModelService(
        [served(bundle, threads=1)],
        max_request_bytes=2 * MAX_JSON_BYTES,
        max_response_bytes=2 * MAX_JSON_BYTES,
    )
    rows = np.zeros((MAX_JSON_BYTES // 16 + 1, 4), np.float32)
    data, length = body({"inputs": [described("x", rows)], **ALL}, rows.tobytes())
    assert send(service, data, length).status == 200
    plain = msgspec.json.encode({"inputs": [{**described("x", X), "data": [1, 2, 3, 4], "parameters": {}}]})
    assert send(service, plain.ljust(MAX_JSON_BYTES), MAX_JSON_BYTES).status == 200
    refused = send(service, plain.ljust(MAX_JSON_BYTES + 1), "")
    sentence = (
        "the request's JSON is 6.0 MiB; at most 6.0 MiB is taken: send tensors as bytes (binary_data_size)"
    )
    assert (refused.status, msgspec.json.decode(refused.body)["error"].startswith(sentence)) == (413, True)


def test_sizes_too_long_to_be_added_up_are_refused(echo: ModelService) -> None:
    huge = int("9" * 4300)
    data, length = body({"inputs": [described(name, np.zeros(1, bool), huge) for name in EVERY]})
    response = send(echo, data, length, "/v2/models/echo/infer")
    assert (response.status, b"must be a number of bytes" in response.body) == (400, True)
