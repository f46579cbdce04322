"""Move a model's traffic to a proven version by steps, watch it, and go back when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from isthmus.errors import RolloutUnhealthy
from isthmus.model import layout
from isthmus.ports import Alias, Functions, Records

MAX_PROBES = 200
MIN_SEEN = 3
"""Probes that the new version must have answered before a step counts as healthy."""


class Shifted(msgspec.Struct, frozen=True):
    """``weight`` (0..1) of calls now reach the new version; ``done`` when it is all of them."""

    step: int
    weight: float
    done: bool


def shift_traffic(
    function: str, version: str, previous: str, step: int, *, weights: tuple[float, ...], functions: Functions
) -> Shifted:
    """Give the new version the weight of ``step``; the last step points the alias at it alone."""
    first = not previous or previous == version
    weight = 1.0 if first or step >= len(weights) else weights[step]
    if weight >= 1.0:
        functions.point(function, Alias(version))
        return Shifted(step + 1, 1.0, True)
    functions.point(function, Alias(previous, version, weight))
    return Shifted(step + 1, weight, False)


def check_health(function: str, version: str, model: str, *, functions: Functions) -> int:
    """Probe the alias until the new version has answered often enough; return the number of probes.

    A probe is a readiness request, which loads the model. No data never counts as healthy.

    Raises:
        RolloutUnhealthy: a probe that reached the new version failed, or none reached it.
    """
    seen, probe = 0, probe_event(model)
    for number in range(1, MAX_PROBES + 1):
        answer = functions.invoke(function, "live", probe)
        if answer.version != version:
            continue
        body = msgspec.json.decode(answer.payload) if not answer.error else {}
        if answer.error or body.get("statusCode") != 200:
            raise RolloutUnhealthy(f"{function} version {version} failed a probe: {answer.error or body}")
        seen += 1
        if seen >= MIN_SEEN:
            return number
    raise RolloutUnhealthy(
        f"{function} version {version} answered {seen} of {MAX_PROBES} probes of its alias; {MIN_SEEN} were needed"
    )


def revert_traffic(function: str, version: str, previous: str, *, functions: Functions) -> bool:
    """Take the traffic off ``version``; return False when it has none.

    It goes back to ``previous``; without one, the model has no alias again, and is not in service.
    """
    alias = functions.alias(function)
    if alias is None or previous == version or version not in (alias.version, alias.next_version):
        return False
    if previous:
        functions.point(function, Alias(previous))
    else:
        functions.unroute(function)
    return True


def commit_champion(
    model: str,
    bundle: str,
    release: int,
    job_key: str,
    version: str,
    *,
    rollout: str = "",
    calls: Mapping[str, Any] | None = None,
    records: Records,
    now: str,
) -> None:
    """Record what is in service, which version was before, and which roll-out brought it.

    ``calls`` is what the last look at its calls saw, and whether that says anything (``watch_calls.Seen``). The
    alias, moved before, is what decides it.
    """
    before = records.get(layout.CHAMPIONS, model) or {}
    # Committed again after an answer got lost, it must not become its own predecessor.
    again = before.get("version") == version
    previous = before.get("previous_version" if again else "version") or ""
    champion = {"model": model, "bundle": bundle, "release": release, "job_key": job_key, "version": version}
    history: dict[str, Any] = {"previous_version": previous, "rollout": rollout, "since": now}
    if calls is not None:
        history["calls"] = dict(calls)
    records.put({"pk": layout.CHAMPIONS, "sk": model, **champion, **history})


def is_committed(model: str, rollout: str, version: str, *, records: Records) -> bool:
    """Return whether the version is on record as in service, and this roll-out brought it there."""
    champion = records.get(layout.CHAMPIONS, model) or {}
    return (champion.get("rollout"), champion.get("version")) == (rollout, version)


def probe_event(model: str) -> dict[str, object]:
    """Return a readiness request in API Gateway's proxy form."""
    return {
        "httpMethod": "GET",
        "path": f"/v2/models/{model}/ready",
        "headers": {},
        "body": None,
        "isBase64Encoded": False,
    }
