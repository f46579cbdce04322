"""``Functions`` and ``Concurrency`` in memory: versions, layers and aliases as Lambda keeps them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from isthmus.errors import LimitExceeded, OtherStack, Throttled, UnknownModel
from isthmus.model.layout import release_alias
from isthmus.ports import Alias, FunctionCode, Invocation

MAX_NAME_CHARACTERS = 64
MAX_EVENT_BYTES = 1_048_576
REGION = "arn:aws:lambda:eu-west-1:000000000000"


@dataclass(frozen=True)
class PublishedVersion:
    """All that a version runs; it never changes once published."""

    function: str
    version: str
    code: FunctionCode
    layers: tuple[str, ...]
    marker: str


Handler = Callable[[PublishedVersion, Mapping[str, Any]], Any]


def _nothing(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return None


class MemoryFunctions:
    """``handler`` answers every invocation; what it raises becomes the function's error.

    An alias with a weight spreads its calls evenly, so that a test sees the same split every time.
    """

    def __init__(self, handler: Handler = _nothing) -> None:
        self._handler = handler
        self._latest: dict[str, FunctionCode] = {}
        self._versions: dict[str, list[PublishedVersion]] = {}
        self._aliases: dict[str, Alias] = {}
        self._calls: dict[str, int] = {}
        self._releases: dict[tuple[str, str], str] = {}
        self._limits: dict[str, int] = {}
        self._running: dict[str, int] = {}
        self.sent: list[tuple[str, dict[str, Any]]] = []
        """What was to be called later: function and event."""
        self._lock = threading.Lock()
        self.layers: dict[str, dict[str, str]] = {}
        """Layer name to the bucket key of each version's archive, by the version's marker."""

    def install(self, function: str, code: FunctionCode) -> None:
        """Deploy a function as the stack does: ``$LATEST`` changes, no version is published."""
        self._latest[function] = code
        self._versions.setdefault(function, [])

    def published(self, function: str) -> list[PublishedVersion]:
        """Return a function's versions, oldest first."""
        return list(self._versions.get(function, []))

    def pattern(self, function: str) -> FunctionCode:
        return self._latest[function]

    def publish_layer(self, name: str, zip_key: str, marker: str) -> str:
        with self._lock:
            versions = self.layers.setdefault(name, {})
            versions.setdefault(marker, zip_key)
            return f"{REGION}:layer:{name}:{list(versions).index(marker) + 1}"

    def stage(self, function: str, pattern: FunctionCode, layers: tuple[str, ...], marker: str) -> str:
        if len(function) > MAX_NAME_CHARACTERS:
            raise LimitExceeded(
                f"the function name {function} has {len(function)} characters; Lambda takes at most "
                f"{MAX_NAME_CHARACTERS}"
            )
        with self._lock:
            versions = self._versions.setdefault(function, [])
            known = next((entry for entry in versions if entry.marker == marker), None)
            owner = versions[0].code.stack if versions else pattern.stack
            if owner != pattern.stack:
                raise OtherStack(f"the function {function} belongs to the stack {owner}, not {pattern.stack}")
            if known is None:
                self._latest[function] = pattern
                known = PublishedVersion(function, str(len(versions) + 1), pattern, layers, marker)
                versions.append(known)
            return known.version

    def invoke(self, function: str, qualifier: str, event: Mapping[str, Any]) -> Invocation:
        version = self._resolve(function, qualifier)
        with self._running_one(function):
            try:
                answer = self._handler(version, event)
            except Exception as error:
                body = {"errorType": type(error).__name__, "errorMessage": str(error)}
                return Invocation(json.dumps(body).encode(), version.version, type(error).__name__)
            return Invocation(json.dumps(answer).encode(), version.version)

    @contextmanager
    def _running_one(self, function: str) -> Iterator[None]:
        with self._lock:
            running = self._running.get(function, 0)
            if running >= self._limits.get(function, running + 1):
                raise Throttled(f"{function} takes no more calls at present: {running} are running")
            self._running[function] = running + 1
        try:
            yield
        finally:
            with self._lock:
                self._running[function] -= 1

    def send(self, function: str, event: Mapping[str, Any]) -> None:
        if len(json.dumps(event).encode()) > MAX_EVENT_BYTES:
            raise LimitExceeded(f"the event for {function} has more than {MAX_EVENT_BYTES:,} bytes")
        self.sent.append((function, dict(event)))

    def alias(self, function: str) -> Alias | None:
        return self._aliases.get(function)

    def point(self, function: str, alias: Alias) -> None:
        self._aliases[function] = alias

    def unroute(self, function: str) -> None:
        self._aliases.pop(function, None)

    def name_release(self, function: str, release: int, version: str) -> None:
        self._releases[function, release_alias(release)] = version

    def limit(self, function: str) -> int | None:
        if function not in self._versions:
            raise UnknownModel(f"there is no function {function}")
        return self._limits.get(function)

    def set_limit(self, function: str, calls: int | None) -> None:
        self.limit(function)
        if calls is None:
            self._limits.pop(function, None)
        else:
            self._limits[function] = calls

    def publish_version(self, function: str) -> str:
        code = self._latest[function]
        with self._lock:
            versions = self._versions.setdefault(function, [])
            if not versions or versions[-1].code != code:
                versions.append(PublishedVersion(function, str(len(versions) + 1), code, code.layers, ""))
            return f"{REGION}:function:{function}:{versions[-1].version}"

    def _resolve(self, function: str, qualifier: str) -> PublishedVersion:
        numbered = Alias(self._releases.get((function, qualifier), qualifier))
        alias = self._aliases.get(function) if qualifier == "live" else numbered
        wanted = self._weighted(function, alias) if alias is not None else ""
        for entry in self._versions.get(function, []):
            if entry.version == wanted:
                return entry
        raise UnknownModel(f"there is no function {function}:{qualifier}")

    def _weighted(self, function: str, alias: Alias) -> str:
        if not alias.next_version:
            return alias.version
        with self._lock:
            call = self._calls.get(function, 0) + 1
            self._calls[function] = call
        crossed = int(call * alias.next_weight) > int((call - 1) * alias.next_weight)
        return alias.next_version if crossed else alias.version
