"""Open Inference Protocol v2 (REST) as functions of a request and the models in service.

Specification: https://github.com/kserve/open-inference-protocol, ``inference_rest.md``. Two request
parameters extend it: ``preprocess`` (the input is in the bundle's raw form) and ``postprocess``
(the outputs of the bundle's post-processing are added).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus import __version__
from isthmus.errors import InvalidModel, InvalidRequest, PayloadTooLarge, UnknownModel, UnsupportedMediaType
from isthmus.inference.http import JSON, HttpRequest, HttpResponse, error_response, json_response
from isthmus.inference.routes import Route, find_route
from isthmus.inference.served import ServedModel
from isthmus.inference.tensors import InputTensor, OutputTensor, read_tensor, write_tensor
from isthmus.model.units import format_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

Models = Mapping[str, ServedModel]
PLATFORM = "onnx_onnxruntime"


class RequestedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """An output that the client wants."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST …/infer``."""

    inputs: list[InputTensor]
    outputs: list[RequestedOutput] = []
    id: str | None = None
    parameters: dict[str, Any] = {}


class InferResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of its answer."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


_decoder = msgspec.json.Decoder(InferRequest)


def handle(
    request: HttpRequest, models: Models, *, max_request_bytes: int, max_response_bytes: int
) -> HttpResponse:
    """Answer any request: 2xx, a 4xx whose ``error`` says what to change, or a 5xx of a broken bundle."""
    route = find_route(request.path)
    if route is None:
        return error_response(404, f"there is nothing at {request.path[:200]!r}; the protocol begins at /v2")
    if request.method.upper() != route.method:
        sentence = f"{request.path[:200]!r} is asked with {route.method}, not {request.method[:20]!r}"
        return error_response(405, sentence, {"allow": route.method})
    try:
        response = _answer(route, request, models, max_request_bytes)
        if len(response.body) > max_response_bytes:
            raise PayloadTooLarge(
                f"the response is {format_bytes(len(response.body))}; at most "
                f"{format_bytes(max_response_bytes)} can be sent: ask for fewer outputs or smaller batches"
            )
        return response
    except InvalidRequest as error:
        return error_response(error.status, str(error))
    except InvalidModel as error:
        return error_response(500, str(error))


def _answer(route: Route, request: HttpRequest, models: Models, max_request_bytes: int) -> HttpResponse:
    match route.verb:
        case "server":
            return json_response({"name": "isthmus", "version": __version__, "extensions": []})
        case "live":
            return json_response({"live": True})
        case "ready":
            ready = bool(models) and all(_is_ready(model) for model in models.values())
            # The protocol says a false readiness by a 4xx status.
            return json_response({"ready": ready}, 200 if ready else 400)
    model = find_model(route, models)
    match route.verb:
        case "model":
            return json_response(describe(model))
        case "model_ready":
            ready = _is_ready(model)
            return json_response({"name": model.name, "ready": ready}, 200 if ready else 400)
        case _:
            return infer(request, model, max_request_bytes)


def find_model(route: Route, models: Models) -> ServedModel:
    """Return the model that a route names.

    Raises:
        UnknownModel: no such model, or not in that version.
    """
    model = models.get(route.model)
    if model is None:
        served = ", ".join(sorted(models)) or "none"
        raise UnknownModel(f"model {route.model[:100]!r} is not in service; in service: {served}")
    if route.version not in (None, model.version):
        raise UnknownModel(
            f"model {model.name!r} is in service as version {model.version}, not {route.version[:100]!r}"
        )
    return model


def describe(model: ServedModel) -> dict[str, Any]:
    """Return a model's metadata."""
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": PLATFORM,
        "inputs": model.manifest.inputs,
        "outputs": model.manifest.outputs,
    }


def infer(request: HttpRequest, model: ServedModel, max_request_bytes: int) -> HttpResponse:
    """Run the model on a request's tensors.

    Raises:
        InvalidRequest: the request does not fit; the message says how.
        InvalidModel: the model fails, or gives what JSON cannot carry.
    """
    call = parse(request, max_request_bytes)
    raw = _flag(call.parameters, "preprocess")
    arrays = read_inputs(call, model, raw=raw)
    outputs: dict[str, NDArray[Any]] = model.run(arrays, raw=raw)
    extra = model.finish(outputs) if _flag(call.parameters, "postprocess") else {}
    chosen = choose_outputs([output.name for output in call.outputs], list(outputs), list(extra))
    answer = InferResponse(
        model_name=model.name,
        model_version=model.version,
        id=call.id,
        outputs=[write_tensor(name, {**outputs, **extra}[name]) for name in chosen],
    )
    return json_response(answer)


def parse(request: HttpRequest, max_request_bytes: int) -> InferRequest:
    """Check size, then media type, then parse.

    Raises:
        PayloadTooLarge, InvalidRequest
    """
    if len(request.body) > max_request_bytes:
        raise PayloadTooLarge(
            f"the request is {format_bytes(len(request.body))}; "
            f"at most {format_bytes(max_request_bytes)} is taken"
        )
    media = request.header("content-type").partition(";")[0].strip().lower()
    if media not in ("", JSON):
        raise UnsupportedMediaType(f"the body must be {JSON}, not {media[:100]!r}")
    if request.header("content-encoding") not in ("", "identity"):
        raise UnsupportedMediaType("the body must not be compressed")
    try:
        return _decoder.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not an inference request: {error}") from error


def read_inputs(call: InferRequest, model: ServedModel, *, raw: bool) -> dict[str, NDArray[Any]]:
    """Return the arrays of a request by name: each input once, none missing, none unknown.

    Raises:
        InvalidRequest
    """
    specs = {spec.name: spec for spec in model.expected_inputs(raw=raw)}
    given = [tensor.name for tensor in call.inputs]
    needed = ", ".join(specs)
    if unknown := [name for name in given if name not in specs]:
        raise InvalidRequest(f"input {unknown[0][:100]!r} is unknown; needed: {needed}")
    if missing := [name for name in specs if name not in given]:
        raise InvalidRequest(
            f"input {missing[0]!r} is missing; needed: {needed}; given: {', '.join(given) or 'none'}"
        )
    if len(given) != len(specs):
        raise InvalidRequest(f"an input is given twice; needed, once each: {needed}")
    nan = model.manifest.allow_nan
    return {tensor.name: read_tensor(tensor, specs[tensor.name], allow_nan=nan) for tensor in call.inputs}


def choose_outputs(asked: list[str], outputs: list[str], extra: list[str]) -> list[str]:
    """Return the outputs to send: those asked for, or all; post-processed ones unless some are asked for.

    Raises:
        InvalidRequest: an unknown name, or one that is asked for twice.
    """
    if unknown := [name for name in asked if name not in outputs + extra]:
        raise InvalidRequest(
            f"output {unknown[0][:100]!r} is unknown; there are: {', '.join(outputs + extra)}"
        )
    if len(set(asked)) != len(asked):
        raise InvalidRequest(f"an output is asked for twice: {', '.join(asked)}")
    if not asked:
        return outputs + extra
    return asked if set(asked) & set(extra) else asked + extra


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameter {name!r} must be true or false, not {value!r}"[:300])
    return value


def _is_ready(model: ServedModel) -> bool:
    try:
        model.engine.load()
    except InvalidModel:
        return False
    return True
