"""A world by its seed: jobs, two agents, a region and its troubles; driven to the end, then checked."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.simulation.checks import check
from benchmarks.simulation.machine import Execution
from benchmarks.simulation.network import Bucket, Weather
from benchmarks.simulation.queueing import Queue
from benchmarks.simulation.region import Cloud
from benchmarks.simulation.rig import EXIT_CODE, RIG, Facts, Host
from benchmarks.simulation.scheduler import START_SECONDS, Scheduler, watch_disk
from isthmus import documents
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Framework, Job, Training
from isthmus.rig.agent import Agent
from isthmus.workflows.devices import RegisteredDevices

HOSTS = 2
QUEUE_DEADLINE_SECONDS = 1200
TROUBLE_SECONDS = 120.0
LIMIT_SECONDS = 3 * QUEUE_DEADLINE_SECONDS
"""After the troubles: by then every job has ended, be it for its queue deadline."""
IN_MEMORY = Path("/dev/shm")
CODE, DATA = b"code", b"1,2\n"


@dataclass
class Result:
    """``recovery_seconds``: from a kill to the next attempt's start, in a world with one kill and no other trouble."""

    seed: int
    violations: list[str]
    kills: int = 0
    awaits: int = 0
    statuses: list[str] = field(default_factory=list)
    orphans: int = 0
    recovery_seconds: float | None = None
    trace: list[str] = field(default_factory=list)


def simulate(
    seed: int,
    *,
    trace: bool = False,
    make_agent: Callable[..., Agent] = Agent,
    root: Path | None = None,
) -> Result:
    """Run one world. ``make_agent``: another class of agent, to see whether the checks find its fault."""
    watch_disk()
    lines: list[str] = []
    where = root or (IN_MEMORY if IN_MEMORY.is_dir() else None)
    folder = Path(tempfile.mkdtemp(prefix="isthmus-simulation-", dir=where))
    try:
        world = World(seed, folder, make_agent, lines.append if trace else None)
        result = world.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result.trace = lines
    return result


class World:
    """Everything, and the seed's decisions about it."""

    def __init__(
        self, seed: int, folder: Path, make_agent: Callable[..., Agent], log: Callable[[str], None] | None
    ) -> None:
        self.seed = seed
        self.scheduler = Scheduler(seed, log)
        self.lot = self.scheduler.random
        self.facts = Facts()
        self._redrives = 0
        self._is_calm = False
        self.one_kill = self.lot.random() < 0.1
        self.tolerance_seconds = 30 if self.one_kill else self.lot.choice((3, 10, 30))
        weather = Weather(slow=0.0) if self.one_kill else self._weather()
        duplicates = 0.0 if self.one_kill else self._maybe(0.3)
        queue = Queue(self.scheduler, duplicates=duplicates, delay_seconds=0.5 if self.one_kill else 10.0)
        exits = (
            [0]
            if self.one_kill
            else [int(self.lot.random() < 0.15) for _ in range(self.lot.choice((1, 1, 1, 2, 3)))]
        )
        self.keys = [f"{number:x}" * layout_characters() for number in range(10, 10 + len(exits))]
        self.cloud = Cloud(self.scheduler, weather, queue, Bucket(self._objects(exits)))
        self.cloud.deaths = 0.0 if self.one_kill else self._maybe(0.02)
        rig = DeviceDescriptor(
            id=RIG,
            kind="rig",
            zone="onprem",
            arch="x86_64",
            cores=2,
            memory_bytes=1 << 30,
            disk_free_bytes=1 << 30,
            frameworks={"mxnet": ("1.9.1",)},
            queue_url="queue",
        )
        RegisteredDevices(self.cloud.table).register(rig)
        self.hosts = [
            Host(f"host-{n}", folder / str(n), self.cloud, self.facts, weather) for n in range(HOSTS)
        ]
        for host in self.hosts:
            host.make_agent = make_agent
            self._choose(host)
        self.executions = [Execution(key, self.cloud, self.tolerance_seconds) for key in self.keys]

    def _maybe(self, most: float) -> float:
        """A trouble is absent from half of the worlds, and of any strength in the others."""
        return self.lot.random() * most if self.lot.random() < 0.5 else 0.0

    def _weather(self) -> Weather:
        return Weather(
            lost_requests=self._maybe(0.1),
            lost_answers=self._maybe(0.1),
            repeats=self._maybe(0.1),
            slow=self._maybe(0.2),
            slow_seconds=self.lot.choice((0.2, 2.0, 10.0)),
        )

    def _choose(self, host: Host) -> None:
        host.epoch_seconds = self.lot.uniform(1.0, 15.0)
        host.down_seconds = self.lot.choice((0.5, 10.0, 120.0))
        if self.one_kill:
            return
        host.deaths = self._maybe(0.03)
        host.clock.skew_seconds = self.lot.choice(
            (0.0, 0.0, self.lot.uniform(-3, 3), self.lot.uniform(-4000, 4000))
        )

    def _objects(self, exits: list[int]) -> dict[str, bytes]:
        digest = hashlib.sha256(DATA).hexdigest()
        found = {"code.zip": CODE, layout.dataset_folder("d") + layout.blob_path(digest): DATA}
        for key, code in zip(self.keys, exits, strict=True):
            job = documents.encode(Job(model="m", source=self._training(code)))
            reference = BlobRef(key="job.json", sha256=documents.sha256(job), size_bytes=len(job))
            file = DatasetFile(path="train/a.csv", sha256=digest, size_bytes=len(DATA))
            found[layout.registered_job(key)] = job
            found[layout.registered_manifest(key)] = documents.encode(
                Manifest(dataset="d", files=(file,), job=reference)
            )
        return found

    def _training(self, code: int) -> Training:
        return Training(
            framework=Framework(name="mxnet", version="1.9.1"),
            entry_point="train.py",
            code=BlobRef(key="code.zip", sha256=hashlib.sha256(CODE).hexdigest(), size_bytes=len(CODE)),
            hyperparameters={EXIT_CODE: code},
            queue_deadline_seconds=QUEUE_DEADLINE_SECONDS,
            offline_tolerance_seconds=self.tolerance_seconds,
        )

    # ------------------------------------------------------------------ the course of things

    def run(self) -> Result:
        """Drive it to the end, and check it."""
        for host in self.hosts:
            self.scheduler.at(self.lot.random() * 5.0, host.start)
        for execution in self.executions:
            self.scheduler.at(self.lot.random() * 10.0, execution.start)
        if self.one_kill:
            self._kill_once()
        else:
            self._trouble()
        calm_at = START_SECONDS + TROUBLE_SECONDS
        self.scheduler.run(calm_at, lambda: self._over() and not self._redrives)
        self._calm()
        ended = self.scheduler.run(calm_at + LIMIT_SECONDS, self._over)
        for host in self.hosts:
            host.start()
            host.drain()
        left = self.scheduler.run(
            self.scheduler.now + LIMIT_SECONDS, lambda: all(host.left for host in self.hosts)
        )
        check(self, ended=ended, left=left)
        result = Result(self.seed, self.facts.violations, len(self.facts.kills), self.scheduler.turns)
        result.statuses = [execution.status for execution in self.executions]
        result.orphans = len(self.orphans())
        result.recovery_seconds = self.recovery_seconds()
        for host in self.hosts:
            if host.process is not None:
                host.process.kill()
        return result

    def _over(self) -> bool:
        return all(execution.status != "RUNNING" for execution in self.executions)

    def _kill_once(self) -> None:
        """At a moment of the training, or at a step of whoever takes the job."""
        if self.lot.random() < 0.3:
            self.scheduler.at(self.lot.uniform(5.0, 45.0), lambda: self.lot.choice(self.hosts).kill())
        else:
            self.lot.choice(self.hosts).dies_at = self.lot.randint(1, 120)

    def _trouble(self) -> None:
        """Cuts, stalls, kills, and a person who stops and redrives, at any time."""
        for host in self.hosts:
            for _ in range(self.lot.choice((0, 0, 1, 3))):
                self._later(host.kill)
            for _ in range(self.lot.choice((0, 0, 1, 2))):
                self._later(lambda host=host: self._cut(host))
            for _ in range(self.lot.choice((0, 0, 1))):
                self._later(lambda host=host: self._stall(host))
        for execution in self.executions:
            if self.lot.random() < 0.15:
                self._later(execution.stop)
            for _ in range(self.lot.choice((0, 0, 0, 1, 2))):
                self._redrives += 1
                self._later(lambda execution=execution: self._redrive(execution))

    def _redrive(self, execution: Execution) -> None:
        self._redrives -= 1
        execution.redrive()

    def _later(self, call: Callable[[], Any]) -> None:
        self.scheduler.at(self.lot.random() * TROUBLE_SECONDS, lambda: None if self._is_calm else call())

    def _cut(self, host: Host) -> None:
        host.cut_until = self.scheduler.now + self.lot.expovariate(1 / 40.0)
        self.scheduler.trace(host.name, "cut", until=host.cut_until - START_SECONDS)

    def _stall(self, host: Host) -> None:
        if host.process is not None:
            host.process.stalled_until = self.scheduler.now + self.lot.expovariate(1 / 40.0)
            self.scheduler.trace(host.name, "stalled", until=host.process.stalled_until - START_SECONDS)

    def _calm(self) -> None:
        """From here on everything works, and every job has to end."""
        self.scheduler.trace("world", "calm")
        self._is_calm = True
        self.cloud.weather.clear()
        self.cloud.queue.calm()
        self.cloud.deaths = 0.0
        for host in self.hosts:
            host.cut_until = host.deaths = 0.0
            host.dies_at = 0

    # ------------------------------------------------------------------ what came of it

    def orphans(self) -> set[tuple[str, int]]:
        """Return the results that wait for a person, in the table where everybody sees them."""
        items = self.cloud.table.query(layout.rig_pk(RIG), prefix=layout.ORPHAN)
        return {(item["job_key"], int(item["fencing"])) for item in items}

    def recovery_seconds(self) -> float | None:
        """Return the time from a kill to the next start of the job that was submitted and not yet trained."""
        execution = self.executions[0]
        if not self.one_kill or not self.facts.kills or execution.status != "SUCCEEDED":
            return None
        at = self.facts.kills[0][0]
        later = [run.started_at - at for run in self.facts.runs if run.started_at > at]
        return min(later) if later and execution.sent_at <= at else None


def layout_characters() -> int:
    """A job's key has forty characters."""
    return 40
