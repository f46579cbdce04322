"""A rig in operation: its agent's word of itself, its training's news, orders to it, its service."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rig_world import KEY

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.certificates import MemoryCertificates
from isthmus.adapters.local.metrics import MemoryMetrics
from isthmus.adapters.local.queue import ManualClock, MemoryQueue, MemoryReporter, MemoryTasks
from isthmus.adapters.local.records import MemoryRecords
from isthmus.adapters.system import SystemClock, SystemThreads
from isthmus.errors import (
    EnvironmentProblem,
    InvalidInput,
    MissingFile,
    PermissionMissing,
    PolicyViolation,
    Refused,
    Unavailable,
)
from isthmus.frameworks.curves import POINTS
from isthmus.model import layout
from isthmus.model.device import DeviceDescriptor
from isthmus.model.messages import Work
from isthmus.ports import Item
from isthmus.rig import control, identity, logs, orphans
from isthmus.rig.joblog import JobLog
from isthmus.rig.presence import Doing, Presence
from isthmus.rig.progress import CURVE_POINTS, MAX_METRICS, Progress
from isthmus.rig.services import Services
from isthmus.rig.spool import Orphan, Spool
from isthmus.rig.unit import Unit
from isthmus.rig.waiting import WaitingList
from isthmus.workflows.rig_status import RigStatus, rig_status

IDLE, RUNNING = Doing(state="idle"), Doing(state="running", job_key=KEY, fencing=2)


class Cut(MemoryRecords):
    """A table that a test can make unreachable, or forbid."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Exception | None = None
        self.list_trouble: Exception | None = None
        self.writes = self.queries = 0

    def query(self, pk: str, *, prefix: str = "") -> list[Item]:
        self.queries += 1
        if self.list_trouble is not None:
            raise self.list_trouble
        return super().query(pk, prefix=prefix)

    def put(self, item: Item) -> None:
        self._meet()
        super().put(item)

    def update(self, *args: Any, **options: Any) -> None:
        self._meet()
        super().update(*args, **options)

    def _meet(self) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.writes += 1


class World:
    def __init__(self) -> None:
        self.records, self.clock, self.metrics = Cut(), ManualClock(), MemoryMetrics()
        self.doing = IDLE
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.waiting = WaitingList("gpu-1", "a1", self.records, self.clock)
        self.presence = Presence(
            "gpu-1",
            "a1",
            lambda: self.doing,
            records=self.records,
            clock=self.clock,
            threads=SystemThreads(),
            report=self.report,
            metrics=self.metrics,
            waiting=self.waiting,
            gpu_use=lambda: 75.0,
        )

    def report(self, event: str, **fields: Any) -> None:
        self.said.append((event, fields))

    def item(self) -> Item:
        (item,) = self.records.query(layout.rig_pk("gpu-1"))
        return item


def work(fencing: int = 2) -> Work:
    return Work(job_key=KEY, fencing=fencing, job="", manifest="", token="t", execution="e")


def test_an_agent_tells_a_change_at_once_and_the_same_again_only_after_a_while() -> None:
    world = World()
    world.presence.look()
    world.presence.look()
    assert world.records.writes == 1
    assert world.item()["doing"]["state"] == "idle"
    since = world.item()["since"]
    world.clock.sleep(301)
    world.presence.look()
    assert (world.records.writes, world.item()["since"]) == (2, since)
    world.doing = RUNNING
    world.presence.look()
    assert world.item()["doing"] == {"state": "running", "job_key": KEY, "fencing": 2}
    assert world.item()["since"] > since


def test_a_table_that_is_away_hears_of_it_later_and_one_that_refuses_is_reported_once() -> None:
    world = World()
    world.records.trouble = Unavailable("no route")
    world.presence.look()
    assert world.said == []
    world.records.trouble = None
    world.presence.look()
    assert world.item()["agent"] == "a1", "at the next look, not after five minutes"
    world.records.trouble = PermissionMissing("dynamodb:PutItem")
    for _ in range(3):
        world.clock.sleep(400)
        world.presence.look()
    assert [event for event, _ in world.said] == ["presence is not told"]
    world.records.trouble = None
    world.clock.sleep(400)
    world.presence.look()
    assert world.item()["agent"] == "a1"


def test_an_error_of_any_kind_is_reported_once_and_told_later() -> None:
    world = World()
    world.records.trouble = ValueError("not JSON")
    for _ in range(3):
        world.clock.sleep(400)
        world.presence.look()
    assert world.said == [("presence is not told", {"error": "ValueError: not JSON"})]
    world.records.trouble = None
    world.clock.sleep(400)
    world.presence.look()
    assert world.item()["agent"] == "a1"


def test_metrics_are_sent_while_there_is_work_and_once_after_it() -> None:
    world = World()
    world.presence.look()
    assert world.metrics.sent == [], "an idle rig costs nothing"
    world.waiting.add(work())
    world.clock.sleep(90)
    world.presence.look()
    values, dimensions = world.metrics.sent[-1]
    assert dimensions == {"rig": "gpu-1"}
    assert values == {"QueueAgeSeconds": 90.0, "JobsWaiting": 1.0, "JobsRunning": 0.0, "GpuUsePercent": 75.0}
    world.waiting.remove(work())
    for _ in range(3):
        world.clock.sleep(61)
        world.presence.look()
    assert len(world.metrics.sent) == 2
    assert world.metrics.sent[-1][0]["JobsWaiting"] == 0.0


def test_work_that_begins_is_measured_at_once_and_not_more_often_than_every_minute() -> None:
    world = World()
    world.presence.look()
    for seconds, doing, sent in ((2, RUNNING, 1), (2, IDLE, 1), (2, RUNNING, 1), (61, RUNNING, 2)):
        world.clock.sleep(seconds)
        world.doing = doing
        world.presence.look()
        assert len(world.metrics.sent) == sent, (seconds, doing)
    assert world.metrics.sent[0][0]["JobsRunning"] == 1.0


def test_a_list_that_is_away_is_not_asked_for_each_second_by_who_works() -> None:
    world = World()
    world.presence.look()
    world.records.list_trouble, world.doing, before = (
        Unavailable("no network"),
        RUNNING,
        world.records.queries,
    )
    for _ in range(50):
        world.clock.sleep(1)
        world.presence.look()
    assert world.records.queries == before + 1


def test_an_orphan_that_may_not_be_told_keeps_no_agent_from_starting(tmp_path: Path) -> None:
    records, said = Cut(), []
    spool = Spool(tmp_path)
    spool.keep(
        Orphan(job_key=KEY, fencing=1, rig="gpu-1", cause="late", since="2026-01-01T00:00:00Z", path="/x")
    )
    records.trouble = PolicyViolation("results may not leave")
    orphans.tell_all(spool, records, lambda event, **fields: said.append(event))
    assert said == ["orphan not told"]
    records.trouble = Unavailable("no network")
    with pytest.raises(Unavailable):
        orphans.tell_all(spool, records, lambda event, **fields: said.append(event))


def test_an_agent_that_leaves_says_so_and_one_that_is_silent_is_shown_as_silent() -> None:
    world = World()
    with world.presence:
        pass
    assert world.item()["doing"]["state"] == "left"
    status = status_of(world)
    assert [agent.state for agent in status.agents] == ["left"]
    world.doing = RUNNING
    world.presence.look()
    world.clock.sleep(601)
    (agent,) = status_of(world).agents
    assert (agent.state, agent.was, agent.job_key, agent.attempt) == ("silent", "running", KEY, 2)


def test_the_status_counts_who_waits_and_shows_late_results() -> None:
    world = World()
    world.waiting.add(work())
    sk = layout.orphan_sk(KEY, 1)
    world.records.put({"pk": layout.rig_pk("gpu-1"), "sk": sk, "job_key": KEY, "fencing": 1, "cause": "late"})
    status = status_of(world)
    assert status.waiting == 1
    assert status.orphans == ({"job_key": KEY, "fencing": 1, "cause": "late"},)
    with pytest.raises(Refused, match="there is no rig gpu-2"):
        status_of(world, "gpu-2")


def status_of(world: World, name: str = "gpu-1") -> RigStatus:
    return rig_status(
        name,
        devices=Registered(),
        records=world.records,
        certificates=MemoryCertificates(),
        clock=world.clock,
    )


class Registered:
    """One rig."""

    def get(self, name: str) -> DeviceDescriptor | None:
        device = DeviceDescriptor(
            id="gpu-1", kind="rig", zone="z", arch="x86_64", cores=2, memory_bytes=1, disk_free_bytes=1
        )
        return device if name == "gpu-1" else None

    def register(self, device: DeviceDescriptor) -> None:
        raise AssertionError("a look registers nothing")

    def list(self) -> list[DeviceDescriptor]:
        return []


def progress(world: World, fencing: int = 2) -> Progress:
    services = Services(
        queue=MemoryQueue(),
        records=world.records,
        tasks=MemoryTasks(),
        blobs=DirectoryBlobStore(Path("unused")),
        reporter=MemoryReporter(),
        clock=world.clock,
        threads=SystemThreads(),
    )
    return Progress(work(fencing), "gpu-1", services, world.report)


def told(world: World) -> Item:
    return world.records.get(layout.job_pk(KEY), layout.PROGRESS) or {}


def test_the_latest_metrics_are_told_and_nothing_when_there_is_no_news() -> None:
    world = World()
    news = progress(world)
    news.take("epoch=1 loss=0.5")
    news.take("nothing to see")
    news.take("loss=0.25")
    news.tell()
    news.tell()
    assert told(world)["metrics"] == {"epoch": 1.0, "loss": 0.25}
    assert (told(world)["fencing"], told(world)["rig"], world.records.writes) == (2, "gpu-1", 1)


def test_news_wait_for_the_network_and_never_overwrite_a_later_attempt() -> None:
    world = World()
    news = progress(world)
    world.records.trouble = Unavailable("no route")
    news.take("loss=0.5")
    news.tell()
    world.records.trouble = None
    news.tell()
    assert told(world)["metrics"] == {"loss": 0.5}
    with progress(world, fencing=3) as later:
        later.take("loss=0.1")
    news.take("loss=0.4")
    news.tell()
    assert (told(world)["fencing"], told(world)["metrics"]) == (3, {"loss": 0.1})


def test_how_the_metrics_went_is_told_less_often_and_left_for_later(tmp_path: Path) -> None:
    world = World()
    news = progress(world)
    for step in range(1000):
        news.take(f"step={step} loss={1000 - step}")
        world.clock.sleep(1)
    news.tell_curves()
    news.tell_curves()
    item = world.records.get(layout.job_pk(KEY), layout.CURVES) or {}
    curve = item["metrics"]["curves"]["loss"]
    assert (item["fencing"], world.records.writes) == (2, 1)
    assert len(curve["values"]) == len(curve["seconds"]) <= CURVE_POINTS + 1
    assert (curve["values"][0], curve["seconds"][0]) == (1000.0, 0.0)
    assert (curve["values"][-1], curve["seconds"][-1]) == (1.0, 999.0)
    news.leave(tmp_path)
    left = json.loads((tmp_path / "curves.json").read_text())["curves"]["loss"]
    assert len(curve["values"]) < len(left["values"]) <= POINTS + 1
    progress(World()).leave(tmp_path / "gone")


def test_however_many_metrics_a_script_prints_the_item_stays_small() -> None:
    world = World()
    news = progress(world)
    for i in range(3 * MAX_METRICS):
        news.take(f"m{i}={i}")
    news.take("m0=7")
    news.tell()
    assert len(told(world)["metrics"]) == MAX_METRICS
    assert told(world)["metrics"]["m0"] == 7.0


def test_news_outlast_an_error_of_any_kind_and_names_stay_short() -> None:
    world = World()
    news = progress(world)
    news.take(f"loss=0.5 {'n' * 201}=1")
    world.records.trouble = ValueError("not JSON")
    news.tell()
    news.tell()
    assert [fields["error"] for _, fields in world.said] == ["ValueError: not JSON"]
    world.records.trouble = None
    news.tell()
    assert told(world)["metrics"] == {"loss": 0.5}


AGENT = """
import signal, sys, time
from pathlib import Path
from isthmus.rig.identity import sole_agent

folder = Path(sys.argv[1])
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append("drain"))
signal.signal(signal.SIGUSR1, lambda *_: got.append("stop"))
with sole_agent(folder):
    print("ready", flush=True)
    while not got:
        time.sleep(0.01)
print(got[0], flush=True)
"""


@pytest.mark.parametrize("what", ["drain", "stop"])
def test_an_order_reaches_the_agent_of_the_folder(what: control.Order, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(AGENT), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert identity.running_agent(tmp_path) == process.pid
        assert control.order(tmp_path, what) == process.pid
        assert control.wait_until_left(tmp_path, SystemClock(), 20)
        assert process.stdout.readline() == f"{what}\n"
    assert identity.running_agent(tmp_path) is None


def test_where_no_agent_works_there_is_nobody_to_order(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no agent works in"):
        control.order(tmp_path, "drain")
    with identity.sole_agent(tmp_path):
        pass
    with pytest.raises(Refused, match="no agent works in"):
        control.order(tmp_path, "stop")


def test_an_agent_of_an_earlier_version_says_no_process(tmp_path: Path) -> None:
    with (tmp_path / identity.LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentProblem, match="earlier version"):
            control.order(tmp_path, "drain")
        assert not control.wait_until_left(tmp_path, ManualClock(), 5)


def attempt_log(folder: Path, name: str, text: str) -> Path:
    path = folder / "attempts" / name / "train.log"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_a_job_s_log_is_found_by_its_beginning(tmp_path: Path) -> None:
    first = attempt_log(tmp_path, f"{KEY}-1", "one\n")
    attempt_log(tmp_path, "ffff-1", "other\n")
    assert logs.log_of(tmp_path, KEY[:6]) == first
    assert b"".join(logs.read(first, tail_bytes=2)) == b"e\n"
    with pytest.raises(MissingFile, match="no log of job beef"):
        logs.log_of(tmp_path, "beef")
    with pytest.raises(MissingFile, match="no log of job"):
        logs.log_of(tmp_path, "../..")


def test_a_log_is_followed_until_nobody_writes_it(tmp_path: Path) -> None:
    path = attempt_log(tmp_path, f"{KEY}-1", "one\n")
    writers: list[Callable[[], object]] = [lambda: path.open("a").write("two\n"), lambda: None]

    def over() -> bool:
        if writers:
            writers.pop(0)()
        return not writers

    assert b"".join(logs.follow(path, ManualClock(), over)) == b"one\ntwo\n"


def test_a_log_is_followed_and_read_beyond_its_first_part(tmp_path: Path) -> None:
    path = attempt_log(tmp_path, f"{KEY}-1", "")
    numbers = iter(range(60))

    def write(log: JobLog, lines: int) -> None:
        for _ in range(lines):
            log.write(f"line {next(numbers):04d}\n".encode())

    with JobLog(path, head_bytes=100, tail_bytes=100) as log:
        rounds = iter(range(16))

        def over() -> bool:
            if next(rounds, None) is None:
                return True
            write(log, 3)
            return False

        followed = b"".join(logs.follow(path, ManualClock(), over)).decode().splitlines()
        assert followed == [f"line {number:04d}" for number in range(48)]
        assert b"line 0047\n" in b"".join(logs.read(path))
        assert len(b"".join(logs.read(path, tail_bytes=30))) == 30
        other = attempt_log(tmp_path, "ffff-1", "")
        os.utime(other, (3e9, 3e9))
        assert logs.log_of(tmp_path) == other
        os.utime(path.with_name("train.log.0"), (4e9, 4e9))
        assert logs.log_of(tmp_path) == path


def unit(**changes: Any) -> Unit:
    values: dict[str, Any] = {
        "rig": "gpu-1",
        "folder": Path("/srv/isthmus"),
        "command": ("/opt/isthmus/bin/isthmus", "rig", "run", "--name", "gpu-1"),
        "user": "trainer",
    }
    return Unit(**(values | changes))


def test_a_service_starts_the_agent_as_its_user_and_stops_it_in_order() -> None:
    lines = unit(environment=(("AWS_REGION", "eu-west-1"),)).text().splitlines()
    assert 'ExecStart="/opt/isthmus/bin/isthmus" "rig" "run" "--name" "gpu-1"' in lines
    for line in (
        "User=trainer",
        'Environment="AWS_REGION=eu-west-1"',
        "KillMode=mixed",
        "KillSignal=SIGUSR1",
    ):
        assert line in lines
    assert "ReadWritePaths=/srv/isthmus" in lines


def test_odd_characters_mean_themselves() -> None:
    lines = unit(command=("/x", 'a "b" $HOME 50%', "c\\d"), folder=Path("/srv/50%")).text().splitlines()
    assert r'ExecStart="/x" "a \"b\" $$HOME 50%%" "c\\d"' in lines
    assert "WorkingDirectory=/srv/50%%" in lines
    with pytest.raises(InvalidInput, match="line break"):
        unit(user="trainer\nExecStart=/bin/evil").text()
