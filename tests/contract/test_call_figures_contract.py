"""Figures of calls come by the minute and by the version that ran, in memory and from CloudWatch."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from botocore.stub import Stubber

from isthmus.adapters.aws.call_figures import LambdaCallFigures
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.call_figures import MemoryCallFigures
from isthmus.errors import PermissionMissing, Unavailable
from isthmus.model.calls import Calls, Minute
from isthmus.ports import CallFigures

FUNCTION = "shop-model-digits"
MINUTE = int(datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC).timestamp())
Count = Callable[..., None]


def count_on_cloudwatch(function: str, version: str, at: float, requests: int, errors: int = 0) -> None:
    """As Lambda does: one datum of 1 for each call, and one of 0 or 1 for its failure."""
    about = {"FunctionName": function, "Resource": f"{function}:live", "ExecutedVersion": version}
    dimensions = [{"Name": name, "Value": value} for name, value in about.items()]
    ends = [1.0] * errors + [0.0] * (requests - errors)
    data: list[Any] = [
        {"MetricName": name, "Dimensions": dimensions, "Timestamp": at, "Value": value, "Unit": "Count"}
        for end in ends
        for name, value in (("Invocations", 1.0), ("Errors", end))
    ]
    client("cloudwatch").put_metric_data(Namespace="AWS/Lambda", MetricData=data)


@pytest.fixture(params=["memory", "cloudwatch"])
def world(request: pytest.FixtureRequest) -> tuple[CallFigures, Count]:
    """The figures, and what counts calls into them."""
    if request.param == "memory":
        memory = MemoryCallFigures()
        return memory, memory.count
    request.getfixturevalue("aws")
    return LambdaCallFigures(), count_on_cloudwatch


def test_calls_are_summed_up_by_the_minute_in_which_they_began(world: tuple[CallFigures, Count]) -> None:
    figures, count = world
    for at, requests, errors in ((70, 3, 0), (0, 5, 2), (59, 1, 1)):
        count(FUNCTION, "2", MINUTE + at, requests, errors)
    assert figures.minutes(FUNCTION, "2", MINUTE, MINUTE + 120) == (
        Minute(MINUTE, Calls(6, 3)),
        Minute(MINUTE + 60, Calls(3, 0)),
    )


def test_versions_and_functions_are_told_apart(world: tuple[CallFigures, Count]) -> None:
    figures, count = world
    for function, version, requests in ((FUNCTION, "2", 1), (FUNCTION, "12", 2), (f"{FUNCTION}-2", "2", 3)):
        count(function, version, MINUTE, requests)
    asked = figures.minutes(FUNCTION, "2", MINUTE, MINUTE + 60)
    assert asked == (Minute(MINUTE, Calls(1, 0)),)


def test_a_span_has_its_first_minute_and_not_its_end(world: tuple[CallFigures, Count]) -> None:
    figures, count = world
    for at in (-1, 0, 60):
        count(FUNCTION, "2", MINUTE + at, 1)
    assert figures.minutes(FUNCTION, "2", MINUTE, MINUTE + 60) == (Minute(MINUTE, Calls(1, 0)),)


def test_where_nothing_was_counted_there_is_no_minute(world: tuple[CallFigures, Count]) -> None:
    assert world[0].minutes(FUNCTION, "2", MINUTE, MINUTE + 600) == ()


# Of CloudWatch alone: moto's answers are always whole.
def result(name: str, status: str, minutes: list[int], values: list[float]) -> dict[str, Any]:
    times = [datetime.datetime.fromtimestamp(minute, datetime.UTC) for minute in minutes]
    return {"Id": name, "Label": name, "StatusCode": status, "Timestamps": times, "Values": values}


def answers(stub: Stubber, *pages: list[dict[str, Any]]) -> None:
    for number, page in enumerate(pages, 1):
        more = {"NextToken": "more"} if number < len(pages) else {}
        stub.add_response("get_metric_data", {"MetricDataResults": page, **more})


def test_an_answer_may_come_in_pages_the_latest_minute_first(aws: None) -> None:
    with Stubber(client("cloudwatch")) as stub:
        answers(
            stub,
            [
                result("requests", "PartialData", [MINUTE + 60], [4.0]),
                result("errors", "PartialData", [], []),
            ],
            [result("requests", "Complete", [MINUTE], [9.0]), result("errors", "Complete", [MINUTE], [2.0])],
        )
        found = LambdaCallFigures().minutes(FUNCTION, "2", MINUTE, MINUTE + 120)
    assert found == (Minute(MINUTE, Calls(9, 2)), Minute(MINUTE + 60, Calls(4, 0)))


def test_figures_that_could_not_be_read_are_not_taken_for_none(aws: None) -> None:
    with Stubber(client("cloudwatch")) as stub:
        answers(stub, [result("requests", "Complete", [], []), result("errors", "InternalError", [], [])])
        with pytest.raises(Unavailable, match="the figures of errors are InternalError"):
            LambdaCallFigures().minutes(FUNCTION, "2", MINUTE, MINUTE + 60)


@pytest.mark.parametrize(("code", "kind"), [("Throttling", Unavailable), ("AccessDenied", PermissionMissing)])
def test_what_passes_and_what_is_forbidden_differ(aws: None, code: str, kind: type[Exception]) -> None:
    with Stubber(client("cloudwatch")) as stub:
        stub.add_client_error("get_metric_data", code, "no")
        with pytest.raises(kind):
            LambdaCallFigures().minutes(FUNCTION, "2", MINUTE, MINUTE + 60)
