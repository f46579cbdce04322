"""Ask a staged version its golden questions, by real requests, before anybody is routed to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from isthmus.errors import ProofFailed
from isthmus.inference.archive import unpack_bundle
from isthmus.inference.bundle import open_bundle
from isthmus.inference.http import HttpRequest, HttpResponse
from isthmus.inference.lambda_handler import PROOF
from isthmus.inference.proof import check_golden_response, golden_requests
from isthmus.model import layout
from isthmus.ports import BlobStore, Functions, Signer
from isthmus.workflows.shift_traffic import probe_event

TIMED_CALLS = 5
NOISE_MILLISECONDS = 50
"""A version is not turned away for less: an invocation's own time varies by that."""


class Proof(msgspec.Struct, frozen=True):
    """The largest relative difference from the goldens; and the best times of one golden question, of this
    version and of the one in service, where they could be compared."""

    largest_difference: float
    milliseconds: float | None = None
    previous_milliseconds: float | None = None


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
    previous: str = "",
    max_slowdown: float = 0.0,
    timer: Callable[[], float] = time.perf_counter,
) -> Proof:
    """Ask every golden question, and time the first of them beside the version in service (``previous``).

    ``max_slowdown``: how many times as long as ``previous`` the version may take; 0 asks nothing. ``timer``
    gives seconds.

    Raises:
        ProofFailed: an answer is missing or differs, or comes too late; the version gets no traffic.
    """
    archive = workdir / "bundle.zip"
    blobs.download(layout.bundle_folder(model, bundle) + "bundle.zip", archive)
    opened = open_bundle(unpack_bundle(archive, workdir / "bundle"), signer.public_key())
    if opened.sha256 != bundle:
        # The function knows its bundle by this digest, and leaves the signature to this proof.
        raise ProofFailed(f"{archive.name} of {model} holds the bundle {opened.sha256}, not {bundle}")
    ready = call(function, version, functions, probe_event(model))
    if ready.status != 200:
        raise ProofFailed(
            f"{function} version {version} is not ready: {ready.body[:500].decode(errors='replace')}"
        )
    largest = 0.0
    for golden, request, expected in golden_requests(opened):
        answer = call(function, version, functions, proxy_event(request))
        largest = max(largest, check_golden_response(golden, answer, expected))
    requests = golden_requests(opened)
    if not (requests and previous and previous != version and max_slowdown):
        return Proof(largest)
    event = proxy_event(requests[0][1])
    # The version in service answers under its own release; the path without one asks either.
    event["path"] = f"/v2/models/{model}/infer"
    return _timed(Proof(largest), function, (version, previous), functions, event, max_slowdown, timer)


def _timed(
    proof: Proof,
    function: str,
    versions: tuple[str, str],
    functions: Functions,
    event: dict[str, Any],
    max_slowdown: float,
    timer: Callable[[], float],
) -> Proof:
    """Time both versions in turn; the best of several is what a version can do, whatever else goes on."""
    best = dict.fromkeys(versions, float("inf"))
    for _ in range(TIMED_CALLS):
        for asked in versions:
            started = timer()
            answer = functions.invoke(function, asked, event)
            seconds = timer() - started
            if answer.error or msgspec.json.decode(answer.payload).get("statusCode") != 200:
                return proof  # it takes other inputs than this release: there is nothing to compare
            best[asked] = min(best[asked], seconds)
    new, old = (best[version] * 1000 for version in versions)
    if new > old * max_slowdown and new > old + NOISE_MILLISECONDS:
        raise ProofFailed(
            f"{function} version {versions[0]} takes {new:.0f} ms for a golden question; version {versions[1]}, "
            f"which is in service, takes {old:.0f} ms, and at most {max_slowdown:g} times that is allowed"
        )
    return msgspec.structs.replace(proof, milliseconds=new, previous_milliseconds=old)


def proxy_event(request: HttpRequest) -> dict[str, Any]:
    """Return a golden's request in the form in which API Gateway passes it to Lambda, with the mark of a proof."""
    return {
        "httpMethod": request.method,
        "path": request.path,
        "headers": dict(request.headers),
        "body": request.body.decode(),
        "isBase64Encoded": False,
        PROOF: True,
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
