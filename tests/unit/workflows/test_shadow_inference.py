from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from boto3.dynamodb.types import TypeSerializer
from workflow_world import World, pattern

from isthmus.adapters.aws.records import to_wire
from isthmus.adapters.local.functions import MemoryFunctions, PublishedVersion
from isthmus.errors import InvalidInput, Unavailable
from isthmus.model import layout
from isthmus.ports import Alias, Item
from isthmus.workflows.route_inference import route_inference
from isthmus.workflows.serving_settings import (
    LOOK_AGAIN_SECONDS,
    ServingSettings,
    Shadow,
    drop_shadow,
    set_shadow,
)
from isthmus.workflows.shadow_inference import LARGEST, shadow_inference, summarise
from isthmus.workflows.shadows import Shadows

FUNCTION = "shop-model-digits"
HALF = Shadow(2, "2", 0.5)


def answer(*rows: list[float]) -> dict[str, Any]:
    tensor = {
        "name": "logits",
        "shape": [len(rows), 3],
        "datatype": "FP32",
        "data": [x for row in rows for x in row],
    }
    body = {"model_name": "digits", "model_version": "1", "outputs": [tensor]}
    return {"statusCode": 200, "headers": {}, "body": json.dumps(body), "isBase64Encoded": False}


LIVE = answer([1.0, 2.0, 3.0], [4.0, 1.0, 0.0])
CANDIDATE = answer([1.0, 2.5, 3.0], [0.0, 1.0, 0.5])


def both(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return LIVE if version.version == "1" else CANDIDATE


class Time:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Deployed:
    """A model with a version in service, and a candidate."""

    def __init__(self, world: World, handler: Any = both, draws: tuple[float, ...] = (0.0,)) -> None:
        self.records, self.time = world.records, Time()
        self.functions = MemoryFunctions(handler)
        for mark in ("m1", "m2"):
            self.functions.stage(FUNCTION, pattern(), (), mark)
        self.functions.point(FUNCTION, Alias("1"))
        self.settings = ServingSettings(world.records, self.time)
        drawn = iter(draws)
        self.shadows = Shadows(self.functions, "comparer", lambda: next(drawn))

    def ask(self, path: str = "/v2/models/digits/infer", body: str = "{}") -> dict[str, Any]:
        event = {
            "httpMethod": "POST",
            "path": path,
            "body": body,
            "requestContext": {"requestId": "r-1"},
            "headers": {"authorization": "secret"},
        }
        return route_inference(
            event,
            stack="shop",
            functions=self.functions,
            records=self.records,
            settings=self.settings,
            shadows=self.shadows,
        )

    def compare(self, event: Mapping[str, Any]) -> Any:
        return shadow_inference(
            event, stack="shop", functions=self.functions, records=self.records, now="now", clock=1000.0
        )


def items(world: World) -> list[Item]:
    return world.records.query(layout.shadow_pk("digits"))


def test_without_a_shadow_nothing_is_sent(world: World) -> None:
    deployed = Deployed(world)
    assert deployed.ask() == LIVE
    assert deployed.functions.sent == []


def test_a_share_of_the_requests_goes_to_the_candidate_too_and_nobody_sees_it(world: World) -> None:
    set_shadow("digits", HALF, records=world.records)
    deployed = Deployed(world, draws=(0.49, 0.5, 0.99))
    assert [deployed.ask() for _ in range(3)] == [LIVE] * 3
    ((comparer, event),) = deployed.functions.sent
    assert comparer == "comparer"
    assert (event["model"], event["release"], event["qualifier"]) == ("digits", 2, "2")


def test_what_came_of_it_is_recorded_without_a_payload(world: World) -> None:
    set_shadow("digits", HALF, records=world.records)
    deployed = Deployed(world)
    deployed.ask(body='{"inputs": "confidential"}')
    found = deployed.compare(deployed.functions.sent[0][1])
    assert found.difference == pytest.approx(4.0 / 4.0)
    assert found.agreement == 0.5, "of the second row the candidate decides otherwise"
    (item,) = items(world)
    assert (item["release"], item["sk"]) == (2, "00000002#r-1")
    assert item["expires_at"] > 1000
    assert "confidential" not in json.dumps(item)
    assert "secret" not in json.dumps([item, deployed.functions.sent])


def test_the_same_comparison_delivered_twice_is_one_record(world: World) -> None:
    set_shadow("digits", HALF, records=world.records)
    deployed = Deployed(world)
    deployed.ask()
    for _ in range(2):
        deployed.compare(deployed.functions.sent[0][1])
    assert len(items(world)) == 1


def crash(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    if version.version == "2":
        raise MemoryError("too large: confidential")
    return LIVE


def refuse(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return LIVE if version.version == "1" else {"statusCode": 400, "body": '{"error": "confidential"}'}


def other_shape(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return LIVE if version.version == "1" else answer([1.0, 2.0, 3.0])


def unreadable(version: PublishedVersion, event: Mapping[str, Any]) -> Any:
    return LIVE if version.version == "1" else {"statusCode": 200, "body": "<html>"}


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (crash, "MemoryError"),
        (refuse, "status 400"),
        (other_shape, "other outputs"),
        (unreadable, "cannot be read"),
    ],
)
def test_a_candidate_that_fails_is_on_record_and_the_caller_is_served(
    world: World, handler: Any, problem: str
) -> None:
    set_shadow("digits", HALF, records=world.records)
    deployed = Deployed(world, handler)
    assert deployed.ask() == LIVE
    found = deployed.compare(deployed.functions.sent[0][1])
    assert problem in found.problem
    assert found.difference is None
    assert "confidential" not in json.dumps(items(world))


def test_answers_without_outputs_are_told_apart_from_equal_ones(world: World) -> None:
    set_shadow("digits", HALF, records=world.records)
    body = json.dumps({"model_name": "digits", "model_version": "1", "outputs": []})
    deployed = Deployed(world, lambda version, event: {"statusCode": 200, "body": body})
    deployed.ask()
    assert deployed.compare(deployed.functions.sent[0][1]).problem == "no outputs"


def as_bytes(*values: float) -> dict[str, Any]:
    """An answer in the binary form, which alone carries what is no number."""
    data = np.array([values], "<f8").tobytes()
    tensor = {"name": "y", "datatype": "FP64", "shape": [1, len(values)]}
    outputs = [{**tensor, "parameters": {"binary_data_size": len(data)}}]
    head = json.dumps({"model_name": "digits", "model_version": "1", "outputs": outputs}).encode()
    body = base64.b64encode(head + data).decode()
    headers = {"inference-header-content-length": str(len(head))}
    return {"statusCode": 200, "headers": headers, "body": body, "isBase64Encoded": True}


@pytest.mark.parametrize(
    ("live", "theirs", "difference", "problem"),
    [
        ((1.0, 2.0), (np.nan, 2.0), None, "numbers that are not finite"),
        ((1.0, 2.0), (1.0, np.inf), None, "numbers that are not finite"),
        ((1.0, np.inf), (1.0, np.inf), None, "numbers that are not finite"),
        ((1.0, 2.0), (1.0, 1e300), LARGEST, ""),
        ((1.0, 2.0), (1.0, 2.0), 0.0, ""),
    ],
)
def test_whatever_numbers_there_are_a_record_can_be_written(
    world: World,
    live: tuple[float, ...],
    theirs: tuple[float, ...],
    difference: float | None,
    problem: str,
) -> None:
    set_shadow("digits", HALF, records=world.records)
    deployed = Deployed(world, lambda version, _: as_bytes(*(live if version.version == "1" else theirs)))
    deployed.ask()
    found = deployed.compare(deployed.functions.sent[0][1])
    assert (found.difference, found.problem) == (difference, problem)
    assert found.agreement is not None
    (item,) = items(world)
    wire = TypeSerializer().serialize(to_wire(item))["M"]
    assert wire["problem"] == {"S": problem}


def test_a_candidate_that_is_gone_is_on_record(world: World) -> None:
    set_shadow("digits", Shadow(9, "release-9", 1.0), records=world.records)
    deployed = Deployed(world)
    deployed.ask()
    assert deployed.compare(deployed.functions.sent[0][1]).problem == "UnknownModel"


def test_only_a_good_answer_of_what_is_in_service_is_compared(world: World) -> None:
    set_shadow("digits", Shadow(2, "2", 1.0), records=world.records)
    deployed = Deployed(world, draws=(0.0,) * 9)
    deployed.ask("/v2/models/digits/versions/1/infer")
    deployed.ask("/v2/models/digits/ready")
    deployed.ask("/v2/models/digits/handover")
    bad = Deployed(world, refuse, draws=(0.0,) * 9)
    bad.functions.point(FUNCTION, Alias("2"))
    bad.ask()
    assert deployed.functions.sent == bad.functions.sent == []


def test_a_request_too_large_to_be_sent_twice_is_served_and_left_out(world: World) -> None:
    set_shadow("digits", Shadow(2, "2", 1.0), records=world.records)
    deployed = Deployed(world)
    assert deployed.ask(body="x" * 1_100_000) == LIVE
    assert deployed.functions.sent == []


def test_settings_are_read_once_in_half_a_minute(world: World) -> None:
    deployed = Deployed(world)
    assert deployed.settings.shadow("digits") is None
    set_shadow("digits", HALF, records=world.records)
    assert deployed.settings.shadow("digits") is None
    deployed.time.seconds += LOOK_AGAIN_SECONDS
    assert deployed.settings.shadow("digits") == HALF
    assert not drop_shadow("digits", "3", records=world.records), "another candidate's"
    assert drop_shadow("digits", "2", records=world.records)
    deployed.time.seconds += LOOK_AGAIN_SECONDS
    assert deployed.settings.shadow("digits") is None


def test_a_table_that_is_away_stops_no_inference(world: World) -> None:
    class Away:
        def query(self, pk: str, *, prefix: str = "") -> list[Item]:
            raise Unavailable("DynamoDB did not answer")

    deployed = Deployed(world)
    deployed.settings = ServingSettings(Away(), deployed.time)
    assert deployed.ask() == LIVE


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(world: World, share: float) -> None:
    with pytest.raises(InvalidInput, match="above 0 and at most 1"):
        set_shadow("digits", Shadow(2, "2", share), records=world.records)


def test_comparisons_are_summed_up_by_release() -> None:
    def item(release: int, difference: float | None, milliseconds: float) -> Item:
        values = {"agreement": None, "live_milliseconds": 5.0, "problem": "" if difference else "status 500"}
        return {"release": release, "difference": difference, "milliseconds": milliseconds, **values}

    second, third = summarise([item(3, 0.5, 9.0), item(2, 0.1, 4.0), item(2, None, 8.0), item(2, 0.3, 6.0)])
    assert (second.release, second.comparisons, second.failed) == (2, 3, 1)
    assert (second.largest_difference, second.milliseconds) == (0.3, 6.0)
    assert (third.release, third.largest_difference, third.agreement) == (3, 0.5, None)
    assert summarise([]) == []
