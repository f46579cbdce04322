"""The deployed API as clients of the ecosystem see it: by `isthmus proxy` where IAM is on, by tokens, with keys."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import numpy as np
import onnx
import pytest
import tritonclient.http as triton
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from tritonclient.utils import InferenceServerException

from demo.system import System, wait_until
from tests import conformance
from tests.e2e import cleanup, world

pytestmark = pytest.mark.e2e

MODEL = "digits-linear"
NO_KEYS = '""'
"""An empty text, as `sam deploy` takes one."""
JOB = {
    "raw_shape": [64],
    "raw_dtype": "float32",
    "image": {"height": 8, "width": 8, "channels": 1, "black": 16, "white": 0},
    "preprocessing": [{"op": "affine", "scale": 0.0625}],
    "postprocessing": [
        {"op": "softmax"},
        {"op": "top_k", "k": 1, "labels": [str(digit) for digit in range(10)]},
    ],
}


@pytest.fixture(scope="module")
def digits_data() -> tuple[np.ndarray, np.ndarray]:
    """The digits ``[n, 64]`` (0 to 16) and what they are; the model is fitted to all but the last 100."""
    data = load_digits()
    return data.data.astype(np.float32), data.target


@pytest.fixture(scope="module")
def fitted(digits_data: tuple[np.ndarray, np.ndarray]) -> LogisticRegression:
    pixels, labels = digits_data
    return LogisticRegression(max_iter=500).fit(pixels[:-100] / 16, labels[:-100])


@pytest.fixture(scope="module")
def release(system: System, fitted: LogisticRegression, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model in service; its version in paths."""
    folder = tmp_path_factory.mktemp("model")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [
            numpy_helper.from_array(fitted.coef_.T.astype(np.float32), "w"),
            numpy_helper.from_array(fitted.intercept_.astype(np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    (folder / "job.yaml").write_text(yaml.safe_dump(JOB))
    answer = system.isthmus(
        "model", "import", folder / "model.onnx", "--name", MODEL, "--job", folder / "job.yaml", "--json"
    )
    job = world.wait_for_end(system, json.loads(answer)["job_key"])
    assert job["state"] == "DEPLOYED", job
    return str(world.champion(system, MODEL)["release"])


@pytest.fixture(scope="module")
def proxy(system: System, release: str) -> Iterator[str]:
    """The address of a running `isthmus proxy`."""
    command = [system.bin / "isthmus", "proxy", "--port", "0"]
    running = subprocess.Popen(command, env=system.env, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    said = running.stdout.readline()
    yield said.split(" answers at ")[1].split(";")[0]
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 0


@pytest.fixture(scope="module")
def client(proxy: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(proxy.removeprefix("http://")) as client:
        yield client


def tensor(array: np.ndarray, *, binary: bool) -> triton.InferInput:
    made = triton.InferInput("x", list(array.shape), "FP32")
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def unsigned(system: System, path: str, **more: str) -> tuple[int, dict[str, Any]]:
    """Ask the API itself, without a signature; ``more`` are headers."""
    url = world.outputs(system)["ApiUrl"]
    host, stage = url.removeprefix("https://").split("/", 1)
    where = system.env.get("AWS_ENDPOINT_URL")
    place = f"{where}/{stage}{path}" if where else f"{url}{path}"
    request = urllib.request.Request(place, headers={**more, **({"Host": host} if where else {})})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_without_a_signature_there_is_no_answer_but_a_sentence(system: System, release: str) -> None:
    for path in ("/v2", "/v2/openapi.json", f"/v2/models/{MODEL}"):
        assert unsigned(system, path) == (403, {"error": "Missing Authentication Token"})


def test_tritonclient_finds_server_and_model(client: triton.InferenceServerClient, release: str) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, release)
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(MODEL)["versions"] == [release]


def test_tritonclient_gets_equal_outputs_by_json_and_by_bytes(
    client: triton.InferenceServerClient,
    release: str,
    fitted: LogisticRegression,
    digits_data: tuple[np.ndarray, np.ndarray],
) -> None:
    x = digits_data[0][-8:] / 16
    found = []
    for binary_in in (False, True):
        for binary_out in (False, True):
            answer = client.infer(
                MODEL,
                [tensor(x, binary=binary_in)],
                outputs=[triton.InferRequestedOutput("logits", binary_data=binary_out)],
                model_version=release,
                request_id=f"{binary_in} {binary_out}",
            )
            assert answer.get_response()["id"] == f"{binary_in} {binary_out}"
            found.append(answer.as_numpy("logits"))
    for array in found:
        np.testing.assert_array_equal(array, found[0])
    np.testing.assert_allclose(found[0], fitted.decision_function(x), atol=1e-3)


def test_tritonclient_is_told_what_is_wrong(client: triton.InferenceServerClient, release: str) -> None:
    with pytest.raises(InferenceServerException, match=r"must have shape \[-1, 64\]") as refused:
        client.infer(MODEL, [tensor(np.zeros((1, 63), np.float32), binary=True)])
    assert refused.value.status() == "400"
    with pytest.raises(InferenceServerException, match="no model 'absent' in service"):
        client.infer("absent", [tensor(np.zeros((1, 64), np.float32), binary=True)])


@pytest.mark.parametrize(("kind", "media"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_a_picture_of_a_digit_gets_its_label(
    proxy: str, digits_data: tuple[np.ndarray, np.ndarray], fitted: LogisticRegression, kind: str, media: str
) -> None:
    """Ink on paper, four times as large as the model sees it."""
    pixels, labels = digits_data
    sure = fitted.predict_proba(pixels[-100:] / 16).max(axis=1).argmax() - 100
    ink = (255 - pixels[sure].reshape(8, 8) * 255 / 16).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(ink).resize((32, 32), Image.Resampling.NEAREST).save(stream, kind)
    url = f"{proxy}/v2/models/{MODEL}/classify?top_k=3"
    request = urllib.request.Request(url, stream.getvalue(), {"Content-Type": media})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.loads(answer.read())["classes"]
    assert len(found) == 3
    assert found[0]["label"] == str(labels[sure])


def test_the_deployed_api_is_as_it_says(proxy: str, release: str, tmp_path: Path) -> None:
    conformance.check(f"{proxy}/v2/openapi.json", proxy, tmp_path, model=MODEL, version=release, examples=2)


def test_the_deployed_api_is_as_the_protocol_says(proxy: str, release: str, tmp_path: Path) -> None:
    """By the public description, where it is at hand; by ours, else."""
    description = conformance.public_description() or f"{proxy}/v2/openapi.json"
    conformance.check(description, proxy, tmp_path, model=MODEL, version=release, examples=10)


def answer_of(proxy: str, key: str | None) -> tuple[int, dict[str, Any], str | None]:
    """Ask for the server's metadata, signed, with an API key or without: status, body, Retry-After."""
    headers = {} if key is None else {"X-Api-Key": key}
    try:
        request = urllib.request.Request(f"{proxy}/v2", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read()), None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers["Retry-After"]


@pytest.fixture(scope="module")
def as_before(system: System, release: str, proxy: str) -> Iterator[None]:
    """In the end the API takes signatures again, and they are enough."""
    yield
    system.deploy(ApiAuthorizer="AWS_IAM", ApiKeys=NO_KEYS)
    wait_until(lambda: answer_of(proxy, None)[0] == 200, "the API to ask for signatures alone", 120)


@pytest.fixture(scope="module")
def sign(system: System, as_before: None) -> Callable[..., str]:
    """Makes tokens, which the API takes instead of signatures from now on; claims can be changed."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "k1", "alg": "ES256"}
    keys = base64.b64encode(json.dumps({"keys": [public]}).encode()).decode()
    claims = {"iss": "https://issuer.example/", "aud": "isthmus-e2e"}

    def token(**changes: Any) -> str:
        said = {**claims, "sub": "u", "exp": int(time.time()) + 600, **changes}
        return jwt.encode(said, key, algorithm="ES256", headers={"kid": "k1"})

    said = {"JwtIssuer": claims["iss"], "JwtAudience": claims["aud"], "JwtKeys": keys}
    system.deploy(ApiAuthorizer="JwtAuthorizer", ApiKeys=NO_KEYS, **said)
    # On AWS a stage goes over to its new deployment only after some seconds.
    wait_until(lambda: unsigned(system, "/v2")[0] == 401, "the API to ask for tokens", 120)
    return token


def direct(system: System) -> triton.InferenceServerClient:
    """The client at the API itself, without the proxy."""
    host, stage = world.outputs(system)["ApiUrl"].removeprefix("https://").split("/", 1)
    if "AWS_ENDPOINT_URL" not in system.env:
        return triton.InferenceServerClient(f"{host}/{stage}", ssl=True)
    local = system.env["AWS_ENDPOINT_URL"].removeprefix("http://")
    return triton.InferenceServerClient(f"{local}/_aws/execute-api/{host.split('.')[0]}/{stage}")


def test_tritonclient_works_with_a_bearer_header(
    system: System,
    sign: Callable[..., str],
    fitted: LogisticRegression,
    digits_data: tuple[np.ndarray, np.ndarray],
) -> None:
    x = digits_data[0][-8:] / 16
    with direct(system) as client:
        headers = {"Authorization": f"Bearer {sign()}"}
        assert client.is_model_ready(MODEL, headers=headers)
        found = [
            client.infer(MODEL, [tensor(x, binary=binary)], headers=dict(headers)).as_numpy("logits")
            for binary in (False, True)
        ]
        np.testing.assert_array_equal(*found)
        np.testing.assert_allclose(found[0], fitted.decision_function(x), atol=1e-3)
        for wrong in (
            {},
            {"Authorization": f"Bearer {sign(aud='another')}"},
            {"Authorization": f"Bearer {sign(exp=1)}"},
        ):
            with pytest.raises(InferenceServerException) as refused:
                client.infer(MODEL, [tensor(x, binary=True)], headers=dict(wrong))
            assert refused.value.status() in ("401", "403")


@pytest.fixture(scope="module")
def api_key(system: System, as_before: None, proxy: str) -> Iterator[str]:
    """A client's key, made as the documentation says, of a plan that allows one request a second."""
    system.deploy(ApiAuthorizer="AWS_IAM", ApiKeys="required", KeyRequestsPerSecond=1)
    wait_until(lambda: answer_of(proxy, None)[0] == 403, "the API to ask for keys", 120)
    gateway = cleanup.client(system, "apigateway")
    made = gateway.create_api_key(name=f"{system.stack}-client", enabled=True)
    try:
        plan = world.outputs(system)["UsagePlan"]
        gateway.create_usage_plan_key(usagePlanId=plan, keyId=made["id"], keyType="API_KEY")
        yield made["value"]
    finally:
        gateway.delete_api_key(apiKey=made["id"])


def test_where_keys_are_required_a_signature_alone_is_refused(
    system: System,
    api_key: str,
    proxy: str,
    client: triton.InferenceServerClient,
    fitted: LogisticRegression,
    digits_data: tuple[np.ndarray, np.ndarray],
) -> None:
    x = digits_data[0][-8:] / 16
    said = {"error": "this API wants a key of its usage plan in x-api-key"}
    for wrong in (None, "", "wrong" * 8, api_key[:-1]):
        assert answer_of(proxy, wrong) == (403, said, None), wrong
    assert unsigned(system, "/v2", **{"X-Api-Key": api_key}) == (
        403,
        {"error": "Missing Authentication Token"},
    )
    found: list[np.ndarray] = []

    def answered() -> bool:
        """A key may be new to AWS for some seconds, and each second is good for one request."""
        try:
            answer = client.infer(MODEL, [tensor(x, binary=True)], headers={"X-Api-Key": api_key})
        except InferenceServerException as refused:
            if refused.status() in ("403", "429"):
                return False
            raise
        found.append(answer.as_numpy("logits"))
        return True

    wait_until(answered, "the API to take the key", 120)
    np.testing.assert_allclose(found[0], fitted.decision_function(x), atol=1e-3)


def test_a_key_that_asks_too_often_is_told_to_wait(api_key: str, proxy: str) -> None:
    """Eight clients, since a single one may be no faster than a request a second on a busy machine."""
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: answer_of(proxy, api_key), range(100)))
    refused = [answer for answer in answers if answer[0] != 200]
    assert refused
    assert all(answer == (429, {"error": "Too Many Requests"}, "1") for answer in refused), refused
