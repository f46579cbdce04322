"""Whom a client asks, in which order, and how it proves who it is."""

from __future__ import annotations

import functools
import ipaddress
import os
from dataclasses import replace
from urllib.parse import urlsplit

from isthmus.client.place import Authorize, Outgoing, Place
from isthmus.errors import EnvironmentProblem, InvalidInput

DEFAULT_STACK = "isthmus"


def places(
    *,
    edge: str | None,
    api: str | None,
    stack: str | None,
    token: str | None,
    api_key: str | None = None,
    name: str = "isthmus.Client",
) -> tuple[Place, ...]:
    """Return the places to ask, the core device first; without a word, the stack of ISTHMUS_STACK.

    A device alone stays alone: what is sent to it may not be meant for the cloud.

    Raises:
        InvalidInput: an address that cannot be one, or a token or key that is no header's value.
    """
    if api is not None and stack is not None:
        raise InvalidInput(f"{name} takes the API's address or the stack's name, not both")
    found = []
    if edge is not None:
        found.append(Place("edge", _constant(edge)))
    if api is None and stack is None and edge is None:
        stack = os.environ.get("ISTHMUS_STACK") or DEFAULT_STACK
    if api is not None or stack is not None:
        address = _constant(api) if api is not None else _of_stack(str(stack))
        proof = bearer(token) if token is not None else signer()
        found.append(Place("cloud", address, proof if api_key is None else keyed(api_key, proof)))
    elif token is not None or api_key is not None:
        what = "a token" if token is not None else "an API key"
        raise InvalidInput(f"{what} is for the API: name it by api= or stack=")
    return tuple(found)


def bearer(token: str) -> Authorize:
    """Put ``Authorization: Bearer …`` on each request.

    Raises:
        InvalidInput: the token is no header's value; later: a request would carry it unencrypted.
    """
    return functools.partial(_with_header, "token", "authorization", f"Bearer {_printable('token', token)}")


def keyed(key: str, proof: Authorize) -> Authorize:
    """Put ``x-api-key: …`` on each request too, which the API's usage plan counts by; a signature covers it.

    Raises:
        InvalidInput: the key is no header's value; later: a request would carry it unencrypted.
    """
    named = functools.partial(_with_header, "API key", "x-api-key", _printable("API key", key))
    return lambda request: proof(named(request))


def signer() -> Authorize:
    """Sign each request with SigV4, by the credentials that boto3 finds. Raises EnvironmentProblem without any."""
    from isthmus import bootstrap

    signing = functools.cache(bootstrap.api_signer)  # boto3 is imported with the first request

    def authorize(request: Outgoing) -> Outgoing:
        url, headers = signing().sign(request.method, request.url, request.headers, request.body)
        return replace(request, url=url, headers=headers)

    return authorize


def _printable(what: str, text: str) -> str:
    if not text.isascii() or not text.isprintable() or not text or " " in text:
        raise InvalidInput(f"the {what} must be printable ASCII without spaces")
    return text


def _with_header(what: str, name: str, value: str, request: Outgoing) -> Outgoing:
    parts = urlsplit(request.url)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise InvalidInput(f"the {what} is not sent to {parts.hostname} without TLS: use https")
    return replace(request, headers={**request.headers, name: value})


def _constant(url: str) -> functools.partial[str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidInput(
            f"an address must begin with http:// or https:// and name a host, not {url[:200]!r}"
        )
    return functools.partial(str, url)


def _of_stack(stack: str) -> functools.partial[str]:
    return functools.partial(_api_url, stack)


@functools.lru_cache(maxsize=64)
def _api_url(stack: str) -> str:
    from isthmus import bootstrap

    url = bootstrap.stack_outputs(stack).get("ApiUrl")
    if url is None:
        raise EnvironmentProblem(
            f"the stack {stack} has no output ApiUrl; deploy it anew, or name its API's address"
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
