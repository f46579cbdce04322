from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from bundle_factory import WEIGHTS, KeySigner, make_bundle, write_identity_model
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto

from isthmus import __version__
from isthmus.errors import EnvironmentProblem, InvalidModel
from isthmus.inference.bundle import Bundle
from isthmus.inference.datatypes import NUMPY
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.http import MAX_ERROR_CHARACTERS, HttpRequest, HttpResponse
from isthmus.inference.lambda_handler import answer, service_from_env
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.runtime import threads_for_memory
from isthmus.inference.served import ServedModel
from isthmus.inference.service import ModelService, served
from isthmus.inference.tensors import InputTensor, array_of, read_tensor, write_tensor
from isthmus.model.bundle import BundleManifest, Lineage, TensorSpec
from isthmus.model.processing import Reshape

X = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
INFER = "/v2/models/fashion/infer"


def get(service: ModelService, path: str) -> tuple[int, Any]:
    response = service.handle(HttpRequest("GET", path))
    return response.status, msgspec.json.decode(response.body)


def post(service: ModelService, body: Any, **headers: str) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    response = service.handle(
        HttpRequest("POST", INFER, {"Content-Type": "application/json", **headers}, raw)
    )
    return response.status, msgspec.json.decode(response.body)


def test_metadata(service: ModelService) -> None:
    about = {"name": "isthmus", "version": __version__, "extensions": ["binary_tensor_data"]}
    assert get(service, "/v2/") == (200, about)
    assert get(service, "/v2/health/live") == (200, {"live": True})
    assert get(service, "/v2/health/ready") == (200, {"ready": True})
    assert get(service, "/v2/models/fashion/ready") == (200, {"name": "fashion", "ready": True})
    assert get(service, "/v2/models/fashion/versions/1/ready")[0] == 200
    described = {
        "name": "fashion",
        "versions": ["1"],
        "platform": "onnx_onnxruntime",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}],
        "raw": {"name": "pixels", "datatype": "UINT8", "shape": [-1, 2, 2]},
    }
    assert get(service, "/v2/models/fashion") == (200, described)
    assert get(service, "/v2/models/f%61shion/versions/1?x=y") == (200, described)


def test_without_models_it_lives_and_is_not_ready() -> None:
    empty = ModelService([])
    assert get(empty, "/v2/health/live")[0] == 200
    assert get(empty, "/v2/health/ready") == (400, {"ready": False})
    assert get(empty, "/v2/models/fashion") == (
        404,
        {"error": "model 'fashion' is not in service; in service: none"},
    )


def test_infer(service: ModelService) -> None:
    status, answer = post(service, {"id": "42", "inputs": [X]})
    assert status == 200
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "fashion", "1")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", [1, 3])
    np.testing.assert_allclose(output["data"], np.float32([1, 2, 3, 4]) @ WEIGHTS, rtol=1e-6)


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[1.0, 2.0], [3, 4e0]]])
def test_data_may_be_flat_or_nested(data: object) -> None:
    tensor = InputTensor(name="x", shape=[2, 2], datatype="FP32", data=msgspec.Raw(msgspec.json.encode(data)))
    spec = TensorSpec(name="x", datatype="FP32", shape=(-1, 2))
    assert read_tensor(tensor, spec, allow_nan=False).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("gap", [b"\n\t\t", b"\r\n  ", b" " * 100], ids=["tabs", "CRLF", "deep"])
def test_nested_data_may_be_indented(service: ModelService, gap: bytes) -> None:
    data = gap + b"[" + gap + b"[" + gap + b"1, 2, 3, 4]" + gap + b"]"
    body = msgspec.json.encode({"inputs": [X]}).replace(b"[1,2,3,4]", data)
    assert post(service, body) == post(service, {"inputs": [X]})


def test_pre_and_post_processing(service: ModelService) -> None:
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 2], "data": [[[0, 0], [0, 255]]]}
    parameters = {"preprocess": True, "postprocess": True}
    status, answer = post(service, {"inputs": [pixels], "parameters": parameters})
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert status == 200
    assert list(outputs) == ["logits", "class", "score", "label"]
    np.testing.assert_allclose(outputs["logits"]["data"], WEIGHTS[3], rtol=1e-6)
    assert outputs["class"] == {"name": "class", "datatype": "INT64", "shape": [1, 2], "data": [2, 1]}
    assert outputs["label"] == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [1, 2],
        "data": ["bag", "shoe"],
    }
    asked = {"inputs": [pixels], "parameters": parameters, "outputs": [{"name": "label"}]}
    assert [output["name"] for output in post(service, asked)[1]["outputs"]] == ["label"]
    asked["outputs"] = [{"name": "logits"}]
    assert [output["name"] for output in post(service, asked)[1]["outputs"]] == list(outputs)


def changed(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**X, **changes}]}


BAD_BODIES = [
    (b"", "not an inference request"),
    (b"{", "not an inference request"),
    (b"[]", "Expected `object`, got `array`"),
    (b'{"inputs": [' + b"[" * 5000, "not an inference request"),
    (b"\xff\xfe{}", "not an inference request"),
    (msgspec.json.encode(changed()).replace(b"[1,2,3,4]", b"[1,2,3,NaN]"), "malformed"),
    (msgspec.json.encode(changed()).replace(b"[1,2,3,4]", b"[1,2,3,Infinity]"), "malformed"),
    ({}, "missing required field `inputs`"),
    ({"inputs": []}, "'x' is missing; needed: x"),
    ({"inputs": [X, X]}, "given twice"),
    ({"inputs": [{**X, "name": "y"}]}, "'y' is unknown; needed: x"),
    ({"inputs": [X, {**X, "name": "y"}]}, "'y' is unknown; needed: x"),
    (changed(datatype="FP64"), "must be FP32, not FP64"),
    (changed(datatype="float"), "must be FP32, not float"),
    (changed(shape=[4]), "must have shape [-1, 4] (-1: any size from 1 on), not [4]"),
    (changed(shape=[1, 5]), "must have shape [-1, 4] (-1: any size from 1 on), not [1, 5]"),
    (changed(shape=[0, 4], data=[]), "Expected `int` >= 1 - at `$.inputs[0].shape[0]`"),
    (changed(shape=[-1, 4]), "Expected `int` >= 1 - at `$.inputs[0].shape[0]`"),
    (changed(shape=[1] * 33), "Expected `array` of length <= 32"),
    (changed(shape=[2, 4]), "of shape [2, 4] needs 8 elements, not 4"),
    (changed(shape=[2**63 - 1, 4]), "needs 36893488147419103228 elements, not 4"),
    (changed(shape=[2**63, 4]), "Expected `int` <= 9223372036854775807"),
    (msgspec.json.encode(changed()).replace(b"[1,4]", b"[" + b"9" * 4300 + b",4]"), "Expected `int` <="),
    (changed(data=[[[[1]]]], shape=[1] * 2_000), "Expected `array` of length <= 32"),
    (changed(shape="1,4"), "Expected `array`"),
    (changed(data=[1, 2, 3]), "needs 4 elements, not 3"),
    (changed(data=[[1, 2], [3, 4]]), "says shape [1, 4], but its data is [2, 2]"),
    (changed(shape=[2, 4], data=[[1, 2, 3, 4], [1, 2, 3]]), "is ragged"),
    (changed(data=[[1, 2, 3, 4], 5]), "flat or nested as shape [1, 4] says"),
    (changed(data=[[[1, 2, 3, 4]]]), "flat or nested as shape [1, 4] says"),
    (changed(data=[1, 2, 3, "four"]), "data of input 'x' is not FP32"),
    (changed(data=[1, 2, 3, True]), "data of input 'x' is not FP32"),
    (changed(data=[1, 2, 3, None]), "data of input 'x' is not FP32"),
    (changed(data="1234"), "data of input 'x' is not FP32"),
    (changed(data=[1, 2, 3, "NaN"]), "holds NaN or infinity; this model takes finite numbers only"),
    (changed(data=[1, 2, 3, 1e39]), "that FP32 cannot hold"),
    ({"inputs": [{k: v for k, v in X.items() if k != "data"}]}, "'x' needs data, or binary_data_size"),
    ({"inputs": [X], "outputs": [{"name": "probs"}]}, "'probs' is unknown; there are: logits"),
    ({"inputs": [X], "outputs": [{"name": "logits"}] * 2}, "asked for twice"),
    ({"inputs": [X], "outputs": [{"name": "class"}]}, "'class' is unknown"),
    ({"inputs": [X], "id": 42}, "Expected `str | null`, got `int`"),
    ({"inputs": [X], "parameters": {"preprocess": "yes"}}, "'preprocess' must be true or false"),
    ({"inputs": [X], "parameters": {"preprocess": True}}, "'x' is unknown; needed: pixels"),
    (
        {
            "inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 2], "data": [0, 0, 0, 256]}],
            "parameters": {"preprocess": True},
        },
        "that UINT8 cannot hold",
    ),
    (
        {
            "inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 2], "data": [0, 0, 0, 1.5]}],
            "parameters": {"preprocess": True},
        },
        "data of input 'pixels' is not UINT8",
    ),
]


@pytest.mark.parametrize(("body", "says"), BAD_BODIES)
def test_a_bad_request_is_told_what_was_needed(service: ModelService, body: Any, says: str) -> None:
    status, answer = post(service, body)
    assert (status, list(answer)) == (400, ["error"])
    assert says in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/", 404, "begins at /v2"),
        ("GET", "/v2/models", 404, "nothing at"),
        ("GET", "/v2/models/fashion/versions/1/unknown", 404, "nothing at"),
        ("GET", "/v1/models/fashion", 404, "nothing at"),
        ("POST", "/v2", 405, "asked with GET, not 'POST'"),
        ("GET", INFER, 405, "asked with POST, not 'GET'"),
        ("DELETE", "/v2/health/live", 405, "not 'DELETE'"),
        ("POST", "/v2/models/fashion/versions/1/ready", 405, "asked with GET"),
        ("GET", "/v2/models/other", 404, "'other' is not in service; in service: fashion"),
        ("GET", "/v2/models/fashion/versions/2", 404, "as version 1, not '2'"),
        ("POST", "/v2/models/other/infer", 404, "'other' is not in service"),
        ("POST", "/v2/models/fashion/versions/1.0/infer", 404, "as version 1, not '1.0'"),
    ],
)
def test_what_is_not_there(service: ModelService, method: str, path: str, status: int, says: str) -> None:
    response = service.handle(HttpRequest(method, path, {}, msgspec.json.encode({"inputs": [X]})))
    error = msgspec.json.decode(response.body)["error"]
    assert (response.status, says in error) == (status, True), error
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"CONTENT-TYPE": "application/octet-stream"},
        {"content-encoding": "gzip"},
    ],
)
def test_other_media_are_415(bundle: Bundle, headers: dict[str, str]) -> None:
    service = ModelService([served(bundle, threads=1)])
    response = service.handle(HttpRequest("POST", INFER, headers, msgspec.json.encode({"inputs": [X]})))
    assert response.status == 415


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON", ""])
def test_json_by_other_spellings(service: ModelService, media: str) -> None:
    assert post(service, {"inputs": [X]}, **{"Content-Type": media})[0] == 200


def test_too_large_is_said_before_parsing(service: ModelService) -> None:
    status, answer = post(service, b"{" * 10_001)
    assert (status, answer["error"]) == (413, "the request is 9.8 KiB; at most 9.8 KiB is taken")


def test_what_a_refusal_quotes_is_cut(bundle: Bundle) -> None:
    service = ModelService([served(bundle, threads=1)])
    status, answer = post(service, {"inputs": [X], "outputs": [{"name": "logits"}] * 10_000})
    assert (status, len(answer["error"])) == (400, MAX_ERROR_CHARACTERS)


def test_a_response_over_the_limit_is_refused(bundle: Bundle) -> None:
    service = ModelService([served(bundle, threads=1)], max_response_bytes=100)
    status, answer = post(service, {"inputs": [X]})
    assert status == 413
    assert "smaller batches" in answer["error"]


TYPES = {
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


def identity_service(path: Path, kinds: dict[str, int], *, allow_nan: bool = False) -> ModelService:
    write_identity_model(path, kinds, ["n"])
    inputs, outputs, opset = describe_onnx(path)
    lineage = Lineage(dataset="d", manifest_sha256="1" * 64, job_sha256="2" * 64, job_key="k")
    manifest = BundleManifest(
        model="fashion", release=1, files=(), opset=opset, inputs=inputs, outputs=outputs,
        lineage=lineage, created_at="", allow_nan=allow_nan,
    )  # fmt: skip
    return ModelService([ServedModel(manifest, OnnxEngine(path))])


def ends(name: str) -> list[Any]:
    """The smallest and the largest value of a datatype."""
    if name in ("BOOL", "BYTES"):
        return {"BOOL": [False, True], "BYTES": ["", "naïve ✓"]}[name]
    limits: Any = np.finfo(NUMPY[name]) if name.startswith("FP") else np.iinfo(NUMPY[name])
    kind = float if name.startswith("FP") else int
    return [kind(limits.min), kind(limits.max)]


def test_every_datatype_goes_through_at_its_extremes(tmp_path: Path) -> None:
    service = identity_service(tmp_path / "m.onnx", {name.lower(): kind for name, kind in TYPES.items()})
    inputs = [{"name": name.lower(), "datatype": name, "shape": [2], "data": ends(name)} for name in TYPES]
    status, answer = post(service, {"inputs": inputs})
    assert status == 200, answer
    assert {output["datatype"]: output["data"] for output in answer["outputs"]} == {
        name: ends(name) for name in TYPES
    }


@pytest.mark.parametrize("name", [name for name in TYPES if "INT" in name])
def test_one_beyond_the_extremes_is_refused(tmp_path: Path, name: str) -> None:
    service = identity_service(tmp_path / "m.onnx", {"x": TYPES[name]})
    low, high = ends(name)
    for value in (low - 1, high + 1):
        status, answer = post(
            service, {"inputs": [{"name": "x", "datatype": name, "shape": [1], "data": [value]}]}
        )
        assert (status, name in answer["error"]) == (400, True)


def test_nan_is_taken_where_allowed_and_never_written_as_invalid_json(tmp_path: Path) -> None:
    service = identity_service(tmp_path / "m.onnx", {"x": TensorProto.FLOAT}, allow_nan=True)
    tensor = {"name": "x", "datatype": "FP32", "shape": [3], "data": [1, "NaN", "-Infinity"]}
    status, answer = post(service, {"inputs": [tensor]})
    assert status == 400
    assert answer["error"].startswith(
        "output 'out_x' is nan at element 1, which JSON cannot carry: ask for it"
    )
    spec = TensorSpec(name="x", datatype="FP32", shape=(-1,))
    raw = InputTensor(name="x", shape=[3], datatype="FP32", data=msgspec.Raw(b'[1,"NaN","-Infinity"]'))
    np.testing.assert_array_equal(read_tensor(raw, spec, allow_nan=True), np.float32([1, np.nan, -np.inf]))


@pytest.mark.parametrize("data", [[1e300, "NaN"], ["-Infinity", 1e300], [1e300, 1.0]])
def test_a_number_beyond_the_datatype_is_refused_beside_named_ones_too(
    tmp_path: Path, data: list[Any]
) -> None:
    service = identity_service(tmp_path / "m.onnx", {"x": TensorProto.FLOAT}, allow_nan=True)
    status, answer = post(
        service, {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": data}]}
    )
    assert (status, answer["error"]) == (400, "input 'x' holds a number that FP32 cannot hold")


@given(
    st.sampled_from(["uint8", "int64", "uint64", "float16", "float32", "float64", "bool"]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(max_dims=4, max_side=4),
            elements={"allow_nan": False, "allow_infinity": False} if dtype.startswith("float") else None,
        )
    ),
    st.booleans(),
)
def test_tensors_round_trip(array: np.ndarray, nested: bool) -> None:
    sent = write_tensor("x", array)
    data = array.tolist() if nested else sent.data
    tensor = InputTensor(
        name="x", shape=sent.shape, datatype=sent.datatype, data=msgspec.Raw(msgspec.json.encode(data))
    )
    spec = TensorSpec(name="x", datatype=sent.datatype, shape=(-1,) * array.ndim)
    back = read_tensor(tensor, spec, allow_nan=False)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(array_of(sent), array)


@given(st.binary(max_size=200), st.text(max_size=30))
def test_no_request_gets_anything_but_json_and_a_4xx(body: bytes, path: str) -> None:
    service = ModelService([])
    for request in (HttpRequest("POST", INFER, {}, body), HttpRequest("GET", path)):
        response = service.handle(request)
        assert 200 <= response.status < 500
        assert isinstance(msgspec.json.decode(response.body), dict)


def test_a_bundle_whose_steps_do_not_fit_is_the_servers_fault(tmp_path: Path, signer: KeySigner) -> None:
    bundle = make_bundle(tmp_path / "b", signer, preprocessing=(Reshape((4,)),))
    service = ModelService([served(bundle, threads=1)])
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 2], "data": [0, 0, 0, 255]}
    status, answer = post(service, {"inputs": [pixels], "parameters": {"preprocess": True}})
    assert status == 500
    assert "gives uint8 [1, 4], but input 'x' is FP32 [-1, 4]" in answer["error"]


def test_a_broken_model_is_not_ready(bundle: Bundle) -> None:
    bundle.model_path.write_bytes(b"broken")
    service = ModelService([served(bundle, threads=1)])
    assert get(service, "/v2/health/ready") == (400, {"ready": False})
    assert get(service, "/v2/models/fashion/ready") == (400, {"name": "fashion", "ready": False})
    assert post(service, {"inputs": [X]})[0] == 500


@pytest.mark.parametrize(("memory_mb", "threads"), [(128, 1), (1769, 1), (3008, 2), (5307, 3), (10240, 6)])
def test_threads_follow_lambdas_memory(memory_mb: int, threads: int) -> None:
    assert threads_for_memory(memory_mb) == threads


def environment(bundle: Bundle, signer: KeySigner) -> dict[str, str]:
    return {
        "ISTHMUS_MODEL_DIR": str(bundle.folder),
        "ISTHMUS_PUBLIC_KEY": base64.b64encode(signer.public_key()).decode(),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    }


def test_lambda_answers_proxy_events_and_pings(bundle: Bundle, signer: KeySigner) -> None:
    service = service_from_env(environment(bundle, signer))
    body = msgspec.json.encode({"inputs": [X]})
    plain = {
        "httpMethod": "POST",
        "path": INFER,
        "headers": None,
        "body": body.decode(),
        "isBase64Encoded": False,
    }
    packed = {**plain, "body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    response = answer(plain, service)
    assert response["statusCode"] == 200
    assert response["headers"] == {"content-type": "application/json"}
    assert answer(packed, service) == response
    assert (
        answer({"httpMethod": "GET", "path": "/v2/health/ready", "body": None}, service)["statusCode"] == 200
    )
    assert answer({"ping": True}, service) == {"models": {"fashion": {"release": 1, "bundle": bundle.sha256}}}


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"httpMethod": "GET"},
        {"httpMethod": 1, "path": "/v2"},
        {"httpMethod": "POST", "path": INFER, "body": {"a": 1}},
        {"httpMethod": "POST", "path": INFER, "body": "%%%", "isBase64Encoded": True},
        {"httpMethod": "POST", "path": INFER, "body": "é", "isBase64Encoded": True},
        {"httpMethod": "POST", "path": INFER, "body": "\ud800"},
    ],
)
def test_other_events_are_a_400(event: dict[str, Any], service: ModelService) -> None:
    response = answer(event, service)
    assert response["statusCode"] == 400
    assert "error" in msgspec.json.decode(response["body"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ISTHMUS_PUBLIC_KEY": ""}, "ISTHMUS_PUBLIC_KEY must hold"),
        ({"ISTHMUS_PUBLIC_KEY": "§"}, "not base64"),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": ""}, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
    ],
)
def test_a_missing_variable_is_named_at_once(
    bundle: Bundle, signer: KeySigner, changes: dict[str, str], says: str
) -> None:
    with pytest.raises(EnvironmentProblem, match=says):
        service_from_env({**environment(bundle, signer), **changes})


def test_a_ping_fails_loudly_when_the_model_cannot_load(bundle: Bundle) -> None:
    bundle.model_path.write_bytes(b"broken")
    with pytest.raises(InvalidModel):
        answer({"ping": True}, ModelService([served(bundle, threads=1)]))


def test_responses_are_json() -> None:
    assert HttpResponse(200, b"{}").headers == {"content-type": "application/json"}
