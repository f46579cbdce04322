"""Between a client that cannot sign and an API that wants signatures: signs, and passes on."""

from __future__ import annotations

import re
from collections.abc import Mapping

import urllib3

from isthmus.adapters.aws.signing import RequestSigner
from isthmus.errors import EnvironmentProblem
from isthmus.inference.http import HttpRequest, HttpResponse, error_response
from isthmus.inference.routes import find_route
from isthmus.inference.web_pages import refuse_web_page
from isthmus.model.units import MIB

MAX_REQUEST_BYTES = 10 * MIB
"""API Gateway takes no more (its quotas, "Payload size")."""

TIMEOUT_SECONDS = 35
CONNECTIONS = 64
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""What API Gateway has (API reference, "Method", ``httpMethod``); to others it says that a token is missing."""

LEADS_AWAY = re.compile(r"(/|\\|%2f|%5c)\.{1,2}(/|\\|%2f|%5c|$)|%2e", re.IGNORECASE)
"""Dot segments, which lead out of /v2 where they are resolved; nobody needs to encode a dot (RFC 3986, 2.3)."""

NOT_PASSED_ON = {
    "authorization",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
"""Of one connection alone (RFC 9110, 7.6.1), or what the signature says anew."""

OF_THE_ANSWER = NOT_PASSED_ON | {"date", "server"}
"""The proxy's own server writes these."""


class SigningProxy:
    """Answers a request by what the API at ``base_url`` answers to it, signed with SigV4.

    Whoever reaches it acts with this user's rights, so it serves the protocol alone, and no web page: one that a
    browser shows could else send requests to this machine, under its own name or under one that it points here.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._signer = RequestSigner()
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS, retries=False, timeout=TIMEOUT_SECONDS)

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Return the API's answer; 502 when there is none, 401 when there is nothing to sign with."""
        if refusal := _refusal(request):
            return refusal
        try:
            # Signed are method, path and body: what lies on the way may change another header.
            url, signed = self._signer.sign(request.method, self._base_url + request.path, {}, request.body)
            headers = {**_kept(request.headers, NOT_PASSED_ON), **signed}
            answer = self._pool.request(
                request.method, url, body=request.body or None, headers=headers, decode_content=False
            )
        except EnvironmentProblem as error:
            return error_response(401, str(error))
        except urllib3.exceptions.HTTPError as error:
            return error_response(502, f"the API did not answer: {error}"[:300])
        return HttpResponse(answer.status, answer.data, _kept(answer.headers, OF_THE_ANSWER))


def _refusal(request: HttpRequest) -> HttpResponse | None:
    if not re.match(r"/v2(?=[/?]|$)", request.path):
        return error_response(404, f"there is nothing at {request.path[:200]!r}; the protocol begins at /v2")
    if LEADS_AWAY.search(re.split("[?#]", request.path, maxsplit=1)[0]):
        return error_response(
            400, f"a path must have no part '.' or '..', and {request.path[:200]!r} has one"
        )
    if request.method not in METHODS:
        route = find_route(request.path)
        allowed = {"allow": route.method if route else "GET, POST"}
        return error_response(405, f"the API has no method {request.method[:20]!r}", allowed)
    return refuse_web_page(request)


def _kept(headers: Mapping[str, str], dropped: set[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in dropped}
