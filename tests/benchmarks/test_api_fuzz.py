"""Fuzzing finds what is wrong, and finds nothing now: a small part of the benchmark ``api_fuzz``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, settings

from benchmarks.api_fuzz import count, fuzz
from benchmarks.fuzzing import models
from benchmarks.fuzzing.child import Tally
from benchmarks.fuzzing.requests import HUGE, events
from isthmus.inference.lambda_handler import answer


@pytest.mark.slow
@pytest.mark.parametrize(("surface", "examples"), [("handler", 1000), ("router", 500), ("edge", 500)])
def test_no_request_ends_in_a_fault(surface: str, examples: int) -> None:
    found = fuzz(surface, examples, seed=7)
    assert found["failure"] == ""
    assert not found["over_limit"]
    figures = count([found])
    assert figures["server_errors"] == 0
    # It is no use to be refused at the door: many get as far as the model.
    assert figures["requests"] >= examples
    assert figures["answered"] > examples // 20


@pytest.mark.slow
def test_the_largest_requests_are_answered_too(tmp_path: Path) -> None:
    service, tally = models.service(tmp_path), Tally()
    for name, body in HUGE.items():
        model = "lookup" if name == "one long number" else "large"
        event = {"httpMethod": "POST", "path": f"/v2/models/{model}/infer", "body": body.decode("latin-1")}
        found = answer(event, service)
        tally.check(found["statusCode"], found["body"].encode(), is_json=True)
    assert tally.requests == len(HUGE)
    assert tally.statuses["413"] >= 3


@pytest.mark.parametrize(
    ("status", "body"), [(500, b"{}"), (502, b""), ("200", b"{}"), (404, b'{"error": ""}'), (99, b"{}")]
)
def test_what_must_never_be_answered_is_a_failure(status: Any, body: bytes) -> None:
    with pytest.raises(AssertionError):
        Tally().check(status, body, is_json=True)


def test_a_crash_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    found = fuzz("handler", 1, 1)
    assert found["failure"].startswith("the process ended with 1")
    assert count([found]) == {
        "requests": 0, "server_errors": 0, "failures": 1, "over_limit": 0, "refused": 0, "answered": 0
    }  # fmt: skip


@pytest.mark.slow
def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    """A handler that cannot bear ids that are numbers is caught within two thousand events."""

    def breaks(event: Any) -> bool:
        try:
            return isinstance(json.loads(event["body"])["id"], int)
        except (KeyError, TypeError, ValueError):
            return False

    chosen = settings(
        max_examples=2000,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    assert breaks(find(events(), breaks, settings=chosen))
