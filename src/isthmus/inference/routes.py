"""The paths of the Open Inference Protocol v2 (REST) and the method that each is asked with."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from isthmus.errors import UnknownPath, WrongMethod

Verb = Literal["server", "live", "ready", "openapi", "model", "model_ready", "infer", "classify"]
Method = Literal["GET", "POST"]


class Pattern(msgspec.Struct, frozen=True):
    """A row of the table; ``model``: the path goes on below ``/v2/models/{name}[/versions/{version}]``."""

    verb: Verb
    method: Method
    path: str
    model: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Its paths as OpenAPI writes them."""
        if not self.model:
            return (self.path,)
        below = "/v2/models/{MODEL_NAME}"
        return below + self.path, below + "/versions/{MODEL_VERSION}" + self.path


TABLE = (
    Pattern("server", "GET", "/v2"),
    Pattern("live", "GET", "/v2/health/live"),
    Pattern("ready", "GET", "/v2/health/ready"),
    Pattern("openapi", "GET", "/v2/openapi.json"),
    Pattern("model", "GET", "", model=True),
    Pattern("model_ready", "GET", "/ready", model=True),
    Pattern("infer", "POST", "/infer", model=True),
    Pattern("classify", "POST", "/classify", model=True),
)

_FIXED = {row.path: row for row in TABLE if not row.model}
_BELOW_MODEL = {row.path: row for row in TABLE if row.model}
_MODEL = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<rest>(?:/[a-z]+)?)")


class Route(msgspec.Struct, frozen=True):
    """What a path asks for; ``method`` is the one that it allows."""

    verb: Verb
    method: Method
    model: str = ""
    version: str | None = None


def find_route(path: str) -> Route | None:
    """Return what a path (query ignored, one trailing slash allowed) asks for, or None."""
    plain = path.partition("?")[0].removesuffix("/")
    if row := _FIXED.get(plain):
        return Route(row.verb, row.method)
    found = _MODEL.fullmatch(plain)
    row = _BELOW_MODEL.get(found["rest"]) if found else None
    if found is None or row is None:
        return None
    version = found["version"]
    return Route(row.verb, row.method, _plain(found["model"]), None if version is None else _plain(version))


def _plain(text: str) -> str:
    if "%" not in text:
        return text
    # Not at the top: few names need it, and a function that starts cold would wait for it.
    from urllib.parse import unquote

    return unquote(text)


def route_of(method: str, path: str) -> Route:
    """Return what a request asks for.

    Raises:
        UnknownPath: nothing is there.
        WrongMethod: the path has another method.
    """
    route = find_route(path)
    if route is None:
        raise UnknownPath(f"there is nothing at {path[:200]!r}; the protocol begins at /v2")
    if method.upper() != route.method:
        raise WrongMethod(f"{path[:200]!r} is asked with {route.method}, not {method[:20]!r}", route.method)
    return route
