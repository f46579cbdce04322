"""What real calls say of a version, minute by minute, and what is on record of it."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.adapters.local.call_figures import MemoryCallFigures
from isthmus.errors import RolloutUnhealthy
from isthmus.workflows.watch_calls import SETTLED_SECONDS, Probes, Seen, watch_calls

FUNCTION = "shop-model-digits"
BEGAN = 6000.0
LATER = BEGAN + 60 + SETTLED_SECONDS
"""When the first minute is complete."""


def watch(figures: MemoryCallFigures, now: float = LATER, **changes: Any) -> Seen:
    asked: dict[str, Any] = {
        "since": BEGAN + 12.5,
        "now": now,
        "probes": Probes(0, 0),
        "max_error_rate": 0.01,
        **changes,
    }
    return watch_calls(FUNCTION, "2", asked.pop("previous", "1"), figures=figures, **asked)


def counted(requests: int, errors: int = 0, *, at: float = BEGAN + 30) -> MemoryCallFigures:
    figures = MemoryCallFigures()
    figures.count(FUNCTION, "2", at, requests, errors)
    return figures


def test_calls_that_ended_well_speak_for_the_version_once_their_minute_is_complete() -> None:
    figures = counted(40)
    assert watch(figures, LATER - 1).verdict == "none", "more of that minute may still come"
    assert watch(figures) == Seen("healthy", 40, 0, 0, 0, int(LATER))


def test_failures_count_at_once() -> None:
    with pytest.raises(RolloutUnhealthy, match="version 2 failed 20 of 40 calls"):
        watch(counted(40, 20), BEGAN + 31)


def test_the_cause_names_both_figures_and_what_is_tolerated() -> None:
    figures = counted(40, 20)
    figures.count(FUNCTION, "1", BEGAN, 400, 8)
    with pytest.raises(RolloutUnhealthy) as caught:
        watch(figures)
    assert str(caught.value) == (
        "shop-model-digits version 2 failed 20 of 40 calls (50.0%) while it was brought into service, beside 8 of "
        "400 calls (2.0%) of version 1: at most 4.0% is tolerated; see the function's log for why"
    )


def test_a_caller_whose_requests_fail_in_both_versions_reverts_nothing() -> None:
    figures = counted(2, 2)
    figures.count(FUNCTION, "1", BEGAN, 29, 29)
    assert watch(figures).verdict == "none"


@pytest.mark.parametrize("previous", ["", "2"])
def test_the_first_version_is_held_to_the_floor_alone(previous: str) -> None:
    with pytest.raises(
        RolloutUnhealthy, match=r"no version in service before it: at most 1\.0% is tolerated"
    ):
        watch(counted(40, 20), previous=previous)


def test_no_calls_are_no_proof_and_no_fault() -> None:
    assert watch(MemoryCallFigures()) == Seen("none", 0, 0, 0, 0, int(LATER))


def test_the_roll_outs_own_probes_are_no_calls_of_others() -> None:
    figures = counted(40)
    figures.count(FUNCTION, "1", BEGAN, 50)
    seen = watch(figures, probes=Probes(11, 9))
    assert (seen.verdict, seen.requests, seen.previous_requests) == ("none", 29, 41)


def test_what_a_look_came_too_early_for_is_seen_by_the_next() -> None:
    figures = MemoryCallFigures()
    assert watch(figures, BEGAN + 60).requests == 0
    figures.count(FUNCTION, "2", BEGAN + 40, 30, 15)  # Lambda's figures came late
    with pytest.raises(RolloutUnhealthy):
        watch(figures, BEGAN + 120)


def test_what_was_before_the_roll_out_does_not_count() -> None:
    assert watch(counted(40, 40, at=BEGAN - 1)).requests == 0


def test_a_stack_may_tolerate_any_failure() -> None:
    assert watch(counted(40, 40), max_error_rate=1.0).errors == 40
