"""A load's figures, on a clock of the test's own; and a real one against a real edge server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted import Reply, ScriptedServer, answer

from isthmus.cli.main import main
from isthmus.client import load_picture
from isthmus.client.load import Load, Measured, measure, percentile, percentiles
from isthmus.errors import InvalidInput


class Clock:
    """Stands still but for what is slept, or asked."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(answers: list[float | str], **load: Any) -> Measured:
    """One client; each answer takes so long, or is an error."""
    clock, left = Clock(), list(answers)

    def ask(client: int) -> str:
        answer = left.pop(0)
        if isinstance(answer, str):
            return answer
        clock.now += answer
        return ""

    return measure(ask, Load(clients=1, **load), clock=clock, sleep=clock.sleep)


def test_a_closed_loop_asks_again_when_it_has_its_answer() -> None:
    measured = run([1.0, 5.0, 1.0], requests=3)
    assert measured.latencies == measured.services == [1.0, 5.0, 1.0]
    assert (measured.seconds, measured.per_second, measured.late) == (7.0, pytest.approx(3 / 7), 0)


def test_an_open_loop_counts_the_wait_that_a_stall_makes() -> None:
    # Due at 0, 1, 2, 3 s; the second takes 2.5 s, so the third and the fourth are sent at 3.5 and 3.75 s.
    measured = run([0.25, 2.5, 0.25, 0.25], requests=4, rate=1.0)
    assert measured.services == [0.25, 2.5, 0.25, 0.25]
    assert measured.latencies == [0.25, 2.5, 1.75, 1.0]
    assert measured.late == 2


def test_an_open_loop_does_not_run_ahead() -> None:
    measured = run([0.1] * 4, requests=4, rate=2.0)
    assert measured.latencies == pytest.approx([0.1] * 4)
    assert measured.seconds == pytest.approx(1.6)


@pytest.mark.parametrize("rate", [None, 2.0])
def test_seconds_end_it(rate: float | None) -> None:
    measured = run([0.5] * 100, seconds=3.0, rate=rate)
    assert (measured.requests, measured.seconds) == (6, pytest.approx(3.0))


def test_errors_are_counted_by_kind_and_are_no_latencies() -> None:
    measured = run([1.0, "Throttled", "Unavailable", "Throttled"], requests=4)
    assert (measured.latencies, measured.errors, measured.requests) == (
        [1.0],
        {"Throttled": 2, "Unavailable": 1},
        4,
    )


def test_what_warms_up_is_not_counted() -> None:
    assert run([9.0, 9.0, 1.0], requests=1, warm_up=2).latencies == [1.0]


def test_every_request_is_sent_once_by_many_clients() -> None:
    asked: list[int] = []

    def ask(client: int) -> str:
        asked.append(client)
        return ""

    measured = measure(ask, Load(clients=7, requests=100))
    assert (measured.requests, len(asked), set(asked) <= set(range(7))) == (100, 100, True)


def test_percentiles_are_the_nearest_rank_and_only_those_with_enough_behind_them() -> None:
    values = [float(value) for value in range(1, 1001)]
    assert [percentile(values, share) for share in (0, 0.001, 0.0011, 0.5, 0.999, 1)] == [
        1,
        1,
        2,
        500,
        999,
        1000,
    ]
    assert percentiles(values[::-1]) == {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "max": 1000}
    assert percentiles([3.0, 1.0]) == {"p50": 1.0, "max": 3.0}
    assert percentiles([]) == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "needs an end"),
        ({"requests": 0}, "requests must be a number above 0"),
        ({"requests": 1, "clients": 0}, "1 to 512 clients"),
        ({"requests": 1, "rate": -1.0}, "rate must be"),
        ({"requests": 1, "rate": float("nan")}, "rate must be"),
        ({"requests": 1, "warm_up": -1}, "warm up"),
    ],
)
def test_a_load_that_makes_no_sense_is_bad_input(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Load(**wrong)


@pytest.mark.parametrize("rate", [None, 40.0])
def test_the_picture_says_what_was_measured(rate: float | None) -> None:
    measured = Measured(Load(clients=3, requests=1000, rate=rate), seconds=25.0)
    measured.services = [0.01 + number / 1e4 for number in range(1000)]
    measured.latencies = [seconds + 0.02 * bool(rate) for seconds in measured.services]
    svg = load_picture.draw(measured, "digits at http://there").svg().decode()
    loop = "open loop, 40 requests/s" if rate else "closed loop"
    assert f"{loop} · 3 clients · 1,000 requests in 25.0 s (40.0/s) · 0 errors" in svg
    assert "digits at http://there" in svg
    assert ">99.9 %<" in svg
    assert ("from when it was due" in svg) == bool(rate)
    assert load_picture.draw(measured, "digits at http://there").svg().decode() == svg


def test_a_load_that_nobody_answered_has_a_picture_too() -> None:
    measured = Measured(Load(requests=1), seconds=1.0)
    measured.errors["Unavailable"] += 1
    assert b"no request was answered" in load_picture.draw(measured, "m").svg()


def test_the_command_measures_and_draws(
    edge: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "row.npy", np.array([[1, 2, 3, 4]], np.float32))
    picture = tmp_path / "load.svg"
    arguments = [
        "load",
        "fashion",
        str(tmp_path / "row.npy"),
        "--edge",
        edge,
        "--clients",
        "4",
        "--requests",
        "200",
    ]
    assert main([*arguments, "--svg", str(picture), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["requests"], found["errors"], found["loop"]) == (200, {}, "closed")
    assert set(found["latency_ms"]) == {"p50", "p90", "p95", "max"}
    assert b"closed loop" in picture.read_bytes()
    assert main([*arguments, "--rate", "2000"]) == 0
    out = capsys.readouterr().out
    assert "200 requests in" in out
    assert "from sending" in out


@pytest.mark.parametrize("kind", ["picture", "request"])
def test_pictures_and_requests_are_a_load_too(
    edge: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "input"
    if kind == "picture":
        from PIL import Image

        Image.fromarray(np.full((8, 8), 200, np.uint8)).save(path, "PNG")
    else:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
        path.write_text(json.dumps({"id": "same", "inputs": [tensor]}))
    assert (
        main(["load", "fashion", str(path), "--edge", edge, "--clients", "2", "--requests", "20", "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["requests"] == 20


def test_a_load_that_meets_errors_counts_them_and_fails(
    scripted: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "request.json"
    path.write_text('{"inputs": []}')
    scripted.script = [answer(7), Reply(429, {"error": "full"})]
    arguments = [
        "load",
        "m",
        str(path),
        "--edge",
        scripted.url,
        "--clients",
        "1",
        "--requests",
        "3",
        "--warm-up",
        "0",
    ]
    assert main(arguments) == 1
    assert "3 times Throttled" in capsys.readouterr().out


def test_a_load_that_cannot_be_answered_ends_before_it_begins(
    edge: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "row.npy", np.zeros(3))
    assert main(["load", "fashion", str(tmp_path / "row.npy"), "--edge", edge]) == 2
    assert "isthmus: the array is float64 [3]" in capsys.readouterr().err
    assert main(["load", "gone", str(tmp_path / "row.npy"), "--edge", edge]) == 2
    assert "is not in service" in capsys.readouterr().err
