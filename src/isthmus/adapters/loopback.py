"""Requests to a core device's own server: plain HTTP on loopback, nothing to sign."""

from __future__ import annotations

import urllib.error
import urllib.request

from isthmus.errors import Unavailable
from isthmus.inference.http import JSON, HttpResponse

TIMEOUT_SECONDS = 35


class LoopbackApi:
    """The server at ``base_url``, for example ``http://127.0.0.1:8770``."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")

    def call(self, method: str, path: str, body: bytes = b"") -> HttpResponse:
        """Send one request. Raises Unavailable when nobody answers."""
        headers = {"Content-Type": JSON}
        request = urllib.request.Request(self._base_url + path, body or None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return HttpResponse(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            return HttpResponse(error.code, error.read(), dict(error.headers))
        except OSError as error:
            raise Unavailable(f"{self._base_url} did not answer: {error}") from error
