"""The one API in front of every model: route a request to the model's own function."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from isthmus.errors import InvalidRequest, Throttled, Unavailable, UnknownModel, WrongMethod
from isthmus.inference.events import texts_of, to_proxy
from isthmus.inference.routes import route_of
from isthmus.inference.server_answers import answer_for_server
from isthmus.model import layout
from isthmus.model.blob import Name
from isthmus.ports import Functions, Invocation, Records
from isthmus.workflows.hand_over import HandOver
from isthmus.workflows.serving_settings import ServingSettings
from isthmus.workflows.shadows import Shadows

LIVE = "live"
KEPT = ("httpMethod", "path", "queryStringParameters", "headers", "body", "isBase64Encoded")
"""Of the event, what a model's function is given."""
CREDENTIALS = ("authorization", "x-api-key", "x-amz-security-token")
"""Headers that let the caller in, and are nobody else's business: no model's, and no candidate's."""
RETRY_AFTER_SECONDS = 1
_MODEL = re.compile(
    r"^/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[1-9][0-9]{0,8})(?=/|$))?(?:/(?P<rest>.*))?$"
)


def route_inference(
    event: Mapping[str, Any],
    *,
    stack: str,
    functions: Functions,
    records: Records,
    settings: ServingSettings | None = None,
    shadows: Shadows | None = None,
    hand_over: HandOver | None = None,
    reached: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """Answer an API Gateway proxy event with a proxy response (Open Inference Protocol v2).

    ``settings`` say which models have a shadow, ``shadows`` send it its share of the requests, and
    ``hand_over`` lets bodies over Lambda's limit come through the bucket; without them there is none of it.
    ``reached`` is told the model's name when its own function answered or failed: nobody made it up.
    """
    router = _Router(stack, functions, records, settings, shadows, hand_over, reached)
    try:
        return router.answer(event)
    except WrongMethod as error:
        return respond(error.status, {"error": str(error)}, Allow=error.allowed)
    except InvalidRequest as error:
        return respond(error.status, {"error": str(error)})


def model_of(event: Mapping[str, Any]) -> str:
    """Return the model that a request names; an empty text for the API's own paths."""
    match = _MODEL.match(str(event.get("path", "")).rstrip("/"))
    return match["model"] if match else ""


def respond(status: int, body: object, **headers: str) -> dict[str, Any]:
    """Return a JSON response in API Gateway's proxy form."""
    named = {"Content-Type": "application/json", **headers}
    return {"statusCode": status, "headers": named, "body": msgspec.json.encode(body).decode()}


class _Router:
    def __init__(
        self,
        stack: str,
        functions: Functions,
        records: Records,
        settings: ServingSettings | None,
        shadows: Shadows | None,
        hand_over: HandOver | None,
        reached: Callable[[str], object] | None,
    ) -> None:
        self._stack, self._functions, self._records = stack, functions, records
        self._settings, self._shadows, self._hand_over = settings, shadows, hand_over
        self._reached = reached

    def answer(self, event: Mapping[str, Any]) -> dict[str, Any]:
        path, method = str(event.get("path", "")).rstrip("/"), str(event.get("httpMethod", ""))
        if match := _MODEL.match(path):
            return self._of_model(match["model"], match["version"] or "", match["rest"] or "", event)
        route = route_of(method, path or "/")
        if answer := answer_for_server(route, hand_over=self._hand_over is not None):
            return to_proxy(answer)
        # Before the first model there is nothing that could answer.
        ready = bool(self._records.query(layout.CHAMPIONS))
        return respond(200 if ready else 503, {"ready": ready})

    def _of_model(self, model: str, version: str, rest: str, event: Mapping[str, Any]) -> dict[str, Any]:
        try:
            msgspec.convert(model, Name)
        except msgspec.ValidationError:
            raise UnknownModel(f"there is no model {model!r} in service") from None
        if rest == "handover" and self._hand_over is not None:
            return self._offer(model, event, self._hand_over)
        request = {"requestId": (event.get("requestContext") or {}).get("requestId", "")}
        headers = {k: v for k, v in texts_of(event, "headers").items() if k.lower() not in CREDENTIALS}
        passed = {
            **{name: event.get(name) for name in KEPT},
            "headers": headers,
            "requestContext": request,
        }
        if self._hand_over is not None and (handed := self._hand_over.passed(model, event)):
            passed["handover"] = handed
        started = time.perf_counter()
        answer = self._forward(model, version, passed)
        if self._shadows is None or self._settings is None or version or rest != "infer":
            return answer
        if "handover" in passed:
            return answer  # a candidate would be given the caller's addresses, and write to them
        if answer["statusCode"] == 200 and (shadow := self._settings.shadow(model)):
            self._shadows.offer(model, shadow, passed, answer, (time.perf_counter() - started) * 1000)
        return answer

    def _forward(self, model: str, version: str, passed: Mapping[str, Any]) -> dict[str, Any]:
        function = layout.function_name(self._stack, model)
        try:
            answer = self._invoke(function, version, passed)
        except UnknownModel:
            raise UnknownModel(f"there is no model {model!r} in service") from None
        except Throttled:
            sentence = f"the model {model} takes no more requests at present; try again"
            return respond(429, {"error": sentence}, **{"Retry-After": str(RETRY_AFTER_SECONDS)})
        except Unavailable:
            return respond(503, {"error": f"the model {model} did not answer in time; try again"})
        if self._reached is not None:
            self._reached(model)
        if answer.error:
            # The cause stays in the model's own log: it may quote the request.
            return respond(502, {"error": f"the model {model} failed to answer ({answer.error})"})
        return dict(msgspec.json.decode(answer.payload))

    def _invoke(self, function: str, version: str, passed: Mapping[str, Any]) -> Invocation:
        if version:
            try:
                return self._functions.invoke(function, layout.release_alias(int(version)), passed)
            except UnknownModel:
                # Not published any more, or from before releases had names. What is in service knows its
                # own release, and answers for it, or that this one is not there.
                pass
        return self._functions.invoke(function, LIVE, passed)

    def _offer(self, model: str, event: Mapping[str, Any], hand_over: HandOver) -> dict[str, Any]:
        if event.get("httpMethod") != "POST":
            method = str(event.get("httpMethod"))[:20]
            raise WrongMethod(f"handover is asked with POST, not {method!r}", "POST")
        if model not in {item["model"] for item in self._records.query(layout.CHAMPIONS)}:
            raise UnknownModel(f"there is no model {model!r} in service")
        return respond(200, hand_over.offer(model, event))
