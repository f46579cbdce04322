"""The published description: complete, true to the protocol's own, and kept by the running server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from bundle_factory import KeySigner, make_bundle

from isthmus.edge.server import EdgeServer
from isthmus.inference.http import HttpRequest
from isthmus.inference.messages import InferRequest
from isthmus.inference.openapi import ANSWERS, describe_api
from isthmus.inference.routes import TABLE, find_route
from isthmus.inference.service import ModelService, served
from tests import conformance

VERSIONED = "/v2/models/{MODEL_NAME}/versions/{MODEL_VERSION}"
PROTOCOL = {
    ("/v2/health/live", "get"): set(),
    ("/v2/health/ready", "get"): set(),
    (VERSIONED + "/ready", "get"): set(),
    ("/v2", "get"): {"name", "version", "extensions"},
    (VERSIONED, "get"): {"name", "platform"},
    (VERSIONED + "/infer", "post"): {"model_name", "outputs"},
}
"""What kserve/open-inference-protocol's open_inference_rest.yaml has, and the members that an answer must have."""


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(describe_api()))
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    bundle = make_bundle(tmp_path_factory.mktemp("served") / "bundle", KeySigner())
    running = EdgeServer(ModelService([served(bundle, threads=1)]), 0, max_request_bytes=1_000_000)
    running.start()
    yield f"http://127.0.0.1:{running.port}"
    running.close()


def resolve(spec: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return found


def test_the_protocols_operations_and_members_are_in_it(spec: dict[str, Any]) -> None:
    for (path, method), members in PROTOCOL.items():
        answer = spec["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        assert members <= set(resolve(spec, answer)["required"]), path
    request = spec["components"]["schemas"]["InferRequest"]
    assert request["required"] == ["inputs"]
    assert set(request["properties"]) == {"inputs", "outputs", "id", "parameters"}
    tensor = spec["components"]["schemas"]["InputTensor"]
    assert {"name", "shape", "datatype"} == set(tensor["required"])
    assert resolve(spec, tensor["properties"]["data"])["type"] == "array"
    sizes = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
    assert tensor["properties"]["shape"] == {"type": "array", "items": sizes, "maxItems": 32}


def test_every_route_is_described_and_every_description_leads_to_one(spec: dict[str, Any]) -> None:
    assert set(ANSWERS) == {row.verb for row in TABLE}
    for path, item in spec["paths"].items():
        route = find_route(path)
        assert route is not None, path
        assert route.method.lower() in item, path
        named = {entry["name"] for entry in item.get("parameters", [])}
        assert named == {name for name in ("MODEL_NAME", "MODEL_VERSION") if name in path}
    identifiers = [
        op["operationId"] for item in spec["paths"].values() for op in item.values() if isinstance(op, dict)
    ]
    assert len(set(identifiers)) == len(identifiers) == len(spec["paths"])


def test_the_server_publishes_it(spec: dict[str, Any]) -> None:
    response = ModelService([]).handle(HttpRequest("GET", "/v2/openapi.json"))
    assert (response.status, json.loads(response.body)) == (200, spec)


def test_what_the_protocol_calls_a_request_fits_the_schema_and_the_parser(spec: dict[str, Any]) -> None:
    """The specification's own example of a request."""
    example = {
        "id": "42",
        "inputs": [
            {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]},
            {"name": "input1", "shape": [3], "datatype": "BOOL", "data": [True]},
            {"name": "input2", "shape": [1, 2], "datatype": "BYTES", "data": [["a", "b"]]},
        ],
        "outputs": [{"name": "output0"}],
    }
    schema = {**spec["components"]["schemas"]["InferRequest"], "components": spec["components"]}
    jsonschema.validate(example, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**example, "inputs": [{"name": "input0"}]}, schema)
    assert msgspec.json.decode(json.dumps(example), type=InferRequest).id == "42"


@pytest.mark.slow
def test_the_running_server_is_as_it_says(server: str, tmp_path: Path) -> None:
    conformance.check(f"{server}/v2/openapi.json", server, tmp_path, model="fashion", version="1", examples=3)


@pytest.mark.slow
def test_the_running_server_is_as_the_protocol_says(server: str, tmp_path: Path) -> None:
    """By the public description, where it is at hand; by its operations in ours, else."""
    description = conformance.public_description() or f"{server}/v2/openapi.json"
    conformance.check(description, server, tmp_path, model="fashion", version="1", examples=10)
