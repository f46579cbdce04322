"""Asking again and again, and what it took: closed loop, or open loop at a rate.

In a *closed* loop each client asks again when it has its answer: while the server stalls nobody asks, and
the requests that would have waited are missing from the percentiles (coordinated omission; G. Tene, "How
NOT to Measure Latency"). In an *open* loop each request is due at a time of its own, whatever became of
those before, and its latency counts from then on, the wait for a free client included.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from isthmus.errors import InvalidInput

SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)
BEHIND = 4
"""A percentile is told from so many requests beyond it on: fewer are chance."""
LATE_SECONDS = 0.01
MOST_CLIENTS = 512


@dataclass(frozen=True, kw_only=True)
class Load:
    """``requests`` or ``seconds`` end it, whichever comes first; ``rate`` (per second) makes the loop open.

    ``warm_up`` requests go before, one at a time by each client, and are not counted.

    Raises:
        InvalidInput: a number that makes no sense, or no end.
    """

    clients: int = 8
    requests: int | None = None
    seconds: float | None = None
    rate: float | None = None
    warm_up: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.clients <= MOST_CLIENTS:
            raise InvalidInput(f"there must be 1 to {MOST_CLIENTS} clients, not {self.clients}")
        if self.requests is None and self.seconds is None:
            raise InvalidInput("a load needs an end: a number of requests, or seconds")
        for name in ("requests", "seconds", "rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e9:
                raise InvalidInput(f"{name} must be a number above 0, not {value}")
        if not 0 <= self.warm_up <= 1_000_000:
            raise InvalidInput(f"the requests to warm up must be 0 to 1,000,000, not {self.warm_up}")


@dataclass
class Measured:
    """Per request, in seconds: ``latencies`` as a user waits, ``services`` from its sending on.

    They are the same in a closed loop. Only right answers are among them; ``errors`` counts the others
    by their kind. ``late``: sent more than 10 ms after they were due, because every client was waiting.
    """

    load: Load
    latencies: list[float] = field(default_factory=list)
    services: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    late: int = 0
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """How many were sent."""
        return len(self.latencies) + sum(self.errors.values())

    @property
    def per_second(self) -> float:
        """Right answers in a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0


def measure(
    ask: Callable[[int], str],
    load: Load,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Measured:
    """Put the load on. ``ask`` (of the number of a client) returns the kind of an error, or an empty string."""
    measured, lock = Measured(load), threading.Lock()
    warmed, ready = iter(range(load.warm_up)), threading.Barrier(load.clients)
    numbers, started = iter(range(load.requests or 2**62)), [0.0]

    def one(client: int) -> None:
        while _next(warmed, lock) is not None:
            ask(client)
        if ready.wait() == 0:
            started[0] = clock()
        ready.wait()
        while (number := _next(numbers, lock)) is not None:
            due = started[0] + number / load.rate if load.rate else clock()
            if load.seconds is not None and max(due, clock()) >= started[0] + load.seconds:
                return
            if (ahead := due - clock()) > 0:
                sleep(ahead)
            sent = clock()
            wrong = ask(client)
            ended = clock()
            with lock:
                measured.late += bool(load.rate) and sent - due > LATE_SECONDS
                if wrong:
                    measured.errors[wrong] += 1
                    continue
                measured.latencies.append(ended - due)
                measured.services.append(ended - sent)

    threads = [threading.Thread(target=one, args=(client,), daemon=True) for client in range(load.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    measured.seconds = clock() - started[0]
    return measured


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of the ascending values that at least ``share`` of them do not exceed (nearest rank)."""
    rank = -(-round(share * 1_000_000) * len(ordered) // 1_000_000)
    return ordered[max(rank, 1) - 1]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return ``p50``, ``p90`` … ``p99.9`` and ``max``, without those that too few values stand behind."""
    ordered = sorted(values)
    if not ordered:
        return {}
    told = {
        f"p{100 * share:g}": percentile(ordered, share)
        for share in SHARES
        if share == 0.5 or (1 - share) * len(ordered) >= BEHIND
    }
    return {**told, "max": ordered[-1]}


def _next(numbers: object, lock: threading.Lock) -> int | None:
    with lock:
        return next(numbers, None)  # type: ignore[call-overload, no-any-return]
