"""Agents as real processes, killed at named moments and cut off the network, while jobs run through the bridge."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.regional import stack
from benchmarks.regional.endpoint import Endpoint
from benchmarks.regional.link import Link
from benchmarks.regional.realtime import Machine

AGENTS = 3
MOMENTS = (
    "work waits",
    "work taken",
    "attempt started",
    "checkpoints",
    "training started",
    "checkpoint committed",
    "attempt ended",
    "recovered",
    "agent started",
    "",
)
"""An agent's events, next to its durable steps; the last one stands for any moment."""
MOMENT_SECONDS = 0.15
PAUSE_SECONDS = 0.4
WATCHED, WATCH_SECONDS, DOWN_SECONDS = 0.3, 120.0, 45.0
"""After so many of the kills that hit a training, nothing else is killed until it runs again; half of these agents
come back only when the lease has run out."""
CUTS = 0.1
"""A cut instead of a kill, in so many of ten."""
SCRIPT = "the trainer has its own"


@dataclass
class Figures:
    """What a chaos run showed."""

    kills: int = 0
    kills_while_busy: int = 0
    cuts: int = 0
    lost: int = 0
    applied_twice: int = 0
    trained_twice: int = 0
    redrives: int = 0
    attempts: int = 0
    orphans: int = 0
    max_recovery_seconds: float = 0.0
    recoveries: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    by_moment: dict[str, int] = field(default_factory=dict)


class Rig:
    """One agent's machine: the process, and what it said."""

    def __init__(self, number: int, folder: Path, endpoint: Endpoint, changed: threading.Condition) -> None:
        self.folder = folder / f"agent-{number}"
        self.link = Link(("127.0.0.1", endpoint.server_address[1]))
        self.busy_with = ""
        self.up = False
        self.heard: list[tuple[float, str, str, int]] = []
        self.changed = changed
        """Of all rigs: told when any of them says something."""
        self.seen = folder / "seen"
        self._process: subprocess.Popen[str] | None = None
        self._log = (folder / f"agent-{number}.log").open("a")

    def start(self) -> None:
        self.up = True
        command = [sys.executable, "-m", "benchmarks.rig_chaos", "--agent", str(self.folder), str(self.seen)]
        self._process = subprocess.Popen(
            command,
            env=stack.environment(self.link.url),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        threading.Thread(target=self._hear, args=(self._process,), daemon=True).start()

    def _hear(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            told = json.loads(line)
            with self.changed:
                self.heard.append((time.time(), told["event"], told["job_key"], told["fencing"]))
                if not self.up or process is not self._process:
                    continue  # what it said before it was killed
                if told["event"] == "attempt started":
                    self.busy_with = told["job_key"]
                elif told["event"] == "attempt ended":
                    self.busy_with = ""
                self.changed.notify_all()

    def kill(self) -> str:
        """SIGKILL; return the job that it was training."""
        process, busy, self.up = self._process, self.busy_with, False
        if process is not None:
            process.kill()
            process.wait()
        self.busy_with = ""
        return busy

    def drain(self, seconds: float) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.link.close()


def run(
    folder: Path, *, jobs: int, kills: int, tolerance_seconds: int, limit_seconds: float, seed: int = 1
) -> Figures:
    """Run jobs through the bridge and kill agents meanwhile; then wait until every job has ended."""
    began, lot, figures = time.time(), random.Random(seed), Figures()
    endpoint = Endpoint()
    os.environ.update(stack.environment(endpoint.url))
    stack.make()
    keys = [f"{number + 1:040x}" for number in range(jobs)]
    for key in keys:
        stack.put_job(key, SCRIPT, stack.stores()[1], offline_tolerance_seconds=tolerance_seconds)
    (folder / "seen").mkdir()
    with Machine(endpoint.url, keys, tolerance_seconds, duplicates=0.3) as machine:
        assert machine.region is not None
        endpoint.control = machine.region
        changed = threading.Condition()
        rigs = [Rig(number, folder, endpoint, changed) for number in range(AGENTS)]
        for rig in rigs:
            rig.start()
        deaths = _chaos(rigs, machine, kills, lot, figures, began + limit_seconds)
        while machine.ended < jobs and time.time() < began + limit_seconds:
            time.sleep(0.2)
        for rig in rigs:
            rig.drain(30)
        _judge(machine, rigs, deaths, figures)
    endpoint.shutdown()
    endpoint.server_close()
    figures.seconds = round(time.time() - began, 1)
    return figures


def _chaos(
    rigs: list[Rig], machine: Machine, kills: int, lot: random.Random, figures: Figures, until: float
) -> list[tuple[float, str]]:
    """Kill, and cut, until enough were killed; return when each died, and what it was training."""
    deaths: list[tuple[float, str]] = []
    moments: Counter[str] = Counter()
    timers: list[threading.Timer] = []
    while figures.kills < kills and machine.ended < len(machine.executions) and time.time() < until:
        if lot.random() < CUTS:
            figures.cuts += 1
            cut = lot.choice(rigs).link
            cut.cut()
            threading.Timer(lot.uniform(0.5, 6.0), cut.mend).start()
        moment = lot.choice(MOMENTS)
        rig = _who_says(rigs, moment, 5.0) if moment else None
        if rig is None:
            up = [rig for rig in rigs if rig.up]
            if not up:
                time.sleep(PAUSE_SECONDS)
                continue
            moment, rig = "", lot.choice([rig for rig in up if rig.busy_with] or up)
        time.sleep(lot.random() * MOMENT_SECONDS)
        busy = rig.kill()
        deaths.append((time.time(), busy))
        figures.kills += 1
        moments[moment or "any moment"] += 1
        watched = bool(busy) and lot.random() < WATCHED
        down = lot.choice((0.5, DOWN_SECONDS)) if watched else lot.uniform(0.05, 2.0)
        timer = threading.Timer(down, rig.start)
        timer.start()
        if watched:
            _watch(rigs, busy, deaths[-1][0], machine, figures)
        else:
            time.sleep(lot.random() * PAUSE_SECONDS)
        timers.append(timer)
    figures.by_moment = dict(moments)
    for timer in timers:
        timer.join()
    return deaths


def _watch(rigs: list[Rig], job_key: str, at: float, machine: Machine, figures: Figures) -> None:
    """Do nothing else until the job that a kill hit is trained again, or has ended, and note how long that took."""
    execution = next(entry for entry in machine.executions if entry.job_key == job_key)

    def starts() -> list[float]:
        heard = [entry for rig in rigs for entry in rig.heard]
        return [
            when - at
            for when, event, job, _ in heard
            if when > at and (event, job) == ("training started", job_key)
        ]

    with rigs[0].changed:
        rigs[0].changed.wait_for(lambda: bool(starts()) or execution.status != "RUNNING", WATCH_SECONDS)
        found = starts()
    if found or execution.status == "RUNNING":
        figures.recoveries += 1
        recovery = min(found, default=WATCH_SECONDS)
        figures.max_recovery_seconds = round(max(figures.max_recovery_seconds, recovery), 2)


def _who_says(rigs: list[Rig], event: str, seconds: float) -> Rig | None:
    """Return the first rig that says it from now on."""
    changed, before = rigs[0].changed, [len(rig.heard) for rig in rigs]

    def found() -> Rig | None:
        pairs = zip(rigs, before, strict=True)
        return next((rig for rig, n in pairs if any(entry[1] == event for entry in rig.heard[n:])), None)

    with changed:
        return changed.wait_for(found, seconds)


def _judge(machine: Machine, rigs: list[Rig], deaths: list[tuple[float, str]], figures: Figures) -> None:
    records, blobs = stack.stores()
    from isthmus.model import layout

    figures.redrives = machine.redrives
    figures.kills_while_busy = sum(bool(busy) for _, busy in deaths)
    figures.orphans = len(records.query(layout.rig_pk(stack.RIG), prefix=layout.ORPHAN))
    started = [path.name.rsplit("-", 1)[0] for path in rigs[0].seen.glob("*-*-*")]
    figures.attempts = len(started)
    figures.trained_twice = sum(count > 1 for count in Counter(started).values())
    for execution in machine.executions:
        if execution.fault is not None:
            figures.problems.append(repr(execution.fault))
        if execution.status != "SUCCEEDED":
            figures.lost += 1
            figures.problems.append(f"{execution.job_key[-3:]} is {execution.status}: {execution.failure}")
            continue
        figures.applied_twice += len(execution.applied) - 1
        fencing = execution.applied[-1]["fencing"]
        done = rigs[0].seen / f"{execution.job_key}-{fencing}"
        output = f"{layout.attempt_output(execution.job_key, fencing)}output.json"
        if not done.exists() or blobs.info(output) is None:
            figures.lost += 1
            figures.problems.append(
                f"{execution.job_key[-3:]}: attempt {fencing} was applied, and is not there"
            )


def be_agent(folder: Path, seen: Path) -> None:
    """Be an agent until told to drain; say each event on standard output."""
    from benchmarks.regional.trainer import Trainer
    from isthmus.rig.agent import obey_signals

    def report(event: str, **fields: Any) -> None:
        told = {"event": event, "job_key": fields.get("job_key", ""), "fencing": fields.get("fencing", 0)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        print(time.time(), event, fields, file=sys.stderr, flush=True)

    agent = stack.agent(os.environ["AWS_ENDPOINT_URL"], folder, report, Trainer(seen))
    obey_signals(agent)
    agent.run()
