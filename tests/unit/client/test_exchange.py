"""Whom a call asks, how often and when: on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from isthmus.client.exchange import Call, Exchange, Limits, Lost, Outcome, Pause, Send
from isthmus.client.place import FIRST_REST_SECONDS, LONGEST_REST_SECONDS, Breaker, Place
from isthmus.errors import (
    DeadlineExceeded,
    EnvironmentProblem,
    InvalidAnswer,
    InvalidRequest,
    IsthmusError,
    PayloadTooLarge,
    PermissionMissing,
    Throttled,
    Unavailable,
    UnknownModel,
)
from isthmus.inference.http import HttpResponse, error_response, json_response

OK = json_response({"fine": True})
GONE = Lost("no connection")
BUSY = error_response(503, "come back")


class World:
    """Places that answer by a script, each answer ``seconds`` after it was asked."""

    def __init__(self, **scripts: Sequence[Outcome]) -> None:
        self.now = 100.0
        self.scripts = {name: list(script) for name, script in scripts.items()}
        self.places = [Place(name, lambda: "http://there") for name in scripts]  # type: ignore[arg-type]
        self.asked: list[str] = []
        self.pauses: list[float] = []
        self.timeouts: list[float] = []

    def run(self, *, seconds: float = 0.0, deadline: float = 30, attempts: int = 4, **more: Any) -> Any:
        more.setdefault("read", lambda response: response.body)
        call: Call[Any] = Call("POST", "/infer", **more)
        exchange = Exchange(call, self.places, Limits(deadline, attempts), lambda: self.now, lambda: 1.0)
        steps, outcome = exchange.steps(), None
        try:
            while True:
                outcome = self._do(steps.send(outcome), seconds)
        except StopIteration as end:
            return end.value

    def _do(self, step: Send | Pause, seconds: float) -> Outcome:
        if isinstance(step, Pause):
            self.pauses.append(step.seconds)
            self.now += step.seconds
            return None
        self.asked.append(step.place.name + ("" if step.path == "/infer" else step.path))
        self.timeouts.append(step.timeout_seconds)
        if seconds > step.timeout_seconds:
            self.now += step.timeout_seconds
            return Lost("it took too long")
        self.now += seconds
        script = self.scripts[step.place.name]
        return script.pop(0) if len(script) > 1 else script[0]


def test_the_edge_is_asked_first_and_alone_when_it_answers() -> None:
    world = World(edge=[OK], cloud=[OK])
    _, trip = world.run()
    assert (world.asked, trip.place, trip.attempts) == (["edge"], "edge", 1)


@pytest.mark.parametrize(
    "trouble", [GONE, BUSY, error_response(429, "slowly"), error_response(500, "broken")]
)
def test_the_cloud_is_asked_at_once_when_the_edge_does_not_answer(trouble: Outcome) -> None:
    world = World(edge=[trouble], cloud=[OK])
    _, trip = world.run()
    assert (world.asked, world.pauses) == (["edge", "cloud"], [])
    assert (trip.place, trip.attempts) == ("cloud", 2)


def test_then_both_again_after_growing_pauses_with_jitter() -> None:
    world = World(cloud=[BUSY, GONE, BUSY, OK])
    _, trip = world.run()
    assert trip.attempts == 4
    assert world.pauses == pytest.approx([0.1, 0.2, 0.4])


def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    world = World(cloud=[HttpResponse(429, b"", {"Retry-After": "3"}), OK])
    world.run()
    assert world.pauses == [3.0]


@pytest.mark.parametrize("asked", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1e9", "", "99999999"])
def test_a_pause_that_cannot_be_read_is_ours(asked: str) -> None:
    world = World(cloud=[HttpResponse(503, b"", {"retry-after": asked}), OK])
    world.run()
    assert world.pauses == [pytest.approx(0.1)]


def test_nobody_waits_for_a_pause_that_ends_after_the_deadline() -> None:
    world = World(cloud=[HttpResponse(429, b'{"error": "full"}', {"retry-after": "60"})])
    with pytest.raises(Throttled, match="the cloud answered HTTP 429: full"):
        world.run(deadline=10)
    assert (world.asked, world.pauses, world.now) == (["cloud"], [], 100.0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, PermissionMissing),
        (403, PermissionMissing),
        (404, UnknownModel),
        (405, InvalidRequest),
        (408, InvalidRequest),
        (413, PayloadTooLarge),
        (302, InvalidAnswer),
    ],
)
def test_a_refusal_is_never_sent_again(status: int, kind: type[IsthmusError]) -> None:
    world = World(cloud=[error_response(status, "no")])
    with pytest.raises(kind, match=f"the cloud answered HTTP {status}: no") as raised:
        world.run()
    assert type(raised.value) is kind
    assert world.asked == ["cloud"]


def test_what_iam_refuses_is_said_with_who_and_what() -> None:
    told = "User: arn:aws:iam::1:user/ann is not authorized to perform: execute-api:Invoke on resource: arn:aws:r"
    with pytest.raises(PermissionMissing, match="the user ann may not execute-api:Invoke"):
        World(cloud=[json_response({"Message": told}, 403)]).run()


def test_a_wrong_request_at_the_edge_is_not_asked_of_the_cloud() -> None:
    world = World(edge=[error_response(400, "the shape is wrong")], cloud=[OK])
    with pytest.raises(InvalidRequest, match="the shape is wrong"):
        world.run()
    assert world.asked == ["edge"]


def test_a_model_that_the_edge_does_not_have_is_asked_of_the_cloud_alone() -> None:
    world = World(edge=[error_response(404, "not here")], cloud=[BUSY, OK])
    world.run()
    assert world.asked == ["edge", "cloud", "cloud"]
    world = World(edge=[error_response(404, "not here")], cloud=[error_response(404, "nor here")])
    with pytest.raises(UnknownModel, match="nor here"):
        world.run()


def test_attempts_are_counted_wherever_they_go() -> None:
    world = World(edge=[GONE], cloud=[BUSY])
    with pytest.raises(Unavailable, match="the cloud answered HTTP 503: come back"):
        world.run(attempts=2)
    assert world.asked == ["edge", "cloud"]


def test_a_slow_edge_leaves_half_of_the_time_for_the_cloud() -> None:
    world = World(edge=[OK], cloud=[OK])
    with pytest.raises(DeadlineExceeded, match=r"no answer within 8 s, after 2 requests: the cloud did not"):
        world.run(seconds=100, deadline=8)
    assert world.timeouts == [4.0, 4.0]
    assert world.now == pytest.approx(108)


def test_the_deadline_holds_over_all_tries() -> None:
    world = World(cloud=[BUSY])
    with pytest.raises(Unavailable):
        world.run(seconds=0.4, deadline=1, attempts=100)
    assert world.now <= 101


def test_a_dead_edge_is_not_tried_for_every_call() -> None:
    world = World(edge=[GONE], cloud=[OK])
    for _ in range(10):
        world.run()
    assert world.asked.count("edge") == 2
    world.now += FIRST_REST_SECONDS
    world.scripts["edge"] = [OK]
    world.run()
    world.run()
    assert world.asked[-2:] == ["edge", "edge"]


def test_each_failed_probe_doubles_the_rest() -> None:
    breaker, now, rests = Breaker(), 0.0, []
    breaker.failed(now)
    breaker.failed(now)
    for _ in range(9):
        began = now
        while not breaker.allows(now):
            now += 0.5
        rests.append(now - began)
        breaker.failed(now)
    assert rests[:3] == [FIRST_REST_SECONDS, 2 * FIRST_REST_SECONDS, 4 * FIRST_REST_SECONDS]
    assert max(rests) == LONGEST_REST_SECONDS


def test_one_of_many_callers_probes() -> None:
    breaker = Breaker()
    breaker.failed(0)
    breaker.failed(0)
    assert [breaker.allows(FIRST_REST_SECONDS) for _ in range(4)] == [True, False, False, False]
    breaker.succeeded()
    assert [breaker.allows(FIRST_REST_SECONDS) for _ in range(4)] == [True] * 4


def test_a_place_alone_is_always_asked() -> None:
    world = World(edge=[GONE])
    for _ in range(5):
        with pytest.raises(Unavailable, match="the edge did not answer: no connection"):
            world.run(attempts=1)
    assert world.asked == ["edge"] * 5


def test_of_places_that_all_rest_the_last_is_asked() -> None:
    world = World(edge=[GONE], cloud=[GONE])
    for _ in range(3):
        with pytest.raises(Unavailable):
            world.run(attempts=2)
    assert world.asked == ["edge", "cloud", "edge", "cloud", "cloud", "cloud"]


def test_a_place_without_an_address_is_none_for_this_call() -> None:
    missing = Lost(error=EnvironmentProblem("no such stack"))
    world = World(edge=[GONE, OK], cloud=[missing])
    _, trip = world.run()
    assert (world.asked, trip.place) == (["edge", "cloud", "edge"], "edge")
    with pytest.raises(EnvironmentProblem, match="no such stack"):
        World(cloud=[missing]).run()


def refusing_reader(refused: int) -> Callable[[HttpResponse], bytes]:
    left = [refused]

    def read(response: HttpResponse) -> bytes:
        if left[0]:
            left[0] -= 1
            raise InvalidAnswer("garbage")
        return response.body

    return read


def test_a_wrong_answer_counts_as_none() -> None:
    world = World(edge=[OK], cloud=[OK])
    _, trip = world.run(read=refusing_reader(1))
    assert (world.asked, trip.place) == (["edge", "cloud"], "cloud")
    with pytest.raises(InvalidAnswer, match="the cloud gave a wrong answer: garbage"):
        World(cloud=[OK]).run(read=refusing_reader(9))


def metadata(*extensions: str) -> HttpResponse:
    return json_response({"name": "s", "version": "1", "extensions": list(extensions)})


@pytest.mark.parametrize(
    ("told", "form"),
    [
        (metadata("binary_tensor_data"), b"bytes"),
        (metadata(), b"text"),
        (error_response(404, "no"), b"text"),
        (HttpResponse(200, b"<html>"), b"text"),
        (HttpResponse(200, b'{"name": "\xff"}'), b"text"),
    ],
)
def test_extensions_are_asked_once_and_only_when_worth_it(told: HttpResponse, form: bytes) -> None:
    world, sent = World(cloud=[told, OK]), []

    def write(binary: bool) -> tuple[dict[str, str], bytes]:
        sent.append(b"bytes" if binary else b"text")
        return {}, sent[-1]

    world.run(form=write, wants_binary=True)
    world.run(form=write, wants_binary=True)
    assert (world.asked, sent) == (["cloud/v2", "cloud", "cloud"], [form] * 2)
    small = World(cloud=[OK])
    small.run(form=write)
    assert (small.asked, sent[-1]) == (["cloud"], b"text")


def test_a_place_that_does_not_tell_its_extensions_is_passed_over() -> None:
    world = World(edge=[GONE], cloud=[metadata(), OK])
    _, trip = world.run(wants_binary=True)
    assert (world.asked, trip.place) == (["edge/v2", "cloud/v2", "cloud"], "cloud")


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_server_that_cannot_tell_its_extensions_now_is_asked_again(status: int) -> None:
    world, sent = World(cloud=[error_response(status, "no"), OK, metadata("binary_tensor_data"), OK]), []

    def write(binary: bool) -> tuple[dict[str, str], bytes]:
        sent.append(binary)
        return {}, b""

    for _ in range(3):
        world.run(form=write, wants_binary=True)
    assert (world.asked, sent) == (
        ["cloud/v2", "cloud", "cloud/v2", "cloud", "cloud"],
        [False, True, True],
    )


@pytest.mark.parametrize("attempts", [1, 3])
def test_asking_for_extensions_in_vain_is_an_attempt(attempts: int) -> None:
    world = World(cloud=[GONE])
    with pytest.raises(Unavailable, match="the cloud did not answer: no connection"):
        world.run(wants_binary=True, attempts=attempts)
    assert world.asked == ["cloud/v2"] * attempts
    world = World(cloud=[GONE, metadata(), OK])
    assert world.run(wants_binary=True)[1].attempts == 2
