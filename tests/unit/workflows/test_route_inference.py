from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from workflow_world import World, pattern

from isthmus.adapters.local.events import MemoryExecutions
from isthmus.adapters.local.functions import MemoryFunctions, PublishedVersion
from isthmus.errors import Throttled, Unavailable
from isthmus.ports import Alias, Invocation
from isthmus.workflows.refresh_models import refresh_models
from isthmus.workflows.route_inference import model_of, route_inference
from isthmus.workflows.shift_traffic import commit_champion


def echo(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return {"statusCode": 200, "headers": {}, "body": json.dumps(dict(event)), "isBase64Encoded": False}


def in_service(handler: Any = echo) -> MemoryFunctions:
    functions = MemoryFunctions(handler)
    functions.stage("shop-model-digits", pattern(), (), "m")
    functions.point("shop-model-digits", Alias("1"))
    return functions


def ask(
    world: World, path: str, method: str = "GET", functions: MemoryFunctions | None = None, **event: Any
) -> tuple[int, dict[str, Any]]:
    proxied = {"httpMethod": method, "path": path, **event}
    answer = route_inference(
        proxied, stack="shop", functions=functions or in_service(), records=world.records
    )
    return answer["statusCode"], json.loads(answer["body"])


def champion(world: World, model: str = "digits", release: int = 1) -> None:
    commit_champion(model, "b" * 64, release, "k", "1", records=world.records, now="now")


def test_a_models_requests_reach_its_function_as_they_are(world: World) -> None:
    body = '{"inputs": []}'
    status, passed = ask(
        world,
        "/v2/models/digits/versions/3/infer",
        "POST",
        body=body,
        headers={"content-type": "application/json", "Authorization": "…", "X-API-Key": "…"},
        isBase64Encoded=False,
        requestContext={"identity": "not passed on", "requestId": "r-1"},
    )
    assert status == 200
    assert passed["path"] == "/v2/models/digits/versions/3/infer"
    assert passed["body"] == body
    assert passed["headers"] == {"content-type": "application/json"}, (
        "what lets the caller in goes no further"
    )
    assert passed["requestContext"] == {"requestId": "r-1"}, (
        "the id, which ties the two logs; not the identity"
    )


def test_the_server_is_live_always_and_ready_with_a_model(world: World) -> None:
    assert ask(world, "/v2/health/live") == (200, {"live": True})
    assert ask(world, "/v2/health/ready") == (503, {"ready": False})
    champion(world)
    assert ask(world, "/v2/health/ready/") == (200, {"ready": True})
    assert ask(world, "/v2")[1]["name"] == "isthmus"


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/health/ready"])
def test_another_method_is_405(world: World, path: str) -> None:
    status, body = ask(world, path, "POST")
    assert (status, list(body)) == (405, ["error"])


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1/models/digits",
        "/v2/models",
        "/v2/modelsdigits",
        "/v2/models/absent/infer",
        "/v2/models/Digits/infer",
        "/v2/models/digits:1/infer",
        "/v2/models/..%2f..%2fadmin/infer",
        "/v2/models/" + "x" * 200,
        "/v2/models/digits*/infer",
    ],
)
def test_what_is_not_there_is_404_with_one_sentence(world: World, path: str) -> None:
    status, body = ask(world, path)
    assert (status, list(body)) == (404, ["error"])


def test_the_router_describes_itself_as_the_models_do(world: World) -> None:
    status, body = ask(world, "/v2/openapi.json")
    assert (status, "/v2/models/{MODEL_NAME}/infer" in body["paths"]) == (200, True)
    assert ask(world, "/v2")[1]["extensions"] == ["binary_tensor_data"]


def test_a_wrong_method_is_told_the_right_one(world: World) -> None:
    event = {"httpMethod": "PATCH", "path": "/v2/openapi.json"}
    answer = route_inference(event, stack="shop", functions=in_service(), records=world.records)
    assert (answer["statusCode"], answer["headers"]["Allow"]) == (405, "GET")


def test_a_query_reaches_the_model(world: World) -> None:
    asked = {"queryStringParameters": {"top_k": "3"}, "body": "", "isBase64Encoded": True}
    passed = ask(world, "/v2/models/digits/classify", "POST", **asked)[1]
    assert passed["queryStringParameters"] == {"top_k": "3"}


def leaks(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    raise ValueError(f"secret in the request: {event['body']}")


def test_a_crash_is_502_and_quotes_nothing_of_the_request(world: World) -> None:
    status, body = ask(world, "/v2/models/digits/infer", "POST", in_service(leaks), body="4711")
    assert status == 502
    assert "4711" not in body["error"]
    assert "ValueError" in body["error"]


class Failing(MemoryFunctions):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def invoke(self, function: str, qualifier: str, event: Mapping[str, Any]) -> Invocation:
        raise self._error


def test_a_model_that_does_not_answer_is_503(world: World) -> None:
    functions = Failing(Unavailable("Lambda did not answer"))
    status, body = ask(world, "/v2/models/digits/infer", "POST", functions)
    assert (status, list(body)) == (503, ["error"])


def test_a_model_that_takes_no_more_is_429_and_says_when_to_come_again(world: World) -> None:
    event = {"httpMethod": "POST", "path": "/v2/models/digits/infer"}
    functions = Failing(Throttled("ReservedFunctionConcurrentInvocationLimitExceeded"))
    answer = route_inference(event, stack="shop", functions=functions, records=world.records)
    assert answer["statusCode"] == 429
    assert answer["headers"]["Retry-After"] == "1"
    assert list(json.loads(answer["body"])) == ["error"]


def test_a_model_is_held_to_its_limit_and_no_other_is(world: World) -> None:
    functions = in_service()
    functions.stage("shop-model-other", pattern(), (), "m")
    functions.point("shop-model-other", Alias("1"))
    functions.set_limit("shop-model-digits", 0)
    assert ask(world, "/v2/models/digits/infer", "POST", functions)[0] == 429
    assert ask(world, "/v2/models/other/infer", "POST", functions)[0] == 200
    functions.set_limit("shop-model-digits", None)
    assert ask(world, "/v2/models/digits/infer", "POST", functions)[0] == 200


def which(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return {"statusCode": 200, "headers": {}, "body": json.dumps({"version": version.version})}


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/v2/models/digits/infer", "2"),
        ("/v2/models/digits/versions/7/infer", "1"),
        ("/v2/models/digits/versions/7", "1"),
        ("/v2/models/digits/versions/8/infer", "2"),
        ("/v2/models/digits/versions/9/infer", "2"),  # not there: what is in service says so
        ("/v2/models/digits/versions/live/infer", "2"),
        ("/v2/models/digits/versions/07/infer", "2"),
    ],
)
def test_a_release_that_was_in_service_answers_under_its_number(
    world: World, path: str, version: str
) -> None:
    functions = in_service(which)
    functions.stage("shop-model-digits", pattern("code-2"), (), "m2")
    functions.name_release("shop-model-digits", 7, "1")
    functions.name_release("shop-model-digits", 8, "2")
    functions.point("shop-model-digits", Alias("2"))
    assert ask(world, path, "POST", functions) == (200, {"version": version})


def test_a_function_without_an_alias_is_no_model_in_service(world: World) -> None:
    functions = MemoryFunctions(echo)
    functions.stage("shop-model-digits", pattern(), (), "m")
    assert ask(world, "/v2/models/digits/infer", "POST", functions)[0] == 404


def test_a_deploy_refreshes_every_champion_once(world: World) -> None:
    executions = MemoryExecutions()
    champion(world, "digits", 3)
    champion(world, "fashion", 1)

    def refresh(request_id: str) -> list[str]:
        return refresh_models(request_id, records=world.records, executions=executions, machine="m")

    assert refresh("request-1") == ["digits", "fashion"]
    assert refresh("request-1") == [], "the same event delivered twice"
    assert refresh("request-2") == ["digits", "fashion"]
    names = [name for _, name in executions.started]
    assert all(len(name) <= 80 for name in names)
    payload = executions.started["m", names[0]]
    assert payload == {"model": "digits", "bundle": "b" * 64, "release": 3, "job_key": "k", "against": 3}


def test_without_a_model_in_service_a_deploy_starts_nothing(world: World) -> None:
    executions = MemoryExecutions()
    assert refresh_models("r", records=world.records, executions=executions, machine="m") == []
    assert executions.started == {}


def refuses(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return {"statusCode": 400, "headers": {}, "body": "{}"}


@pytest.mark.parametrize(
    ("model", "handler", "reached"),
    [
        ("digits", echo, ["digits"]),
        ("digits", leaks, ["digits"]),
        ("digits", refuses, ["digits"]),
        ("made-up", echo, []),
    ],
)
def test_it_is_told_which_models_own_function_was_reached(
    world: World, model: str, handler: Any, reached: list[str]
) -> None:
    event = {"httpMethod": "POST", "path": f"/v2/models/{model}/infer"}
    told: list[str] = []
    functions = in_service(handler)
    route_inference(event, stack="shop", functions=functions, records=world.records, reached=told.append)
    assert told == reached


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v2/models/digits", "digits"),
        ("/v2/models/digits/", "digits"),
        ("/v2/models/digits/versions/3/infer", "digits"),
        ("/v2/models/", ""),
        ("/v2/health/ready", ""),
        ("", ""),
    ],
)
def test_which_model_a_request_is_for(path: str, model: str) -> None:
    assert model_of({"path": path}) == model
