"""Look at how the calls of a version ended while it is brought into service, by Lambda's own figures.

Lambda sends its figures each minute, stamped with when a call began (Lambda developer guide, "Types of metrics for
Lambda functions"). So the last minutes are always incomplete. What is there of them counts against a version at
once, for nobody takes a failure back; only minutes that are complete count for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from isthmus.errors import RolloutUnhealthy
from isthmus.model.calls import MINUTE_SECONDS, Calls, Minute
from isthmus.planning.error_rate import speaks_against, speaks_for, tolerated_rate
from isthmus.ports import CallFigures

SETTLED_SECONDS = 120
"""After its end, until a minute counts as complete: the longest call of a model's function (29 s), the minute after
which Lambda sends its figures, and half a minute more. AWS promises no time."""


class Probes(NamedTuple):
    """How many calls the roll-out itself has made of either version by its alias. None of them failed."""

    version: int
    previous: int


class Seen(msgspec.Struct, frozen=True):
    """What a look saw of others' calls, from the start of the roll-out to ``until`` (UTC seconds).

    ``verdict`` is ``healthy`` if enough calls in complete minutes ended well. ``none``: the calls say nothing for the
    version, and nothing against it; that it answers is known by the roll-out's own probes alone.
    """

    verdict: Literal["healthy", "none"]
    requests: int
    errors: int
    previous_requests: int
    previous_errors: int
    until: int


def watch_calls(
    function: str,
    version: str,
    previous: str,
    *,
    since: float,
    now: float,
    probes: Probes,
    max_error_rate: float,
    figures: CallFigures,
) -> Seen:
    """Hold the failures of ``version`` since ``since`` against those of ``previous`` in the same time.

    All of the roll-out is looked at each time, so that what a look came too early for is seen by the next one.
    ``since`` and ``now`` are UTC seconds; ``previous`` may be empty, or ``version`` itself. ``probes`` are taken off:
    they are the roll-out's own.

    Raises:
        RolloutUnhealthy: the failures speak against the version (``planning/error_rate.py``); both figures are named.
        Unavailable: there are no figures to be had. No data never counts as healthy.
    """
    begin, end = _whole(since), _whole(now) + MINUTE_SECONDS
    minutes = figures.minutes(function, version, begin, end)
    other = previous if previous != version else ""
    old_minutes = figures.minutes(function, other, begin, end) if other else ()
    new = Minute.total(minutes).without(probes.version)
    old = Minute.total(old_minutes).without(probes.previous)
    rate = tolerated_rate(old, max_error_rate)
    if speaks_against(new, rate, old):
        beside = f"{_share(old)} of version {other}" if other else "there is no version in service before it"
        raise RolloutUnhealthy(
            f"{function} version {version} failed {_share(new)} while it was brought into service, beside {beside}: "
            f"at most {rate:.1%} is tolerated; see the function's log for why"
        )
    settled = Minute.total(_complete(minutes, now)).without(probes.version)
    verdict: Literal["healthy", "none"] = "healthy" if speaks_for(settled) else "none"
    return Seen(verdict, new.requests, new.errors, old.requests, old.errors, int(now))


def _complete(minutes: Iterable[Minute], now: float) -> list[Minute]:
    return [minute for minute in minutes if minute.begin + MINUTE_SECONDS + SETTLED_SECONDS <= now]


def _whole(seconds: float) -> int:
    return int(seconds // MINUTE_SECONDS) * MINUTE_SECONDS


def _share(calls: Calls) -> str:
    return f"{calls.errors} of {calls.requests} calls ({calls.rate:.1%})"
