"""How long a job that a kill hit waits for its next training, and what it waits for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from benchmarks.regional.endpoint import Endpoint
from benchmarks.regional.realtime import Machine
from benchmarks.regional.rigs import Rig

WATCH_SECONDS = 150.0
LOOK_SECONDS = 0.2


@dataclass
class Recovery:
    """``seconds``: from the kill to the next start of the job's training, or to the job's success; None when it was
    lost once too often, and waits for a person. ``course``: what happened to it, each with its seconds since the kill.
    """

    job_key: str
    killed: str
    moment: str
    seconds: float | None
    course: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        took = "a person is asked" if self.seconds is None else f"on again after {self.seconds:.1f} s"
        return f"{self.killed} died {self.moment} with job {self.job_key[-3:]}, {took}: " + ", ".join(
            self.course
        )


def watch(
    rigs: list[Rig],
    killed: Rig,
    job_key: str,
    moment: str,
    at: float,
    machine: Machine,
    endpoint: Endpoint,
) -> Recovery:
    """Wait until the job that a kill hit is trained again, or has ended, and say how that went."""
    execution = next(entry for entry in machine.executions if entry.job_key == job_key)
    until = at + WATCH_SECONDS

    def starts() -> list[float]:
        return [when - at for when, what, _ in _heard(rigs, job_key, at) if what == "training started"]

    while not starts() and execution.status == "RUNNING" and time.time() < until:
        with killed.changed:
            killed.changed.wait(LOOK_SECONDS)
    seconds = None if execution.status == "FAILED" else min(starts(), default=time.time() - at)
    course = [(when, f"{what} ({who})") for when, what, who in _heard(rigs, job_key, at)]
    course += [(when, what) for when, job, what in machine.notes if job == job_key and when > at]
    course += [(when, "message swallowed") for when in endpoint.swallowed if when > at]
    told = [f"{when - at:.1f} {what}" for when, what in sorted(course)]
    return Recovery(job_key, killed.name, moment, seconds, told)


def _heard(rigs: list[Rig], job_key: str, after: float) -> list[tuple[float, str, str]]:
    return [
        (when, event, rig.name)
        for rig in rigs
        for when, event, job, _ in list(rig.heard)
        if when > after and job == job_key
    ]
