"""Whom a server on this machine does not answer: web pages, under whatever name they reach it.

A page that a browser shows can send requests to this machine: as another site, which ``Origin`` and
``Sec-Fetch-Site`` tell (W3C, "Fetch Metadata Request Headers"), or under a name of its own that it points at
127.0.0.1 (DNS rebinding), which ``Host`` tells. Programs send no ``Origin``.
"""

from __future__ import annotations

import re

from isthmus.inference.http import HttpRequest, HttpResponse, error_response

THIS_MACHINE = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.IGNORECASE)
OWN_SITES = ("", "none", "same-origin")
"""Of ``Sec-Fetch-Site``: no browser, a person's own doing, or the server's own page."""


def refuse_web_page(request: HttpRequest) -> HttpResponse | None:
    """Return the refusal (403) of a request to this machine's loopback that a web page may have sent, or None."""
    host, origin = request.header("host"), request.header("origin")
    if not THIS_MACHINE.fullmatch(host):
        return error_response(403, f"this server answers as 127.0.0.1 or localhost, not as {host[:100]!r}")
    if origin and origin.lower() != f"http://{host.lower()}":
        return error_response(403, f"this server answers no web page of {origin[:100]!r}")
    if request.header("sec-fetch-site").strip().lower() not in OWN_SITES:
        return error_response(403, "this server answers no request that another site's web page sent")
    return None
