"""What must hold when a world has ended: nothing lost, nothing applied twice, all of it in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.model import layout
from isthmus.model.messages import AttemptState
from isthmus.rig.spool import Spool

if TYPE_CHECKING:
    from benchmarks.simulation.machine import Execution
    from benchmarks.simulation.rig import Run
    from benchmarks.simulation.world import World

RECOVERY_SECONDS = 30.0 + 2.0 + 20.0
"""The lease (``offline_tolerance_seconds``), the functions' first retry interval, one long poll of the queue."""


def check(world: World, *, ended: bool, left: bool) -> None:
    """Add every violation to the world's facts."""
    say = world.facts.violations.append
    if not ended:
        say(f"not every job ended: {[execution.status for execution in world.executions]}")
    if not left:
        say("an agent that was drained did not leave")
    for execution in world.executions:
        if execution.fault is not None:
            say(f"a function of {execution.job_key[:4]} broke: {execution.fault!r}")
        for problem in _applied(world, execution):
            say(f"{execution.job_key[:4]}: {problem}")
    for run in world.facts.runs:
        if run.exit_code is not None and (problem := _lost(world, run)):
            say(f"{run.job_key[:4]}/{run.fencing}: {problem}")
    for host in world.hosts:
        if left and (entries := Spool(host.folder).entries()):
            say(f"{host.name} left {len(entries)} attempts in its spool")
    recovery = world.recovery_seconds()
    if recovery is not None and recovery > RECOVERY_SECONDS:
        say(f"recovery took {recovery:.1f} s; at most {RECOVERY_SECONDS:.0f} s are allowed")


def _applied(world: World, execution: Execution) -> list[str]:
    """A success is applied once, under the last fencing number, by an attempt that ended well and left its files."""
    problems = []
    if len(execution.applied) != int(execution.status == "SUCCEEDED"):
        problems.append(f"{execution.status} with {len(execution.applied)} successes")
    for applied in execution.applied:
        fencing = applied["fencing"]
        if execution.planned is None or fencing != execution.planned.fencing:
            problems.append(f"attempt {fencing} was applied; it was not the one that was waited for")
        runs = [run for run in world.facts.started(execution.job_key, fencing) if run.exit_code == 0]
        if not runs:
            problems.append(f"attempt {fencing} was applied; its training never ended well")
        if (
            f"{layout.attempt_output(execution.job_key, fencing)}output.json"
            not in world.cloud.bucket.objects
        ):
            problems.append(f"attempt {fencing} was applied; its files are not in the bucket")
    dead_letters = {work.job_key for work in world.cloud.queue.dead_letters}
    timed_out = execution.status == "FAILED" and execution.failure["Error"] == "States.Timeout"
    if timed_out and execution.job_key not in dead_letters:
        problems.append(f"nobody took it before its deadline, or ended it ({execution.state})")
    if execution.status == "FAILED" and execution.failure["Error"] == "TrainingFailed":
        lease = world.cloud.table.get(layout.job_pk(execution.job_key), layout.LEASE) or {}
        runs = world.facts.started(execution.job_key, lease.get("fencing", 0))
        if lease.get("state") == AttemptState.FAILED.value and not any(run.exit_code for run in runs):
            problems.append(f"it failed by its script, which did not: {execution.failure['Cause'][:200]}")
    return problems


def _lost(world: World, run: Run) -> str:
    """Say what is wrong when a training that ended is nowhere. A failure that nobody waited for is no loss."""
    if run.exit_code or run.forgotten:
        return ""
    execution = next(entry for entry in world.executions if entry.job_key == run.job_key)
    applied = any(entry["fencing"] == run.fencing for entry in execution.applied)
    orphan = (run.job_key, run.fencing) in world.orphans()
    if applied and orphan:
        return "its result was applied, and kept as an orphan"
    stopped = execution.status == "ABORTED" or execution.redrives > 0
    return (
        ""
        if applied or orphan or stopped or _on_record(world, run)
        else "its result is neither applied nor kept"
    )


def _on_record(world: World, run: Run) -> bool:
    """Whether the lease still says how it ended: the next plan, after a redrive, makes an orphan of that."""
    lease = world.cloud.table.get(layout.job_pk(run.job_key), layout.LEASE) or {}
    return bool(lease.get("fencing") == run.fencing and lease.get("state") == AttemptState.SUCCEEDED.value)
