"""Ask a staged version its golden questions, by real requests, before anybody is routed to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from isthmus.errors import ProofFailed
from isthmus.inference.archive import unpack_bundle
from isthmus.inference.bundle import open_bundle
from isthmus.inference.http import HttpRequest, HttpResponse
from isthmus.inference.proof import check_golden_response, golden_requests
from isthmus.model import layout
from isthmus.ports import BlobStore, Functions, Signer
from isthmus.workflows.shift_traffic import probe_event


def prove_model(
    function: str,
    version: str,
    model: str,
    bundle: str,
    *,
    blobs: BlobStore,
    functions: Functions,
    signer: Signer,
    workdir: Path,
) -> float:
    """Return the largest relative difference between the version's answers and the goldens.

    Raises:
        ProofFailed: an answer is missing or differs; the version gets no traffic.
    """
    archive = workdir / "bundle.zip"
    blobs.download(layout.bundle_folder(model, bundle) + "bundle.zip", archive)
    opened = open_bundle(unpack_bundle(archive, workdir / "bundle"), signer.public_key())
    ready = call(function, version, functions, probe_event(model))
    if ready.status != 200:
        raise ProofFailed(
            f"{function} version {version} is not ready: {ready.body[:500].decode(errors='replace')}"
        )
    largest = 0.0
    for golden, request, expected in golden_requests(opened):
        answer = call(function, version, functions, proxy_event(request))
        largest = max(largest, check_golden_response(golden, answer, expected))
    return largest


def proxy_event(request: HttpRequest) -> dict[str, Any]:
    """Return a request in the form in which API Gateway passes it to Lambda."""
    return {
        "httpMethod": request.method,
        "path": request.path,
        "headers": dict(request.headers),
        "body": request.body.decode(),
        "isBase64Encoded": False,
    }


def call(function: str, version: str, functions: Functions, event: dict[str, Any]) -> HttpResponse:
    """Invoke a version with a proxy event.

    Raises:
        ProofFailed: the function itself failed.
    """
    answer = functions.invoke(function, version, event)
    if answer.error:
        detail = answer.payload[:500].decode(errors="replace")
        raise ProofFailed(f"{function} version {version} failed with {answer.error}: {detail}")
    response = msgspec.json.decode(answer.payload, type=dict[str, Any])
    body = str(response.get("body") or "").encode()
    return HttpResponse(int(response["statusCode"]), body, response.get("headers") or {})
