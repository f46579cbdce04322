"""The paths of the Open Inference Protocol v2 (REST) and the method that each is asked with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import unquote

Verb = Literal["server", "live", "ready", "model", "model_ready", "infer"]

_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_ROUTES = tuple(
    (verb, method, re.compile(pattern))
    for verb, method, pattern in (
        ("server", "GET", "/v2"),
        ("live", "GET", "/v2/health/live"),
        ("ready", "GET", "/v2/health/ready"),
        ("model", "GET", _MODEL),
        ("model_ready", "GET", _MODEL + "/ready"),
        ("infer", "POST", _MODEL + "/infer"),
    )
)


@dataclass(frozen=True)
class Route:
    """What a path asks for; ``method`` is the one that it allows."""

    verb: Verb
    method: Literal["GET", "POST"]
    model: str = ""
    version: str | None = None


def find_route(path: str) -> Route | None:
    """Return what a path (query ignored, one trailing slash allowed) asks for, or None."""
    plain = path.partition("?")[0].removesuffix("/")
    for verb, method, pattern in _ROUTES:
        if found := pattern.fullmatch(plain):
            groups = found.groupdict()
            version = groups.get("version")
            return Route(
                cast(Verb, verb),
                cast(Literal["GET", "POST"], method),
                unquote(groups.get("model") or ""),
                None if version is None else unquote(version),
            )
    return None
