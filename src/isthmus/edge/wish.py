"""What a request may ask of a split model: a deadline, and a place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.edge.balancer import Option
from isthmus.errors import InvalidRequest

PLACEMENT = "isthmus_placement"
DEADLINE = "isthmus_deadline_seconds"


def read_deadline(parameters: Mapping[str, Any]) -> float:
    """Return the seconds within which the request wants its answer; infinity where it does not say.

    Raises:
        InvalidRequest: it is no positive number.
    """
    said = parameters.get(DEADLINE)
    if said is None:
        return math.inf
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not 0 < said < math.inf:
        raise InvalidRequest(
            f"parameter {DEADLINE!r} must be a number of seconds above 0, not {said!r}"[:300]
        )
    return float(said)


def wished(parameters: Mapping[str, Any], options: Sequence[Option]) -> Option | None:
    """Return the way that the request names (``local``, ``cloud``, ``split`` for the first cut that may be, or
    ``split:2``); None where it names none.

    Raises:
        InvalidRequest: there is no such way, or the policy forbids it.
    """
    said = parameters.get(PLACEMENT)
    if said is None:
        return None
    named = [option for option in options if said in (option.name, option.kind)]
    if not named:
        there = ", ".join(option.name for option in options)
        raise InvalidRequest(f"parameter {PLACEMENT!r} must be one of {there}, not {said!r}"[:300])
    allowed = [option for option in named if not option.refused]
    if not allowed:
        raise InvalidRequest(f"the request cannot run as {named[0].name!r}: {named[0].refused}")
    return allowed[0]
