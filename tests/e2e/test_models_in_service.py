"""Models in service on a deployed stack: releases by number, shadows, limits, and what is over Lambda's limits."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import urllib3
from onnx import TensorProto, helper, numpy_helper

from demo.system import System, wait_until
from isthmus.adapters.aws.signing import RequestSigner
from isthmus.inference.limits import UNZIPPED_LIMIT_BYTES
from tests.e2e import breakage, world
from tests.e2e.cleanup import client

pytestmark = pytest.mark.e2e

MODEL = "serving"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """Signed requests with any headers; 303 is not followed."""

    def __init__(self, base_url: str) -> None:
        self._base_url, self._signer = base_url, RequestSigner()
        self.pool = urllib3.PoolManager(retries=False, timeout=60)

    def post(self, path: str, body: bytes = b"", **headers: str) -> Answer:
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        url, signed = self._signer.sign("POST", self._base_url + path, named, body)
        answer = self.pool.request("POST", url, body=body or None, headers=signed, redirect=False)
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.data)


@pytest.fixture
def api(system: System, monkeypatch: pytest.MonkeyPatch) -> Api:
    for name, value in system.env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return Api(world.outputs(system)["ApiUrl"])


def import_sums(system: System, folder: Path, weight: float) -> dict[str, Any]:
    """Bring ``y [n, 2] = weight * sum(x [n, 3])`` on its way; return how that ended."""
    weights = numpy_helper.from_array(np.full((3, 2), weight, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weights],
    )
    path = folder / f"{weight}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return bring(system, path, MODEL)


def bring(system: System, path: Path, name: str) -> dict[str, Any]:
    job_key = json.loads(system.isthmus("model", "import", path, "--name", name, "--json"))["job_key"]
    return world.wait_for_end(system, job_key)


@pytest.fixture(scope="module")
def two_releases(system: System, tmp_path_factory: pytest.TempPathFactory) -> System:
    for weight in (1.0, 2.0):
        ended = import_sums(system, tmp_path_factory.mktemp("sums"), weight)
        assert ended["state"] == "DEPLOYED", ended
    return system


ONE = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]}).encode()


def first(answer: Answer) -> tuple[int, float, str]:
    return answer.status, answer.json["outputs"][0]["data"][0], answer.json["model_version"]


@pytest.mark.usefixtures("two_releases")
def test_each_release_answers_under_its_number(api: Api) -> None:
    assert first(api.post(f"/v2/models/{MODEL}/infer", ONE)) == (200, 6.0, "2")
    assert first(api.post(f"/v2/models/{MODEL}/versions/1/infer", ONE)) == (200, 3.0, "1")
    assert first(api.post(f"/v2/models/{MODEL}/versions/2/infer", ONE)) == (200, 6.0, "2")
    missing = api.post(f"/v2/models/{MODEL}/versions/3/infer", ONE)
    assert (missing.status, list(missing.json)) == (404, ["error"])


def test_a_shadow_answers_copies_and_how_it_differs_is_on_record(two_releases: System, api: Api) -> None:
    shadow = functools.partial(two_releases.isthmus, "model", "shadow", MODEL)
    shadow("--release", "1", "--share", "1")

    def compared() -> Any:
        assert first(api.post(f"/v2/models/{MODEL}/infer", ONE)) == (200, 6.0, "2"), "nobody sees it"
        return json.loads(shadow("--json"))

    wait_until(compared, "a comparison", 90, every_seconds=2)
    (found,) = compared()
    assert (found["release"], found["failed"], found["largest_difference"]) == (1, 0, 0.5)
    assert found["milliseconds"] > 0
    shadow("--off")


def test_a_model_is_held_to_its_number_of_calls(two_releases: System, api: Api) -> None:
    limit = functools.partial(two_releases.isthmus, "model", "limit", MODEL)
    limit("--concurrency", "0")
    answer = api.post(f"/v2/models/{MODEL}/infer", ONE)
    assert (answer.status, list(answer.json), answer.headers["retry-after"]) == (429, ["error"], "1")
    assert json.loads(limit("--json"))["concurrency"] == 0
    limit("--off")
    assert api.post(f"/v2/models/{MODEL}/infer", ONE).status == 200


POISON = "poisoned"
FAILS_ON_SOME = f"""

_well = handler


def handler(event, context):
    if "{POISON}" in str(event.get("headers")):
        raise ValueError("a request that no golden question is like")
    return _well(event, context)
"""


@pytest.fixture
def newer_code_fails_on_some_requests(system: System) -> Iterator[None]:
    """What is staged from now on answers readiness and golden questions, and fails on poisoned requests."""
    functions, name = client(system, "lambda"), breakage.function_name(system, "ServeModelFunction")
    url = functions.get_function(FunctionName=name)["Code"]["Location"]
    before = urllib3.PoolManager().request("GET", url).data

    def put(code: bytes) -> None:
        functions.update_function_code(FunctionName=name, ZipFile=code)
        waiter = functions.get_waiter("function_updated_v2")
        waiter.wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(before)) as old, zipfile.ZipFile(changed, "w") as new:
        assert "app.py" in old.namelist()
        for entry in old.namelist():
            added = FAILS_ON_SOME.encode() if entry == "app.py" else b""
            new.writestr(entry, old.read(entry) + added)
    put(changed.getvalue())
    yield
    put(before)


@pytest.mark.usefixtures("two_releases", "newer_code_fails_on_some_requests")
def test_a_version_whose_real_calls_fail_is_reverted(system: System, api: Api, tmp_path: Path) -> None:
    """By Lambda's own figures: it is proven, and answers every probe."""
    before = world.champion(system, MODEL)
    assert before["calls"]["verdict"] == "none", "nobody called while it was brought into service"
    poisoned = functools.partial(api.post, f"/v2/models/{MODEL}/infer", ONE, x_request=POISON)
    assert poisoned().status == 200, "what is in service takes it"
    ended, asked = threading.Event(), Counter[int]()

    def ask() -> None:
        while not ended.is_set():
            asked[poisoned().status] += 1

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            job = import_sums(system, tmp_path, 3.0)
        finally:
            ended.set()
        asking.result()
    assert (job["state"], job["error"]) == ("FAILED", "RolloutUnhealthy"), job
    assert re.search(r"failed \d+ of \d+ calls \(.+%\) .* beside \d+ of \d+ calls \(", job["cause"]), job
    assert asked[502] >= 2, asked
    assert world.champion(system, MODEL) == before
    assert first(poisoned()) == (200, 6.0, "2")


def large(value: float = 1) -> tuple[bytes, str]:
    """A request of 7.2 MB in the binary form, whose answer is too large for Lambda too."""
    data = np.full((600_000, 3), value, np.float32).tobytes()
    tensor = {
        "name": "x",
        "shape": [600_000, 3],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + data, str(len(head))


def hand_in(api: Api, body: bytes, sent: bytes | None = None) -> tuple[int, str]:
    """Put a body where the API says; ``sent`` in its place. Return the store's status and the offer's id."""
    wish = {"size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    offered = api.post(f"/v2/models/{MODEL}/handover", json.dumps(wish).encode())
    assert offered.status == 200, offered.body
    offer = offered.json
    put = api.pool.request(offer["method"], offer["url"], body=sent or body, headers=offer["headers"])
    return put.status, str(offer["id"])


@pytest.mark.usefixtures("two_releases")
def test_a_body_and_an_answer_over_lambdas_limit_go_through_the_bucket(api: Api) -> None:
    body, length = large()
    status, name = hand_in(api, body)
    assert status == 200
    answer = api.post(
        f"/v2/models/{MODEL}/infer",
        isthmus_handover=name,
        isthmus_handover_answer="allowed",
        inference_header_content_length=length,
    )
    assert answer.status == 303, answer.body[:500]
    kept = answer.json["handover"]
    whole = api.pool.request("GET", answer.headers["location"]).data
    assert hashlib.sha256(whole).hexdigest() == kept["sha256"]
    head = int({k.lower(): v for k, v in kept["headers"].items()}["inference-header-content-length"])
    assert (np.frombuffer(whole[head:], np.float32) == 6).all()


@pytest.mark.usefixtures("two_releases")
def test_the_bucket_takes_no_other_bytes_than_were_announced(api: Api) -> None:
    body, _ = large(2)  # its own bytes: the same bytes within a second are the same offer as another test's
    status, name = hand_in(api, body, sent=body[:-1] + b"x")
    assert 400 <= status < 500
    assert api.post(f"/v2/models/{MODEL}/infer", isthmus_handover=name).status == 400


@pytest.mark.slow
def test_a_model_over_lambdas_limit_is_fetched_and_serves(system: System, api: Api, tmp_path: Path) -> None:
    width = 8192
    weights = np.zeros((width, width), np.float32)
    np.fill_diagonal(weights, 2)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    assert path.stat().st_size > UNZIPPED_LIMIT_BYTES
    ended = bring(system, path, "large")
    assert ended["state"] == "DEPLOYED", ended
    assert world.champion(system, "large")["served_by"] == "weights"
    tensor = {"name": "x", "shape": [1, width], "datatype": "FP32", "data": [1.0] * width}
    answer = api.post("/v2/models/large/infer", json.dumps({"inputs": [tensor]}).encode())
    assert answer.status == 200, replace(answer, body=answer.body[:300])
    assert set(answer.json["outputs"][0]["data"]) == {2.0}
