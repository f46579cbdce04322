"""A place that answers requests, and whether it is worth asking at present."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from isthmus.client.answer import Where

FAILURES = 2
"""So many in a row, and a place is passed over."""
FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 60.0


class Breaker:
    """A circuit breaker: a place that failed again and again rests, then one request tries it.

    Each try that fails doubles the rest (M. Nygard, "Release It!", "Circuit Breaker"). Safe to share
    between threads; ``now`` is a monotonic clock's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._rest = 0.0
        self._until = 0.0

    def allows(self, now: float) -> bool:
        """Whether to ask; of many callers after a rest one is told so, the others once it succeeded."""
        with self._lock:
            if self._failures < FAILURES:
                return True
            if now < self._until:
                return False
            self._until = now + self._rest
            return True

    def succeeded(self) -> None:
        """It answered: ask it always."""
        with self._lock:
            self._failures, self._rest = 0, 0.0

    def failed(self, now: float) -> None:
        """It did not answer, or said that it cannot."""
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES:
                self._rest = min(max(FIRST_REST_SECONDS, 2 * self._rest), LONGEST_REST_SECONDS)
                self._until = now + self._rest


@dataclass(frozen=True)
class Outgoing:
    """A request as it leaves: a full address and every header."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Authorize(Protocol):
    """Gives a request what its receiver asks for; may change its address and headers, and may block.

    Raises:
        EnvironmentProblem: there is nothing to authorize it with.
    """

    def __call__(self, request: Outgoing) -> Outgoing: ...


@dataclass
class Place:
    """``address`` is asked when it is first needed: a stack's outputs are looked up over the network."""

    name: Where
    address: Callable[[], str]
    authorize: Authorize | None = None
    breaker: Breaker = field(default_factory=Breaker)
    extensions: frozenset[str] | None = None
    """Of the protocol, as its server says; None until it was asked."""
    large_answers: set[str] = field(default_factory=set)
    """Paths whose answers were too large to be sent: ask for them through the bucket at once."""

    def outgoing(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Outgoing:
        """Return a request to this place. May block.

        Raises:
            IsthmusError: no address can be found, or nothing to authorize the request with.
        """
        request = Outgoing(method, self.address().rstrip("/") + path, headers, body)
        return self.authorize(request) if self.authorize else request
