"""Two runs side by side: what they were given, where they ran, what they cost, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from isthmus.errors import MissingFile
from isthmus.model.job import Job, Training
from isthmus.ports import BlobStore, Records
from isthmus.workflows.follow_job import Pipeline
from isthmus.workflows.loading import load_job
from isthmus.workflows.show_pipeline import Shown, show_pipeline

Cell = str | int | float | bool | None
CostOf = Callable[[str], float | None]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing of both runs; None: a run has none of it."""

    part: str
    name: str
    a: Cell
    b: Cell

    @property
    def differs(self) -> bool:
        """Whether the runs differ in it."""
        return self.a != self.b


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """``rows`` in the order: the job, hyperparameters, the run, metrics, the gate."""

    a: str
    b: str
    rows: tuple[Row, ...]


def compare_runs(
    a: str, b: str, pipeline: Pipeline, records: Records, blobs: BlobStore, cost_of: CostOf
) -> Comparison:
    """Compare two jobs by their keys. ``cost_of`` returns what a job cost in US dollars, None: nobody knows yet.

    Raises:
        MissingFile: one of them was never registered.
    """
    sides = [_facts(key, pipeline, records, blobs, cost_of) for key in (a, b)]
    names = list(dict.fromkeys(name for side in sides for name in side))
    parts = list(dict.fromkeys(part for part, _ in names))
    ordered = [name for part in parts for name in names if name[0] == part]
    rows = [Row(part=p, name=n, a=sides[0].get((p, n)), b=sides[1].get((p, n))) for p, n in ordered]
    return Comparison(a=a, b=b, rows=tuple(rows))


def _facts(
    key: str, pipeline: Pipeline, records: Records, blobs: BlobStore, cost_of: CostOf
) -> dict[tuple[str, str], Cell]:
    try:
        job = load_job(blobs, key)
    except MissingFile as error:
        raise MissingFile(
            f"job {key} is not known, or not registered yet: see `isthmus pipeline list`"
        ) from error
    shown = show_pipeline(key, pipeline, records, blobs)
    return dict([*_job(job, shown), *_run(shown, cost_of(key)), *_result(shown)])


def _job(job: Job, shown: Shown) -> Iterator[tuple[tuple[str, str], Cell]]:
    yield ("job", "model"), job.model
    yield ("job", "dataset"), shown.dataset
    if isinstance(job.source, Training):
        framework = job.source.framework
        yield ("job", "framework"), f"{framework.name} {framework.version}"
        yield ("job", "entry point"), job.source.entry_point
        yield ("job", "code"), job.source.code.sha256[:12]
        for name, value in sorted(job.source.hyperparameters.items()):
            yield ("hyperparameters", name), value


def _run(shown: Shown, cost: float | None) -> Iterator[tuple[tuple[str, str], Cell]]:
    yield ("run", "state"), shown.job.state
    yield ("run", "device"), shown.plan.device if shown.plan else None
    yield ("run", "zone"), shown.plan.zone if shown.plan else None
    yield ("run", "attempts"), shown.attempt
    yield ("run", "training seconds"), shown.training.seconds if shown.training else None
    ends = [visit.left_seconds for visit in shown.visits]
    yield ("run", "pipeline seconds"), ends[-1] if ends else None
    yield ("run", "cost usd"), None if cost is None else round(cost, 6)


def _result(shown: Shown) -> Iterator[tuple[tuple[str, str], Cell]]:
    for name, value in sorted(shown.metrics.items()):
        yield ("metrics", name), value
    job = shown.job
    yield ("gate", "accuracy"), job.candidate
    yield ("gate", "champion's"), job.champion
    yield ("gate", "reason"), job.reason or None
    yield ("gate", "release"), job.release or None


def as_document(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison by parts and names, each with both values."""
    parts: dict[str, dict[str, Any]] = {}
    for row in comparison.rows:
        parts.setdefault(row.part, {})[row.name] = {"a": row.a, "b": row.b}
    return {"a": comparison.a, "b": comparison.b, **parts}
