"""The protocol inside a Lambda function: API Gateway's proxy events to requests, and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from isthmus.errors import EnvironmentProblem, InvalidModel, InvalidRequest
from isthmus.inference.early import DEFAULT_MODEL_DIR
from isthmus.inference.events import FAULT, to_proxy, to_request
from isthmus.inference.http import error_response
from isthmus.inference.runtime import threads_for_memory
from isthmus.inference.service import ModelService, service_for_folder

BROKEN = 500
"""Of an answer; others above are no fault of the version (503: a store did not answer)."""


PROOF = "proof"
"""Of an event: true of a golden question. Beside what API Gateway sends, and the router passes no such field on: only
who may invoke the function itself can set it."""


class ServeSettings(msgspec.Struct, frozen=True):
    """What the function that serves a model is told by its environment.

    ``bundle_sha256`` names the bundle that it was staged with. It comes from where the key comes from, and was set
    by who checked the signature: a function that starts cold need not check it again. Empty: it does.
    """

    model_dir: Path
    public_key_der: bytes
    memory_mb: int
    bundle_sha256: str = ""

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> ServeSettings:
        """Read ``ISTHMUS_MODEL_DIR``, ``ISTHMUS_PUBLIC_KEY``, ``ISTHMUS_BUNDLE_SHA256`` and
        ``AWS_LAMBDA_FUNCTION_MEMORY_SIZE``.

        Raises:
            EnvironmentProblem: no key, or a value that cannot be read.
        """
        memory = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        if not memory.isdecimal():
            raise EnvironmentProblem(f"AWS_LAMBDA_FUNCTION_MEMORY_SIZE must be a size in MB, not {memory!r}")
        model_dir = Path(environment.get("ISTHMUS_MODEL_DIR") or DEFAULT_MODEL_DIR)
        pinned = environment.get("ISTHMUS_BUNDLE_SHA256", "")
        return cls(model_dir, read_public_key(environment), int(memory), pinned)


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
    return service_for_folder(
        settings.model_dir, settings.public_key_der, threads=threads, sha256=settings.bundle_sha256
    )


def raise_if_broken(answered: dict[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a proxy response as it is, unless it says that the bundle is broken (500).

    Lambda counts what a function raises, by version, and answers of any status as good ones: a roll-out goes by
    that count. The sentence says what failed (``fault_of``), and quotes no request. Golden questions (``PROOF``) are
    nobody's secret, and who asks them wants the whole reason: they are answered.

    Raises:
        InvalidModel: the status is 500.
    """
    if answered.get("statusCode") == BROKEN and event.get(PROOF) is not True:
        raise InvalidModel(
            f"the model must answer every request that fits it, and failed on one ({answered.get(FAULT, 'unnamed')}): "
            "ask its golden questions again, or bring an earlier release back"
        )
    return answered


def answer(event: Mapping[str, Any], service: ModelService) -> dict[str, Any]:
    """Answer a proxy event, or ``{"ping": true}`` with the releases in service, engines loaded."""
    if event.get("ping") is True:
        return {"models": service.releases()}
    try:
        request = to_request(event)
    except InvalidRequest as error:
        return to_proxy(error_response(error.status, str(error)))
    return to_proxy(service.handle(request))
