"""Fifty uploads at once: fifty executions, each team's work in its order, and an API that answers."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import batched, pairwise
from pathlib import Path
from typing import Any

import pytest

from demo.system import System, wait_until
from isthmus import bootstrap, documents
from isthmus.adapters.aws.session import client as product_client
from isthmus.workflows.push_dataset import Prepared, prepare
from isthmus.workflows.start_pipeline import manifest_job_key
from tests.e2e import world
from tests.e2e.cleanup import client
from tests.e2e.signed import SignedApi

pytestmark = pytest.mark.e2e

JOBS = 50
LOOK_SECONDS = 2.0
"""Between looks at all executions: listing them is work for the cloud that is being watched."""
TEAMS = {"blue": "SUCCEEDED", "green": "SUCCEEDED", "red": "FAILED"}
"""How each team's executions end: two teams' candidates are rejected, the third's scripts raise."""
CODE = Path(__file__).parent / "fifty"


def job_of(number: int) -> dict[str, Any]:
    """A job that trains for a moment, and whose candidate no gate lets through: no roll-out follows."""
    held_out, team = {"path": "test/digits.csv"}, list(TEAMS)[number % len(TEAMS)]
    return {
        "model": f"fifty-{number % 5}",
        "team": team,
        "source": {
            "kind": "training",
            "framework": {"name": "mxnet", "version": "1.9.1"},
            "entry_point": "train.py",
            "code": str(CODE),
            "hyperparameters": {"seed": number, "fails": str(TEAMS[team] == "FAILED")},
        },
        "raw_shape": [64],
        "preprocessing": [{"op": "affine", "scale": 0.0625}],
        "evaluation": {
            "inputs": held_out | {"decode": {"format": "csv", "dtype": "float32", "columns": [0, 64]}},
            "labels": held_out | {"decode": {"format": "csv", "dtype": "int64", "columns": [64, 65]}},
            "minimum": 1.0,
        },
    }


@pytest.fixture
def of_the_system(system: System, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment in which this process speaks to the system's cloud; yields the stack's outputs."""
    if system.cloud_of_its_own:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in system.env.items():
            if name.startswith("AWS_"):
                monkeypatch.setenv(name, value)
    product_client.cache_clear()
    bootstrap.blobs.cache_clear()
    yield world.outputs(system)
    product_client.cache_clear()
    bootstrap.blobs.cache_clear()


class Caller:
    """Calls the API ten times a second, in a thread of its own, and keeps what it was answered."""

    def __init__(self, base_url: str, call: Callable[[], int]) -> None:
        self.base_url, self._call = base_url, call
        self.answers: list[tuple[int, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            began = time.monotonic()
            try:
                status = self._call()
            except Exception:
                status = 0
            self.answers.append((status, time.monotonic() - began))


def api_call(system: System, base_url: str) -> Callable[[], int]:
    """Ask a model for its metadata, if one is in service; else whether the API lives."""
    models = json.loads(system.isthmus("model", "list", "--json"))
    path = f"/v2/models/{models[0]['model']}" if models else "/v2/health/live"
    api = SignedApi(base_url)
    return lambda: api.call("GET", path).status


def prepare_all(digits: Path, outputs: dict[str, str], folder: Path) -> dict[str, list[Prepared]]:
    """Upload everything but the manifests; return each team's, in the order of submission."""
    blobs = bootstrap.blobs(outputs["Bucket"])
    sent: set[str] = set()
    teams: dict[str, list[Prepared]] = {team: [] for team in TEAMS}
    for number in range(JOBS):
        workdir = folder / str(number)
        workdir.mkdir()
        job = job_of(number)
        prepared = prepare("fifty", digits, job, folder, workdir)
        for key, path, sha256 in prepared.uploads:
            if key not in sent:
                blobs.upload(key, path, sha256=sha256)
                sent.add(key)
        teams[job["team"]].append(prepared)
    return teams


def submit(team: list[Prepared], bucket: str) -> list[str]:
    """Upload a team's manifests one after the other, each twice; return the job keys."""
    blobs, keys = bootstrap.blobs(bucket), []
    for prepared in team:
        raw = documents.encode(prepared.manifest)
        blobs.put(prepared.manifest_key, raw)
        blobs.put(prepared.manifest_key, raw)
        keys.append(manifest_job_key(prepared.manifest))
    return keys


def messages(system: System, url: str) -> int:
    """Return how many messages a queue holds, visible or in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = client(system, "sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return sum(int(value) for value in answer["Attributes"].values())


def queue_url(system: System, arn: str) -> str:
    """Return the URL of a queue."""
    return str(client(system, "sqs").get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"])


def submission(system: System, machine: str, key: str) -> tuple[str, float]:
    """Return what orders a job: S3's time of its manifest, then when its execution began."""
    arn = f"{machine.replace(':stateMachine:', ':execution:')}:{key}"
    described = client(system, "stepfunctions").describe_execution(executionArn=arn)
    return json.loads(described["input"])["submitted_at"], described["startDate"].timestamp()


def taken(log: str) -> list[tuple[str, str]]:
    """Return team and job key of what the agent took, in its order."""
    return [(team, key) for key, team in re.findall(r"work taken job_key=(\w+) fencing=\d+ team=(\w+)", log)]


def test_fifty_uploads_at_once(
    system: System, digits: Path, of_the_system: dict[str, str], tmp_path: Path
) -> None:
    outputs, before = of_the_system, set(world.executions(system))
    queue = bootstrap.devices(outputs["Table"]).list()[0].queue_url
    dead_letters = queue_url(system, outputs["DeadLetters"])
    dead = messages(system, dead_letters)
    teams = prepare_all(digits, outputs, tmp_path)
    # The rig is away while they arrive, so that all fifty wait when it chooses for the first time.
    system.stop_agent()
    mark = len((system.folder / "logs/rig.log").read_text())
    times = [("", time.monotonic())]

    def reached(what: str) -> None:
        times.append((what, time.monotonic()))

    with Caller(outputs["ApiUrl"], api_call(system, outputs["ApiUrl"])) as caller:
        with ThreadPoolExecutor(len(TEAMS)) as pool:
            submitted = list(pool.map(submit, teams.values(), [outputs["Bucket"]] * len(TEAMS)))
        reached("uploads")
        keys = {key for team in submitted for key in team}
        wait_until(
            lambda: messages(system, queue) >= JOBS,
            "fifty to wait for the rig",
            600,
            lambda: _none_ended(system, keys),
            every_seconds=LOOK_SECONDS,
        )
        reached("register, plan, wait")
        system.start_agent()
        reached("start of the agent")
        wait_until(lambda: _ended(system, keys), "fifty jobs to end", 1200, every_seconds=LOOK_SECONDS)
        reached("training and evaluation")
    log = (system.folder / "logs/rig.log").read_text()[mark:]
    _report(caller, times)

    states = world.executions(system)
    assert set(states) - before == keys, "an execution for each upload, and no other"
    ends = [{states[key] for key in team} for team in submitted]
    assert ends == [{status} for status in TEAMS.values()]
    assert [system.job(team[0])["state"] for team in submitted] == ["REJECTED", "REJECTED", "FAILED"]
    order = taken(log)
    assert len(order) == JOBS, "each was taken once"
    machine = outputs["TrainAndDeployMachine"]
    for team, given in zip(TEAMS, submitted, strict=True):
        mine = [key for name, key in order if name == team]
        places = {key: submission(system, machine, key) for key in given}
        assert mine == sorted(given, key=places.__getitem__), f"{team} in the order of submission"
        assert sorted(at for at, _ in places.values()) == [places[key][0] for key in given]
    shares = [sorted(turn) for turn in batched((team for team, _ in order), len(TEAMS))]
    assert all(turn == sorted(TEAMS) for turn in shares[:-1]), "teams take turns"
    assert messages(system, queue) == 0
    assert messages(system, dead_letters) == dead
    assert json.loads(system.isthmus("rig", "queue", "demo-rig", "--json")) == []
    assert caller.answers
    assert not [answer for answer in caller.answers if answer[0] != 200], "the API answers all the while"


def _ended(system: System, keys: set[str]) -> bool:
    states = world.executions(system)
    return all(states.get(key, "RUNNING") != "RUNNING" for key in keys)


def _none_ended(system: System, keys: set[str]) -> None:
    """Without a rig nothing can end; what did, failed."""
    states = world.executions(system)
    assert {states[key] for key in keys & set(states)} <= {"RUNNING"}


def _report(caller: Caller, times: list[tuple[str, float]]) -> None:
    """Say where the time went: ``pytest -s`` shows it."""
    for (_, began), (what, ended) in pairwise(times):
        print(f"{what}: {ended - began:.1f} s")
    seconds = sorted(answer[1] for answer in caller.answers)
    middle, worst = seconds[len(seconds) // 2], seconds[-1]
    print(f"API: {len(seconds)} calls, median {middle * 1000:.0f} ms, slowest {worst * 1000:.0f} ms")
