"""A simulated machine of a rig: its folder, its agent's lives in turn, and trainings in virtual time."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.simulation.network import Blobs, Line, Records, Weather
from benchmarks.simulation.queueing import QueueLine
from benchmarks.simulation.region import Cloud, TaskLine
from benchmarks.simulation.scheduler import HostClock, Process, Scheduler
from isthmus import documents
from isthmus.model import layout
from isthmus.model.checkpoint import Checkpoint
from isthmus.model.job import Training
from isthmus.ports import Flag, TrainingRun
from isthmus.rig.agent import Agent
from isthmus.rig.contract import Layout
from isthmus.rig.runner import TrainingRequest
from isthmus.rig.services import RigSettings, Services
from isthmus.rig.spool import Spool
from isthmus.workflows.train_on_rig import finish_attempt

RIG = "rig-1"
EPOCHS = 3
CHECKPOINT_FILE = "epoch"
EXIT_CODE = "exit_code"
"""The hyperparameter that says how a job's script ends."""


@dataclass
class Run:
    """One training that was started."""

    job_key: str
    fencing: int
    host: str
    started_at: float
    first_epoch: int
    ended_at: float = 0.0
    exit_code: int | None = None
    told: bool = False
    """Its agent called a service after the end: by then it must have written the result down."""
    forgotten: bool = False
    """Its agent died before it could write the result down: the attempt is lost by rights."""


@dataclass
class Facts:
    """What happened in a world, for the checks at its end."""

    runs: list[Run] = field(default_factory=list)
    kills: list[tuple[float, str, str]] = field(default_factory=list)
    """When, which machine, and the job that it trained, or an empty text."""
    violations: list[str] = field(default_factory=list)

    def started(self, job_key: str, fencing: int) -> list[Run]:
        return [run for run in self.runs if (run.job_key, run.fencing) == (job_key, fencing)]


class VirtualRunner:
    """``rig.attempt.Runner``: a script of a few epochs, each with a checkpoint, and a model at the end."""

    def __init__(self, host: Host, process: Process) -> None:
        self._host, self._process = host, process

    def check(self, training: Training) -> None:
        return

    def warm(self) -> None:
        """It has nothing to prepare."""

    def close(self) -> None:
        """It holds nothing."""

    def end(self, run_id: str) -> int:
        return 0  # a warden's child does not outlive its agent

    def run(self, request: TrainingRequest, stop: Flag) -> TrainingRun:
        job_key, number, _ = request.run_id.rsplit("-", 2)
        scheduler, folders = self._host.scheduler, Layout(request.work)
        checkpoint = folders.checkpoints / CHECKPOINT_FILE
        first = int(checkpoint.read_text()) if checkpoint.exists() else 0
        run = Run(job_key, int(number), self._host.name, scheduler.now, first)
        self._host.begun(run)
        for epoch in range(first, EPOCHS):
            if stop.wait(self._host.epoch_seconds):
                return self._ended(run, folders, stopped=True)
            fresh = checkpoint.with_name("epoch.new")
            fresh.write_text(str(epoch + 1))
            os.replace(fresh, checkpoint)
        (folders.model / "model.onnx").write_text(f"{job_key} {number}")
        run.exit_code = int(request.training.hyperparameters[EXIT_CODE])
        run.ended_at = scheduler.now
        scheduler.trace(self._process.name, "training ended", job=job_key[:4], fencing=number)
        return self._ended(run, folders)

    def _ended(self, run: Run, folders: Layout, *, stopped: bool = False) -> TrainingRun:
        code = -15 if stopped else run.exit_code or 0
        seconds = self._host.scheduler.now - run.started_at
        return TrainingRun(code, "", {}, folders.output, seconds, stopped=stopped)


class Host:
    """One machine. ``cut_until``: it is off the network till then."""

    def __init__(self, name: str, folder: Path, cloud: Cloud, facts: Facts, weather: Weather) -> None:
        self.name, self.folder = name, folder
        self.scheduler: Scheduler = cloud.scheduler
        self.clock = HostClock(cloud.scheduler)
        self.epoch_seconds = 5.0
        self.cut_until = 0.0
        self.deaths = 0.0
        self.dies_at = 0
        """The agent dies at so many durable steps from now; 0: not by count."""
        self.down_seconds = 5.0
        self.lives = 0
        self.agent: Agent | None = None
        self.process: Process | None = None
        self.make_agent: Callable[..., Agent] = Agent
        self.settings = RigSettings(
            rig=RIG, folder=folder, connections=1, cache_bytes=1 << 20, bucket_zone="aws:x"
        )
        self._cloud, self._facts, self._weather = cloud, facts, weather
        self._leaving = self.left = False
        self._last_run: Run | None = None

    @property
    def up(self) -> bool:
        return self.process is not None

    def start(self) -> None:
        """Begin another life of the agent, in the folder that the last one left."""
        if self.up or self.left:
            return
        self.lives += 1
        self.process = process = Process(f"{self.name}.{self.lives}", self.scheduler)
        process.may_die = self._may_die
        process.failed = self._failed
        line = Line(process, self._weather, lambda: self.scheduler.now < self.cut_until)
        services = Services(
            queue=QueueLine(self._cloud.queue, line),
            records=Records(self._cloud.table, line),
            tasks=TaskLine(self._cloud.tokens, line),
            blobs=Blobs(self._cloud.bucket, line),
            reporter=_Reporter(self._cloud, line),
            clock=self.clock,
            threads=process,
        )

        def report(event: str, **fields: object) -> None:
            self.scheduler.trace(process.name, f'"{event}"', **fields)
            process.die(f"report {event}")

        def live() -> None:
            self.agent = self.make_agent(self.settings, services, VirtualRunner(self, process), report)
            if self._leaving:
                self.agent.drain()
            self.agent.run()
            self.process, self.left = None, self._leaving

        process.start("agent", live)

    def kill(self) -> None:
        """SIGKILL from outside, between two strands."""
        if self.process is not None and not self.process.dead:
            self.scheduler.trace(self.process.name, "KILLED from outside")
            job_key, self.process.dead = self._trained(), True
            self._gone(self.process, job_key)

    def drain(self) -> None:
        """Let the agent finish; once it has left it is not started again."""
        self._leaving = True
        if self.agent is not None and self.up:
            self.agent.drain()

    def _may_die(self, where: str) -> bool:
        process, run = self.process, self._last_run
        if run is not None and run.exit_code is not None and where.endswith(", before"):
            run.told = run.told or self.scheduler.current().name == "agent"
        if process is None or not (self._is_its_turn() or self.scheduler.random.random() < self.deaths):
            return False
        job_key = self._trained()
        self.scheduler.at(0.0, lambda: self._gone(process, job_key))
        return True

    def _is_its_turn(self) -> bool:
        self.dies_at -= 1
        return self.dies_at == 0

    def _gone(self, process: Process, job_key: str) -> None:
        """What a death leaves: the folder, and nobody who works in it until the next life."""
        process.kill()
        self._facts.kills.append((self.scheduler.now, self.name, job_key))
        self._note_forgotten()
        self.process = self.agent = None
        self.scheduler.at(self.down_seconds * self.scheduler.random.random(), self.start)

    def _trained(self) -> str:
        doing = self.agent.doing() if self.agent else None
        return doing.job_key if doing else ""

    def _note_forgotten(self) -> None:
        run = self._last_run
        if run is not None and run.exit_code is not None and not run.forgotten:
            kept = {(entry.job_key, entry.fencing): entry.outcome for entry in Spool(self.folder).entries()}
            run.forgotten = kept.get((run.job_key, run.fencing), "") is None and not run.told

    def _failed(self, strand: str, error: Exception) -> None:
        self._facts.violations.append(f"{self.name}: {strand} ended with {error!r}")
        if strand == "agent":
            self.process = None

    def _committed(self, job_key: str, digest: str) -> int:
        """Return the epoch of a committed checkpoint; a script that died at a bad moment left none in it."""
        key = layout.checkpoint_manifest(job_key, digest)
        manifest = documents.decode(Checkpoint, self._cloud.bucket.read(key), key)
        found = [file.sha256 for file in manifest.files if file.path == CHECKPOINT_FILE]
        return int(self._cloud.bucket.read(layout.checkpoint_blob(job_key, found[0]))) if found else 0

    def begun(self, run: Run) -> None:
        """A training starts: check what must hold in this moment."""
        facts, table = self._facts, self._cloud.table
        if facts.started(run.job_key, run.fencing):
            facts.violations.append(f"attempt {run.fencing} of {run.job_key[:4]} was trained twice")
        item = table.get(layout.job_pk(run.job_key), layout.CHECKPOINT) or {}
        if item.get("manifest") and item.get("by", 0) < run.fencing:
            epoch = self._committed(run.job_key, item["manifest"])
            if run.first_epoch < epoch:
                facts.violations.append(
                    f"{run.job_key[:4]} began at {run.first_epoch}; epoch {epoch} is committed"
                )
        facts.runs.append(run)
        self._last_run = run
        self.scheduler.trace(
            self.name, "training", job=run.job_key[:4], fencing=run.fencing, epoch=run.first_epoch
        )


class _Reporter:
    """``ports.Reporter``: calls the function FinishAttempt, which goes on when its caller dies."""

    def __init__(self, cloud: Cloud, line: Line) -> None:
        self._cloud, self._line = cloud, line

    def finished(self, job_key: str, fencing: int) -> None:
        def finish(line: Line) -> None:
            finish_attempt(
                job_key, fencing, records=self._cloud.records(line), tasks=TaskLine(self._cloud.tokens, line)
            )

        self._line.call("finish attempt", lambda: self._cloud.call_for_rig("finish_attempt", finish))
