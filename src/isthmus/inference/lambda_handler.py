"""The protocol inside a Lambda function: API Gateway's proxy events to requests, and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.errors import EnvironmentProblem, InvalidRequest
from isthmus.inference.engine import threads_for_memory
from isthmus.inference.http import HttpRequest, HttpResponse, error_response
from isthmus.inference.service import ModelService, service_for_folder

DEFAULT_MODEL_DIR = "/opt/isthmus/model"


@dataclass(frozen=True)
class ServeSettings:
    """What the function that serves a model is told by its environment."""

    model_dir: Path
    public_key_der: bytes
    memory_mb: int

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> ServeSettings:
        """Read ``ISTHMUS_MODEL_DIR``, ``ISTHMUS_PUBLIC_KEY`` and ``AWS_LAMBDA_FUNCTION_MEMORY_SIZE``.

        Raises:
            EnvironmentProblem: no key, or a value that cannot be read.
        """
        memory = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        if not memory.isdecimal():
            raise EnvironmentProblem(f"AWS_LAMBDA_FUNCTION_MEMORY_SIZE must be a size in MB, not {memory!r}")
        model_dir = Path(environment.get("ISTHMUS_MODEL_DIR") or DEFAULT_MODEL_DIR)
        return cls(model_dir, read_public_key(environment), int(memory))


def read_public_key(environment: Mapping[str, str]) -> bytes:
    """Return the signer's public key from ``ISTHMUS_PUBLIC_KEY`` (base64 of DER SubjectPublicKeyInfo).

    Raises:
        EnvironmentProblem: it is not set, or not base64.
    """
    text = environment.get("ISTHMUS_PUBLIC_KEY", "")
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise EnvironmentProblem("ISTHMUS_PUBLIC_KEY is not base64") from error
    if not key:
        raise EnvironmentProblem(
            "ISTHMUS_PUBLIC_KEY must hold the signer's public key: bundles are verified with it"
        )
    return key


def service_from_env(environment: Mapping[str, str]) -> ModelService:
    """Verify the bundle that the model's layer brought, and serve it."""
    settings = ServeSettings.from_env(environment)
    threads = threads_for_memory(settings.memory_mb)
    return service_for_folder(settings.model_dir, settings.public_key_der, threads=threads)


def answer(event: Mapping[str, Any], service: ModelService) -> dict[str, Any]:
    """Answer a proxy event, or ``{"ping": true}`` with the releases in service, engines loaded."""
    if event.get("ping") is True:
        return {"models": service.releases()}
    try:
        request = to_request(event)
    except InvalidRequest as error:
        return to_proxy(error_response(error.status, str(error)))
    return to_proxy(service.handle(request))


def to_request(event: Mapping[str, Any]) -> HttpRequest:
    """Translate ``{httpMethod, path, headers, body, isBase64Encoded}`` (REST API proxy format).

    Raises:
        InvalidRequest: not such an event, or a body that is not base64 as it says.
    """
    method, path = event.get("httpMethod"), event.get("path")
    if not isinstance(method, str) or not isinstance(path, str):
        raise InvalidRequest("the event must have httpMethod and path, as API Gateway's proxy events do")
    body = event.get("body") or ""
    if not isinstance(body, str):
        raise InvalidRequest("the event's body must be a string")
    headers = {str(name): str(value) for name, value in (event.get("headers") or {}).items()}
    packed = bool(event.get("isBase64Encoded"))
    try:
        data = base64.b64decode(body, validate=True) if packed else body.encode()
    except ValueError as error:
        raise InvalidRequest(
            f"the event's body is not {'base64, as it says' if packed else 'text'}"
        ) from error
    return HttpRequest(method, path, headers, data)


def to_proxy(response: HttpResponse) -> dict[str, Any]:
    """Translate to ``{statusCode, headers, body, isBase64Encoded}``."""
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }
