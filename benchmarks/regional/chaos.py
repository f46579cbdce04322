"""Agents as real processes, killed at their durable steps and at any moment, and cut off, while jobs run."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.regional import stack
from benchmarks.regional.endpoint import Endpoint
from benchmarks.regional.realtime import Machine
from benchmarks.regional.recovery import Recovery, watch
from benchmarks.regional.rigs import Rig
from benchmarks.regional.steps import MOMENTS, claim

AGENTS = 3
AT_A_STEP = 0.6
"""So many of the kills come before or after a durable step, each moment in its turn; the others come at any time."""
CHOICE = 6
STEP_EPOCHS = 6.0
"""For so long an agent is waited for that comes to one of so many moments; then one that has a job is killed."""
PATIENCE_SECONDS = 35.0
"""For so long somebody is waited for that has a job: a message may be away for its visibility timeout."""
ANY_EPOCHS = 2.0
"""The latest moment of a training, which has four epochs."""
DOWN_SECONDS = 45.0
"""After some kills nothing else is killed until the job that was hit goes on. Half of these agents are down for so
long, so that the lease runs out first; the others come back at once."""
CUTS = 0.1
"""At so many of the kills, somebody is cut off the network, too."""
CUT_SECONDS = 6.0
AHEAD = 6
"""At most so many jobs wait or run while agents are killed: twice as many as there are agents."""
ANY = "at any moment"
SCRIPT = "the trainer has its own"


@dataclass
class Figures:
    """What a chaos run showed."""

    kills: int = 0
    kills_while_busy: int = 0
    kills_at_a_step: int = 0
    moments: int = 0
    """Of so many different ones, out of two for each durable step."""
    cuts: int = 0
    duplicates: int = 0
    lost: int = 0
    applied_twice: int = 0
    trained_twice: int = 0
    not_ended: int = 0
    redrives: int = 0
    attempts: int = 0
    orphans: int = 0
    swallowed: int = 0
    """Messages that were handed to the open poll of an agent that was dead by then."""
    max_recovery_seconds: float = 0.0
    recoveries: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How much chaos: ``watches`` bounds the recoveries that are waited for, which take most of the time."""

    jobs: int
    kills: int
    watches: int
    epoch_seconds: float
    tolerance_seconds: int
    limit_seconds: float
    seed: int = 1


def run(folder: Path, plan: Plan) -> Figures:
    """Run jobs through the bridge and kill agents meanwhile; then wait until every job has ended."""
    began, figures = time.time(), Figures()
    endpoint = Endpoint()
    os.environ.update(stack.environment(endpoint.url))
    stack.make()
    keys = [f"{number + 1:040x}" for number in range(plan.jobs)]
    for key in keys:
        stack.put_job(key, SCRIPT, stack.stores()[1], offline_tolerance_seconds=plan.tolerance_seconds)
    (folder / "seen").mkdir()
    with Machine(endpoint.url, keys, plan.tolerance_seconds, duplicates=0.3) as machine:
        assert machine.region is not None
        endpoint.control = machine.region
        changed = threading.Condition()
        rigs = [Rig(number, folder, endpoint, changed, plan.epoch_seconds) for number in range(AGENTS)]
        for rig in rigs:
            rig.start()
        Attack(rigs, machine, endpoint, plan, figures, folder, began + plan.limit_seconds).run()
        while machine.ended < plan.jobs and time.time() < began + plan.limit_seconds:
            time.sleep(0.2)
        for rig in rigs:
            rig.drain(30)
        figures.duplicates = machine.duplicated
        _judge(machine, rigs, figures)
    figures.swallowed = len(endpoint.swallowed)
    endpoint.shutdown()
    endpoint.server_close()
    figures.seconds = round(time.time() - began, 1)
    return figures


class Attack:
    """Kills, and cuts, as often as planned, while jobs are let go at the kills' pace."""

    def __init__(
        self,
        rigs: list[Rig],
        machine: Machine,
        endpoint: Endpoint,
        plan: Plan,
        figures: Figures,
        folder: Path,
        until: float,
    ) -> None:
        self._folder = folder
        self._rigs, self._machine, self._endpoint = rigs, machine, endpoint
        self._plan, self._figures, self._until = plan, figures, until
        self._began = time.time()
        self._lot = random.Random(plan.seed)
        self._step_seconds = STEP_EPOCHS * plan.epoch_seconds
        self._moments: list[str] = []
        self._orders = 0
        self._reached: Counter[str] = Counter()
        self._timers: list[threading.Timer] = []
        self._changed = rigs[0].changed

    def run(self) -> None:
        """Strike until the plan's kills are done; then let the rest of the jobs go."""
        plan, figures = self._plan, self._figures
        while figures.kills < plan.kills and time.time() < self._until:
            self._let_go()
            if self._lot.random() < CUTS:
                self._cut()
            if self._lot.random() < AT_A_STEP:
                self._strike_at_a_step()
            else:
                self._strike_any(self._lot.random() * ANY_EPOCHS * self._plan.epoch_seconds)
        self._machine.let_go = plan.jobs
        figures.moments = sum(moment != ANY for moment in self._reached)
        figures.kills_at_a_step = figures.kills - self._reached[ANY]
        for timer in self._timers:
            timer.join()

    def _let_go(self) -> None:
        """Let more jobs go: all of them by the last kill, and never so many that a job waits long for its turn,
        which would look like a late recovery."""
        share = self._figures.kills / max(self._plan.kills - 1, 1)
        by_kills = AHEAD + int((self._plan.jobs - AHEAD) * share)
        self._machine.let_go = min(by_kills, self._machine.ended + AHEAD)

    def _cut(self) -> None:
        self._figures.cuts += 1
        link = self._lot.choice(self._rigs).link
        link.cut()
        self._later(self._lot.uniform(0.5, CUT_SECONDS), link.mend)

    def _strike_at_a_step(self) -> None:
        """Whoever comes first to one of a few moments, none of which was reached in this round yet, dies of it."""
        self._moments = self._moments or list(MOMENTS)
        self._orders += 1
        number = str(self._orders)
        order = ";".join([number, *self._lot.sample(self._moments, min(CHOICE, len(self._moments)))])
        told = [rig for rig in self._rigs if rig.up]
        for rig in told:
            rig.tell(order)
        with self._changed:
            self._changed.wait_for(lambda: not all(rig.up for rig in told), self._step_seconds)
            is_late = claim(self._folder, number)
            if not is_late:
                self._changed.wait_for(lambda: not all(rig.up for rig in told))
        for rig in told:
            rig.tell("")
        if is_late:
            self._strike_any(0.0)
        else:
            dead = next(rig for rig in told if not rig.up)
            self._moments.remove(dead.moment)
            self._count(dead, dead.moment)

    def _strike_any(self, seconds: float) -> None:
        """Kill an agent that runs an attempt, ``seconds`` after that is known; if none does soon, any that is up."""
        with self._changed:
            self._changed.wait_for(
                lambda: any(rig.busy_with for rig in self._rigs) or self._is_idle(), PATIENCE_SECONDS
            )
            found = [rig for rig in self._rigs if rig.busy_with] or [rig for rig in self._rigs if rig.up]
        if found:
            rig = self._lot.choice(found)
            time.sleep(seconds)
            if rig.up:
                rig.kill()
                self._count(rig, ANY)

    def _is_idle(self) -> bool:
        """Whether no job is left that an agent could have."""
        return self._machine.ended >= self._machine.let_go and any(rig.up for rig in self._rigs)

    def _count(self, rig: Rig, moment: str) -> None:
        """Note a death, and see to the next life."""
        at, job_key, figures = time.time(), rig.busy_with, self._figures
        print(
            f"{at - self._began:.1f} {rig.name} died {moment}, training {job_key[-3:] or 'nothing'}",
            file=sys.stderr,
        )
        figures.kills += 1
        figures.kills_while_busy += bool(job_key)
        self._reached[moment] += 1
        watched = bool(job_key) and figures.kills >= self._next_watch()
        down = self._lot.uniform(0.05, 2.0)
        if watched and figures.recoveries % 2:
            down = DOWN_SECONDS
        self._later(down, rig.start)
        if watched:
            self._note(watch(self._rigs, rig, job_key, moment, at, self._machine, self._endpoint))

    def _next_watch(self) -> float:
        """Return at which kill it is: they are spread evenly over all."""
        if self._figures.recoveries >= self._plan.watches:
            return float("inf")
        return self._plan.kills * (self._figures.recoveries + 0.5) / self._plan.watches

    def _note(self, recovery: Recovery) -> None:
        print(recovery, file=sys.stderr, flush=True)
        if recovery.seconds is not None:
            figures = self._figures
            figures.recoveries += 1
            figures.max_recovery_seconds = max(figures.max_recovery_seconds, round(recovery.seconds, 2))

    def _later(self, seconds: float, call: object) -> None:
        timer = threading.Timer(seconds, call)  # type: ignore[arg-type]
        timer.start()
        self._timers.append(timer)


def _judge(machine: Machine, rigs: list[Rig], figures: Figures) -> None:
    from isthmus.model import layout

    records, blobs = stack.stores()
    figures.redrives = machine.redrives
    figures.orphans = len(records.query(layout.rig_pk(stack.RIG), prefix=layout.ORPHAN))
    started = [path.name.rsplit("-", 1)[0] for path in rigs[0].seen.glob("*-*-*")]
    figures.attempts = len(started)
    figures.trained_twice = sum(count > 1 for count in Counter(started).values())
    for execution in machine.executions:
        name = execution.job_key[-3:]
        if execution.fault is not None:
            figures.problems.append(repr(execution.fault))
        figures.not_ended += execution.status == "RUNNING"
        if execution.status != "SUCCEEDED":
            figures.lost += 1
            figures.problems.append(f"{name} is {execution.status}: {execution.failure}")
            continue
        figures.applied_twice += len(execution.applied) - 1
        fencing = execution.applied[-1]["fencing"]
        done = rigs[0].seen / f"{execution.job_key}-{fencing}"
        output = f"{layout.attempt_output(execution.job_key, fencing)}output.json"
        if not done.exists() or blobs.info(output) is None:
            figures.lost += 1
            figures.problems.append(f"{name}: attempt {fencing} was applied, and is not there")
