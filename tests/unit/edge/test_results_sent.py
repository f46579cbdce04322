"""When results are sent, how, and what becomes of the cloud's answers."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.client.place import Outgoing
from isthmus.client.results import ApiResults
from isthmus.edge.outbox import Outbox
from isthmus.edge.sender import FIRST_PAUSE_SECONDS, Sender
from isthmus.edge.server import EdgeServer
from isthmus.errors import (
    InvalidAnswer,
    InvalidInput,
    IsthmusError,
    PermissionMissing,
    Refused,
    Unavailable,
)
from isthmus.inference.http import HttpRequest, HttpResponse, error_response, json_response
from isthmus.model.results import Batch, Confirmed, Numbered, Result


class Cloud:
    """A sink that may be away: it fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.batches = failures, list[Batch]()

    def send(self, batch: Batch) -> int:
        if self.failures:
            self.failures -= 1
            raise Unavailable("no route")
        self.batches.append(batch)
        return batch.last


class Scripted:
    """``Threads`` that runs at once, and ends after so many pauses; ``pauses`` says how long each was."""

    def __init__(self, most: int) -> None:
        self.pauses: list[float] = []
        self._most = most

    def flag(self) -> Any:
        return _Flag(self)

    def start(self, name: str, run: Callable[[], None]) -> Callable[[], None]:
        run()
        return lambda: None

    def paused(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return len(self.pauses) > self._most


class _Flag:
    def __init__(self, threads: Scripted) -> None:
        self._threads, self._set = threads, False

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        return self._threads.paused(timeout) if timeout is not None else True


def test_tries_that_fail_are_further_and_further_apart(tmp_path: Path) -> None:
    outbox, threads = Outbox(tmp_path, "gate-1"), Scripted(6)
    outbox.put([Result(model="fashion", release=1, at_ms=0, outputs=msgspec.Raw(b"{}"))])
    cloud = Cloud(failures=4)
    sender = Sender(outbox, cloud, threads, gather_seconds=10, jitter=lambda: 0.5)
    sender.start()
    outbox.close()
    waited = [0.5 * FIRST_PAUSE_SECONDS * 2**count for count in range(1, 5)]
    assert threads.pauses == [10, *waited, 10, 10]
    assert sender.sent == 1


def test_a_device_that_is_offline_for_good_tries_every_few_minutes(tmp_path: Path) -> None:
    outbox, threads = Outbox(tmp_path, "gate-1"), Scripted(200)
    outbox.put([Result(model="fashion", release=1, at_ms=0, outputs=msgspec.Raw(b"{}"))])
    Sender(outbox, Cloud(failures=1000), threads, jitter=lambda: 1.0).start()
    assert max(threads.pauses) == threads.pauses[-1] == 300
    assert outbox.state().held == 1
    outbox.close()


# ------------------------------------------------------------------------------------------ how it is sent


class Api:
    """What stands behind an address: it answers as it is told, and keeps what it was asked."""

    def __init__(self, answer: HttpResponse) -> None:
        self.answer, self.asked = answer, list[HttpRequest]()

    def handle(self, request: HttpRequest) -> HttpResponse:
        self.asked.append(request)
        return self.answer


BATCH = Batch(
    device="gate-1",
    outbox="0" * 32,
    results=[
        Numbered(sequence=4, result=Result(model="m", release=1, at_ms=0, outputs=msgspec.Raw(b'{"a":1}')))
    ],
)


def send(answer: HttpResponse) -> tuple[int, Api]:
    api = Api(answer)
    server = EdgeServer(api, 0, max_request_bytes=1 << 20)
    server.start()
    try:
        signed: list[Outgoing] = []
        sink = ApiResults(
            f"http://127.0.0.1:{server.port}/v", lambda request: signed.append(request) or request
        )
        last = sink.send(BATCH)
        assert len(signed) == 1
        return last, api
    finally:
        server.close()


def test_a_batch_goes_to_the_devices_own_path() -> None:
    last, api = send(json_response(Confirmed(4)))
    (request,) = api.asked
    assert (last, request.method, request.path) == (4, "POST", "/v/results/gate-1")
    assert msgspec.json.decode(gzip.decompress(request.body), type=Batch) == BATCH


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (error_response(403, "no"), PermissionMissing),
        (error_response(400, "no"), Refused),
        (error_response(503, "later"), Unavailable),
        (HttpResponse(502, b"<html>"), Unavailable),
        (HttpResponse(200, b"[]"), InvalidAnswer),
    ],
)
def test_what_the_cloud_says_instead_is_an_error_of_ours(
    answer: HttpResponse, error: type[IsthmusError]
) -> None:
    with pytest.raises(error):
        send(answer)


def test_a_cloud_that_is_not_there_is_unavailable() -> None:
    server = EdgeServer(Api(json_response(Confirmed(4))), 0, max_request_bytes=10)
    port = server.port
    server.server_close()
    with pytest.raises(Unavailable, match="could not be reached"):
        ApiResults(f"http://127.0.0.1:{port}", lambda request: request).send(BATCH)
    with pytest.raises(InvalidInput, match="begins with https://"):
        ApiResults("gate", lambda request: request)


def test_a_core_without_boto3_keeps_results_and_says_why_it_sends_none(tmp_path: Path) -> None:
    """The edge function's package has neither boto3 nor urllib3, nor YAML."""
    program = f"""
import json, sys, msgspec
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("urllib3", "boto3", "botocore", "yaml", "aws_lambda_powertools"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from isthmus.bootstrap_results import signed_as
from isthmus.client.results import ApiResults
from isthmus.edge.outbox import Outbox
from isthmus.edge.sender import Sender
from isthmus.adapters.system import SystemThreads
from isthmus.model.results import Result
from pathlib import Path
outbox = Outbox(Path({str(tmp_path)!r}), "gate-1")
outbox.put([Result(model="m", release=1, at_ms=0, outputs=msgspec.Raw(b"{{}}"))])
sender = Sender(outbox, ApiResults("https://x.execute-api.eu-west-1.amazonaws.com/v", signed_as(None)), SystemThreads())
print(json.dumps([sender.try_once(), sender.problem, outbox.state().held]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    went_well, problem, held = json.loads(done.stdout)
    assert (went_well, held) == (False, 1)
    assert "sending results needs boto3" in problem
