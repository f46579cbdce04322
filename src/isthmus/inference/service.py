"""Models in service behind the protocol: what a function or an edge core holds for its lifetime."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from isthmus.inference.bundle import Bundle, open_bundle
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.events import MAX_LAMBDA_BYTES, RESPONSE_ROOM_BYTES
from isthmus.inference.http import HttpRequest, HttpResponse
from isthmus.inference.protocol import handle
from isthmus.inference.served import ServedModel


class ModelService:
    """Answers protocol requests for one or several models; safe to share between threads."""

    def __init__(
        self,
        models: Iterable[ServedModel],
        *,
        max_request_bytes: int = MAX_LAMBDA_BYTES,
        max_response_bytes: int = MAX_LAMBDA_BYTES - RESPONSE_ROOM_BYTES,
    ) -> None:
        self.models = {model.name: model for model in models}
        self._max_request_bytes = max_request_bytes
        self._max_response_bytes = max_response_bytes

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request; failures of request or bundle become an ``error`` with their status."""
        return handle(
            request,
            self.models,
            max_request_bytes=self._max_request_bytes,
            max_response_bytes=self._max_response_bytes,
        )

    def releases(self) -> dict[str, dict[str, object]]:
        """Return each model's release number and bundle digest, its engine loaded.

        Raises:
            InvalidModel: a model cannot be loaded.
        """
        for model in self.models.values():
            model.engine.load()
        return {
            name: {"release": model.manifest.release, "bundle": model.bundle_sha256}
            for name, model in self.models.items()
        }


def served(bundle: Bundle, *, threads: int) -> ServedModel:
    """Return a verified bundle as a model in service; its session is made at the first request."""
    return ServedModel(bundle.manifest, OnnxEngine(bundle.model_path, threads=threads), bundle.sha256)


def service_for_folder(
    folder: Path, public_key_der: bytes, *, threads: int, sha256: str = ""
) -> ModelService:
    """Verify the bundle in a folder, which must be that of ``sha256`` where it is given, and serve it.

    Raises:
        SignatureInvalid, DigestMismatch, InvalidModel, InvalidDocument: see ``open_bundle``.
    """
    return ModelService([served(open_bundle(folder, public_key_der, sha256=sha256), threads=threads)])
