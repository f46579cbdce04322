"""A pipeline as text: the states with their marks, times and reasons."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import TextIO

from isthmus.model.approval import Approval
from isthmus.model.execution import Visit
from isthmus.model.ledger import Entry
from isthmus.model.plan import Plan
from isthmus.model.units import format_seconds, format_usd
from isthmus.workflows.approve_model import ASKING, describe_answer
from isthmus.workflows.attempts import AttemptStatus
from isthmus.workflows.follow_job import SHOWN_TYPES, JobStatus
from isthmus.workflows.show_pipeline import Shown

MARKS = {"running": "…", "succeeded": "✓", "caught": "!", "failed": "✗", "stopped": "■"}
UP_AND_CLEAR = "\033[{lines}F\033[J"
"""ECMA-48: cursor to the start of the line so many up, and erase what follows."""
MAX_CAUSE_CHARACTERS = 160


def describe(shown: Shown) -> str:
    """Return everything about a pipeline."""
    return "\n".join(_lines(shown))


def _lines(shown: Shown) -> Iterator[str]:
    yield _heading(shown)
    yield from _visits(shown.visits, shown)
    job = shown.job
    if job.candidate is not None:
        champion = "none" if job.champion is None else f"{job.champion:.4f}"
        yield f"accuracy {job.candidate:.4f}, champion's {champion}: {job.reason}"
    yield from describe_approval(job)
    yield from _metrics(shown)
    if shown.training is not None:
        yield describe_attempt(shown.training)
    if shown.plan is not None:
        yield from _plan(shown.plan)
    for entry in shown.costs:
        yield _cost(entry)
    if job.error:
        yield f"{job.error}: {job.cause}"
        yield shown.not_redrivable or f"go on from there: isthmus pipeline redrive {job.job_key}"
    if shown.execution:
        yield f"execution {shown.execution}"
        yield shown.link


def _heading(shown: Shown) -> str:
    job = shown.job
    about = f"{job.model} from {shown.dataset}, " if job.model else ""
    at = f" at {job.step}" if job.step else ""
    release = f", release {job.release}" if job.release else ""
    redrives = f", redriven {job.redrives} times" if job.redrives > 1 else ", redriven once"
    return f"pipeline {job.job_key}: {about}{job.state}{at}{release}" + (redrives if job.redrives else "")


def _visits(visits: tuple[Visit, ...], shown: Shown, indent: str = "  ") -> Iterator[str]:
    redrive = 0
    for visit in visits:
        if visit.redrive > redrive:
            redrive = visit.redrive
            yield f"{indent}↻ redrive {redrive}"
        if visit.type not in SHOWN_TYPES and visit.outcome in ("succeeded", "caught"):
            continue
        yield indent + _visit(visit)
        for failure in visit.failures:
            yield f"{indent}    {format_seconds(failure.at_seconds)}: {failure.error}: {_short(failure.cause)}"
        yield from _visits(shown.nested.get(visit.nested, ()), shown, indent + "    ")


def _visit(visit: Visit) -> str:
    took = "" if visit.left_seconds is None else format_seconds(visit.left_seconds - visit.entered_seconds)
    attempts = f"  {visit.attempts} attempts" if visit.attempts > 1 else ""
    return f"{MARKS[visit.outcome]} {visit.entered_seconds:8.1f} s  {visit.state:<18}{took:>10}{attempts}"


def _metrics(shown: Shown) -> Iterator[str]:
    if shown.metrics:
        yield "metrics: " + " ".join(f"{name}={value:g}" for name, value in sorted(shown.metrics.items()))


def describe_approval(job: JobStatus) -> Iterator[str]:
    """Yield what people are asked of a job, with the command that answers, or what they said."""
    asked = job.approval
    if asked is None:
        return
    if asked.state != "WAITING":
        yield f"release {asked.release} was {describe_answer(asked)}"
    elif job.step == ASKING:
        yield f"release {asked.release} waits for approval since {asked.since}, until {asked.until}: {_scores(asked)}"
        yield how_to_answer(job.job_key)


def how_to_answer(job_key: str) -> str:
    """Return the command that answers, for a person."""
    return f"answer: isthmus pipeline approve {job_key}, or with --reject --reason TEXT"


def _scores(asked: Approval) -> str:
    """Return both accuracies in words."""
    candidate = "not scored" if asked.candidate is None else f"accuracy {asked.candidate:.4f}"
    if not asked.champion_release:
        return f"{candidate}, no model is in service"
    champion = "was not scored" if asked.champion is None else f"has {asked.champion:.4f}"
    return f"{candidate}, release {asked.champion_release} in service {champion}"


def describe_attempt(attempt: AttemptStatus) -> str:
    """Return where a training is, in one line; of a failure the last line of its cause."""
    on = f" on {attempt.rig}" if attempt.rig else ""
    cause = f": {_short(attempt.cause)}" if attempt.cause else ""
    return f"training {attempt.fencing}{on}: {attempt.state.value}{cause}"


def _cost(entry: Entry) -> str:
    """Return what an attempt was estimated to cost and did cost, in one line."""
    said = f"attempt {entry.fencing}: estimated {format_usd(entry.estimate.total_usd)}"
    if entry.refused:
        return f"{said}, and refused"
    if entry.settlement is None:
        return f"{said}, up to {format_usd(entry.at_most_usd)} set aside"
    return f"{said}, cost {format_usd(entry.settlement.total_usd)}"


def _plan(plan: Plan) -> Iterator[str]:
    spot = " spot" if plan.spot else ""
    yield f"attempt {plan.fencing} on {plan.device}{spot} in {plan.zone}"
    if plan.reason:
        yield f"  because: {plan.reason}"
        takes, cost = format_seconds(plan.expected_seconds), format_usd(plan.predicted_cost_usd)
        most = "at most " if plan.spot else ""
        yield f"  expected: {takes} ({plan.basis}), {most}{cost}"
    for refusal in plan.refusals:
        yield f"  not on {refusal.device}: {refusal.reason}"


def _short(cause: str) -> str:
    """Return the last line of a cause: a script's own words stand there."""
    lines = cause.strip().splitlines()
    return lines[-1][:MAX_CAUSE_CHARACTERS] if lines else ""


def terminal_size(stream: TextIO) -> os.terminal_size:
    """Return the size of the terminal that a stream writes to; of one that says none, the usual size."""
    try:
        return os.get_terminal_size(stream.fileno())
    except OSError:
        return shutil.get_terminal_size()


class Picture:
    """Draws a pipeline on a terminal, each time over what it drew before.

    A line that wraps, or one that scrolled away, would not be drawn over: the picture is cut to the
    terminal's size, and keeps its heading and the newest lines.
    """

    def __init__(self, stream: TextIO, size: Callable[[TextIO], os.terminal_size] = terminal_size) -> None:
        self._stream = stream
        self._size = size
        self._drawn: list[str] = []

    def tell(self, shown: Shown) -> None:
        """Draw, unless nothing changed."""
        lines = [
            _heading(shown),
            *_visits(shown.visits, shown),
            *describe_approval(shown.job),
            *_metrics(shown),
        ]
        lines = _cut(lines, self._size(self._stream))
        if lines == self._drawn:
            return
        if self._drawn:
            self._stream.write(UP_AND_CLEAR.format(lines=len(self._drawn)))
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._drawn = lines


def _cut(lines: list[str], size: os.terminal_size) -> list[str]:
    """Return what fits: the last column and the last line stay free, which the cursor goes to."""
    rows, columns = max(size.lines - 1, 2), max(size.columns - 1, 1)
    kept = lines if len(lines) <= rows else [lines[0], *lines[1 - rows :]]
    return [line.expandtabs()[:columns] for line in kept]


class Lines:
    """Says what is new since the last look, a line for each piece of news."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def tell(self, shown: Shown) -> None:
        """Say each state entered and left, each failed try, and the metrics."""
        for line in self._news(shown):
            if line not in self._said:
                self._said.add(line)
                self._say(line)

    def _news(self, shown: Shown) -> Iterator[str]:
        for visit in (visit for visit in shown.visits if visit.type in SHOWN_TYPES):
            again = f" (redrive {visit.redrive})" if visit.redrive else ""
            yield f"{visit.entered_seconds:8.1f} s  {visit.state} …{again}"
            for failure in visit.failures:
                yield f"{failure.at_seconds:8.1f} s  {visit.state}: {failure.error}: {_short(failure.cause)}"
            if visit.left_seconds is not None:
                yield f"{visit.left_seconds:8.1f} s  {visit.state} {MARKS[visit.outcome]}"
        if shown.training is not None:
            yield describe_attempt(shown.training)
        yield from describe_approval(shown.job)
        yield from _metrics(shown)
