"""Bodies over Lambda's limit, both ways through the store: the router's offer, the model's answer."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workflow_world import World, onnx_model, pattern

from isthmus.adapters.local.functions import MemoryFunctions, PublishedVersion
from isthmus.adapters.local.presign import MemoryPresigner
from isthmus.errors import PolicyViolation, Unavailable
from isthmus.inference.bundle import open_bundle
from isthmus.inference.handover import answer_handed_over
from isthmus.inference.http import HttpRequest
from isthmus.inference.lambda_handler import answer
from isthmus.inference.service import ModelService, served
from isthmus.model.units import MIB
from isthmus.ports import Alias
from isthmus.workflows.hand_over import MAX_BYTES, OFFER_SECONDS, HandOver
from isthmus.workflows.package_model import package_model
from isthmus.workflows.route_inference import route_inference
from isthmus.workflows.serving_settings import ServingSettings, Shadow, set_shadow
from isthmus.workflows.shadows import Shadows
from isthmus.workflows.shift_traffic import commit_champion
from tests import conformance

PATH = "/v2/models/digits/infer"


class Time:
    seconds = 1_800_000_000.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Deployed:
    """A model in service behind the router, and a client that does what the documentation says."""

    def __init__(self, world: World, most: int = MAX_BYTES) -> None:
        key = world.registered(world.job(raw_shape=None, preprocessing=(), evaluation=None))
        world.attempt_left(key, 1, onnx_model())
        folder = world.workdir()
        package_model(
            key,
            1,
            blobs=world.blobs,
            records=world.records,
            signer=world.signer,
            open_engine=world.engine,
            installed=dict,
            workdir=folder,
        )
        bundle = open_bundle(folder / "bundle", world.signer.public_key())
        commit_champion("digits", bundle.sha256, 1, key, "1", records=world.records, now="now")
        self.world, self.time, self.most = world, Time(), most
        self.store: Any = MemoryPresigner(world.blobs)
        self.hand_over = HandOver(self.store, self.time)
        self.service = ModelService([served(bundle, threads=1)])
        self.functions = MemoryFunctions(self.serve)
        self.functions.stage("shop-model-digits", pattern(), (), "m1")
        self.functions.point("shop-model-digits", Alias("1"))
        self.given: list[Mapping[str, Any]] = []

    def serve(self, version: PublishedVersion, event: Mapping[str, Any]) -> Any:
        self.given.append(event)
        if event.get("handover"):
            return answer_handed_over(event, self.service, self.store, max_bytes=self.most)
        return answer(event, self.service)

    def route(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None, method: str = "POST"
    ) -> tuple[int, bytes, dict[str, str]]:
        # As the API passes every body on: it takes binary ones.
        event = {
            "httpMethod": method,
            "path": path,
            "headers": dict(headers or {}),
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }
        found = route_inference(
            event,
            stack="shop",
            functions=self.functions,
            records=self.world.records,
            settings=ServingSettings(self.world.records, self.time),
            shadows=Shadows(self.functions, "comparer", lambda: 0.0),
            hand_over=self.hand_over,
        )
        text = found["body"]
        raw = base64.b64decode(text) if found.get("isBase64Encoded") else text.encode()
        return found["statusCode"], raw, found["headers"]

    def offer(self, body: bytes) -> dict[str, Any]:
        wish = {"size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        status, raw, _ = self.route("/v2/models/digits/handover", json.dumps(wish).encode())
        offer = json.loads(raw)
        assert (status, offer["method"]) == (200, "PUT")
        return offer

    def hand_in(self, body: bytes) -> str:
        offer = self.offer(body)
        self.store.put(offer["url"], body, offer["headers"])
        return str(offer["id"])

    def infer(self, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        return self.route(PATH, body, named)


@pytest.fixture
def deployed(world: World) -> Deployed:
    return Deployed(world)


def request_for(rows: int) -> bytes:
    tensor = {"name": "x", "shape": [rows, 3], "datatype": "FP32", "data": [1.25, 2.0, 0.5] * rows}
    return json.dumps({"inputs": [tensor]}).encode()


def large_request() -> tuple[bytes, str]:
    """More than Lambda carries, in the binary form; with the length of its JSON object."""
    data = np.tile(np.array([1.25, 2.0, 0.5], np.float32), 600_000).tobytes()
    parameters = {"binary_data_size": len(data)}
    tensor = {"name": "x", "shape": [600_000, 3], "datatype": "FP32", "parameters": parameters}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    assert len(data) > 6 * MIB
    return head + data, str(len(head))


def test_a_request_over_lambdas_limit_is_answered_as_any_other(deployed: Deployed) -> None:
    body, length = large_request()
    status, raw, headers = deployed.infer(
        isthmus_handover=deployed.hand_in(body),
        isthmus_handover_answer="allowed",
        inference_header_content_length=length,
    )
    assert status == 303, "the answer is as large"
    kept = json.loads(raw)["handover"]
    assert headers["location"] == kept["url"]
    whole = deployed.store.get(kept["url"])
    assert (len(whole), hashlib.sha256(whole).hexdigest()) == (kept["size_bytes"], kept["sha256"])
    assert kept["expires_at"] == deployed.time.seconds + OFFER_SECONDS
    head = int({k.lower(): v for k, v in kept["headers"].items()}["inference-header-content-length"])
    assert json.loads(whole[:head])["outputs"][0]["shape"] == [600_000, 3]
    logits = np.frombuffer(whole[head:], np.float32).reshape(600_000, 3)
    assert (logits == [1.25, 2.0, 0.5]).all(), "the model's weights are the identity"


def test_a_small_answer_comes_as_ever(deployed: Deployed) -> None:
    body = request_for(2)
    inline = deployed.infer(body)
    assert "handover" not in deployed.given[-1], "a plain request takes the plain way"
    handed = deployed.infer(isthmus_handover=deployed.hand_in(body), isthmus_handover_answer="allowed")
    assert handed == inline
    assert inline[0] == 200


def test_the_function_is_given_addresses_and_no_rights(deployed: Deployed) -> None:
    """Whoever took over a model's function could reach this request's objects, and no other."""
    deployed.infer(isthmus_handover=deployed.hand_in(request_for(1)), isthmus_handover_answer="allowed")
    handed = deployed.given[-1]["handover"]
    assert "/handover/in/digits/" in handed["body"]["url"]
    assert "/handover/out/digits/" in handed["place"]["put_url"]
    deployed.infer(isthmus_handover=deployed.hand_in(request_for(1)))
    assert deployed.given[-1]["handover"]["place"] is None


def test_no_candidate_is_given_the_addresses(deployed: Deployed) -> None:
    set_shadow("digits", Shadow(2, "2", 1.0), records=deployed.world.records)
    name = deployed.hand_in(request_for(1))
    assert deployed.infer(isthmus_handover=name)[0] == 200
    assert deployed.infer(request_for(1), isthmus_handover_answer="allowed")[0] == 200
    assert deployed.functions.sent == []
    deployed.infer(request_for(1))
    assert len(deployed.functions.sent) == 1, "as any other request"


def test_a_body_that_comes_twice_lies_under_one_name(deployed: Deployed) -> None:
    assert deployed.hand_in(request_for(3)) == deployed.hand_in(request_for(3))
    assert len(list(deployed.world.blobs.keys("handover/"))) == 1


def test_only_who_says_so_gets_an_address_for_an_answer(deployed: Deployed) -> None:
    body, length = large_request()
    name = deployed.hand_in(body)
    assert deployed.infer(isthmus_handover=name, inference_header_content_length=length)[0] == 413
    assert deployed.infer(request_for(1), isthmus_handover_answer="yes")[0] == 400


def test_an_address_that_the_caller_sends_is_never_asked(deployed: Deployed) -> None:
    """The router alone says which addresses a function fetches from."""
    event = {
        "httpMethod": "POST",
        "path": PATH,
        "headers": {"isthmus-handover-url": "https://internal.example"},
        "body": base64.b64encode(request_for(1)).decode(),
        "isBase64Encoded": True,
        "handover": {"body": {"url": "https://internal.example", "size_bytes": 1, "sha256": "a" * 64}},
    }
    route_inference(
        event,
        stack="shop",
        functions=deployed.functions,
        records=deployed.world.records,
        hand_over=deployed.hand_over,
    )
    assert "handover" not in deployed.given[-1]


def test_a_body_by_reference_and_a_body_are_one_too_many(deployed: Deployed) -> None:
    assert deployed.infer(b"{}", isthmus_handover=deployed.hand_in(request_for(1)))[0] == 400


def test_a_bad_body_is_refused_as_any_other(deployed: Deployed) -> None:
    status, raw, _ = deployed.infer(isthmus_handover=deployed.hand_in(b"<html>"))
    assert (status, list(json.loads(raw))) == (400, ["error"])


def test_the_store_takes_only_the_bytes_that_were_announced(deployed: Deployed) -> None:
    offer = deployed.offer(b"announced")
    with pytest.raises(PolicyViolation):
        deployed.store.put(offer["url"], b"something", offer["headers"])


def test_what_was_never_put_is_said(deployed: Deployed) -> None:
    status, raw, _ = deployed.infer(isthmus_handover=deployed.offer(b"announced")["id"])
    assert status == 400
    assert b"nothing was put" in raw


def test_what_lies_there_is_checked_again(deployed: Deployed) -> None:
    """Whoever may write to the bucket could have put something else since."""
    name = deployed.hand_in(request_for(1))
    path = deployed.world.folder / "bucket/handover/in/digits" / name
    path.chmod(0o644)
    path.write_bytes(request_for(2))
    status, raw, _ = deployed.infer(isthmus_handover=name)
    assert status == 400
    assert b"size and SHA-256" in raw


def test_an_offer_expires(deployed: Deployed) -> None:
    name = deployed.hand_in(request_for(1))
    deployed.time.seconds += OFFER_SECONDS
    assert deployed.infer(isthmus_handover=name)[0] == 200
    deployed.time.seconds += 1
    status, raw, _ = deployed.infer(isthmus_handover=name)
    assert status == 400
    assert b"expired" in raw


def test_a_longer_life_cannot_be_made_up(deployed: Deployed) -> None:
    _, size, digest = deployed.hand_in(request_for(1)).split("-")
    assert deployed.infer(isthmus_handover=f"1900000000-{size}-{digest}")[0] == 400


@pytest.mark.parametrize(
    "name", ["-", "../../bundles/digits/x", "1-2-3", "a" * 5000, "1800000000-1-" + "G" * 64]
)
def test_an_id_that_is_none_is_refused(deployed: Deployed, name: str) -> None:
    status, raw, _ = deployed.infer(isthmus_handover=name)
    assert status == 400
    assert len(raw) < 300


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{}", 400),
        ('{"size_bytes": 1}', 400),
        ('{"size_bytes": 1, "sha256": "abc"}', 400),
        ('{"size_bytes": "1", "sha256": "' + "a" * 64 + '"}', 400),
        ('{"size_bytes": 1, "sha256": "' + "a" * 64 + '", "key": "bundles/x"}', 400),
        ('{"size_bytes": 0, "sha256": "' + "a" * 64 + '"}', 413),
        ('{"size_bytes": ' + str(MAX_BYTES + 1) + ', "sha256": "' + "a" * 64 + '"}', 413),
        (" " * 5000, 400),
    ],
)
def test_what_is_no_wish_gets_no_offer(deployed: Deployed, body: str, status: int) -> None:
    found, raw, _ = deployed.route("/v2/models/digits/handover", body.encode())
    assert (found, list(json.loads(raw))) == (status, ["error"])


def test_an_offer_is_of_a_model_in_service_and_asked_with_post(deployed: Deployed) -> None:
    wish = json.dumps({"size_bytes": 1, "sha256": "a" * 64}).encode()
    assert deployed.route("/v2/models/other/handover", wish)[0] == 404
    status, _, headers = deployed.route("/v2/models/digits/handover", wish, method="GET")
    assert (status, headers["Allow"]) == (405, "POST")


def test_only_where_bodies_are_handed_over_the_description_says_so(deployed: Deployed) -> None:
    described = json.loads(deployed.route("/v2/openapi.json", b"", method="GET")[1])
    offer = deployed.offer(b"announced")
    said = described["components"]["schemas"]["Offer"]
    assert set(offer) == set(said["properties"]) == set(said["required"])
    assert "303" in described["paths"]["/v2/models/{MODEL_NAME}/infer"]["post"]["responses"]
    operations = [
        item[method] for item in described["paths"].values() for method in item if method != "parameters"
    ]
    assert all({"401", "403", "405"} <= set(operation["responses"]) for operation in operations)
    at_the_model = json.loads(deployed.service.handle(HttpRequest("GET", "/v2/openapi.json")).body)
    added = set(described["paths"]) - set(at_the_model["paths"])
    assert added == {"/v2/models/{MODEL_NAME}/handover"}


class Router(BaseHTTPRequestHandler):
    """What API Gateway does for the router; ``deployed`` is set by whoever serves."""

    deployed: Deployed

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        status, raw, headers = self.deployed.route(path, body, dict(self.headers), self.command)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(raw))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.mark.slow
def test_the_router_is_as_it_says(deployed: Deployed, tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (Router,), {"deployed": deployed}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        conformance.check(f"{url}/v2/openapi.json", url, tmp_path, model="digits", version="1", examples=3)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_is_over_the_functions_own_limit_is_refused(world: World) -> None:
    deployed = Deployed(world, most=10_000)
    body = request_for(2_000)
    assert deployed.infer(isthmus_handover=deployed.hand_in(body))[0] == 413
    assert deployed.infer(request_for(900), isthmus_handover_answer="allowed")[0] == 413


def test_a_store_that_is_away_is_503(deployed: Deployed) -> None:
    class Away:
        def get(self, url: str, *, max_bytes: int) -> bytes:
            raise Unavailable("an address could not be reached")

    name = deployed.hand_in(request_for(1))
    deployed.store = Away()
    assert deployed.infer(isthmus_handover=name)[0] == 503
    assert deployed.infer(request_for(1))[0] == 200


def test_an_answer_in_json_that_lambda_cannot_carry_is_put_or_refused(deployed: Deployed) -> None:
    """Bytes in, text out: nine bytes for each number of four."""
    data = np.full((300_000, 3), -1.2345678, np.float32).tobytes()
    tensor = {
        "name": "x",
        "shape": [300_000, 3],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    told = {
        "inference_header_content_length": str(len(head)),
        "isthmus_handover": deployed.hand_in(head + data),
    }
    status, raw, _ = deployed.infer(**told)
    assert (status, b"ask for binary_data" in raw) == (413, True)
    status, raw, _ = deployed.infer(**told, isthmus_handover_answer="allowed")
    kept = json.loads(raw)["handover"]
    assert (status, kept["size_bytes"] > 6 * MIB) == (303, True)
    assert json.loads(deployed.store.get(kept["url"]))["outputs"][0]["shape"] == [300_000, 3]
