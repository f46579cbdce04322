"""Open Inference Protocol v2 (REST) as functions of a request and the models in service.

Specification: https://github.com/kserve/open-inference-protocol, ``inference_rest.md``. Beyond it: tensors
as bytes (``binary.py``), two parameters of inference (``infer.py``), pictures (``classify.py``), and the
description of all this (``openapi.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET

from isthmus.errors import InvalidModel, InvalidRequest, PayloadTooLarge, UnknownModel, WrongMethod
from isthmus.inference.fault import fault_of
from isthmus.inference.http import HttpRequest, HttpResponse, error_response, json_response
from isthmus.inference.infer import infer
from isthmus.inference.messages import ModelMetadata, ModelReady, ServerReady
from isthmus.inference.routes import Route, route_of
from isthmus.inference.served import ServedModel
from isthmus.inference.server_answers import answer_for_server
from isthmus.model.units import format_bytes

Models = Mapping[str, ServedModel]
PLATFORM = "onnx_onnxruntime"


def handle(
    request: HttpRequest, models: Models, *, max_request_bytes: int, max_response_bytes: int
) -> HttpResponse:
    """Answer any request: 2xx, a 4xx whose ``error`` says what to change, or a 5xx of a broken bundle."""
    try:
        route = route_of(request.method, request.path)
        response = answer_for_server(route) or _answer(route, request, models, max_request_bytes)
        if len(response.body) > max_response_bytes:
            raise PayloadTooLarge(
                f"the response is {format_bytes(len(response.body))}; at most "
                f"{format_bytes(max_response_bytes)} can be sent: ask for fewer outputs or smaller batches"
            )
        return response
    except WrongMethod as error:
        return error_response(error.status, str(error), {"allow": error.allowed})
    except InvalidRequest as error:
        return error_response(error.status, str(error))
    except InvalidModel as error:
        return error_response(500, str(error), fault=fault_of(error))


def _answer(route: Route, request: HttpRequest, models: Models, max_request_bytes: int) -> HttpResponse:
    if route.verb == "ready":
        ready = bool(models) and all(_is_ready(model) for model in models.values())
        # The protocol says a false readiness by a 4xx status.
        return json_response(ServerReady(ready=ready), 200 if ready else 400)
    model = find_model(route, models)
    match route.verb:
        case "model":
            return json_response(describe(model))
        case "model_ready":
            ready = _is_ready(model)
            return json_response(ModelReady(name=model.name, ready=ready), 200 if ready else 400)
        case "classify":
            from isthmus.inference.classify import classify

            return classify(request, model, max_request_bytes)
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


def describe(model: ServedModel) -> ModelMetadata:
    """Return a model's metadata."""
    return ModelMetadata(
        name=model.name,
        versions=[model.version],
        platform=PLATFORM,
        inputs=model.manifest.inputs,
        outputs=model.manifest.outputs,
        raw=model.manifest.raw or UNSET,
    )


def _is_ready(model: ServedModel) -> bool:
    try:
        model.engine.load()
    except InvalidModel:
        return False
    return True
