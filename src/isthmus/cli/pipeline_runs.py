"""``isthmus pipeline metrics | compare``: how a run's metrics went, and two runs side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from isthmus import bootstrap
from isthmus.cli.chart import chart
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.cli.pipeline_text import terminal_size
from isthmus.errors import IsthmusError
from isthmus.frameworks.notebook import PROGRESS
from isthmus.model.output import Curve
from isthmus.model.units import format_seconds
from isthmus.workflows.compare_runs import Cell, Comparison, as_document, compare_runs
from isthmus.workflows.read_curves import Told, read_curves

MAX_WIDTH = 100
HEIGHT = 6
DIFFERS = "≠"


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    verb = verbs.add_parser("metrics", parents=[common], help="the curves of its metrics, in the terminal")
    verb.add_argument("job_key")
    verb.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="this one alone; repeatable"
    )
    verb.set_defaults(run=_metrics)
    verb = verbs.add_parser("compare", parents=[common], help="two runs side by side: what differs is marked")
    verb.add_argument("job_key")
    verb.add_argument("other_key")
    verb.set_defaults(run=_compare)


def _metrics(options: argparse.Namespace, output: Output) -> None:
    stack = Stack(options.stack)
    told = read_curves(options.job_key, stack.records, stack.blobs, tuple(options.metric))
    width = min(terminal_size(sys.stdout).columns - 1, MAX_WIDTH)
    output.result(told, "\n".join(_curves(told, width, options.metric)))


def _curves(told: Told, width: int, asked: list[str]) -> Iterator[str]:
    until = f", as of {told.told_at}" if told.told_at else ""
    yield f"job {told.job_key}, attempt {told.attempt}{until}"
    for name, curve in sorted(told.curves.curves.items()):
        if name == PROGRESS and not asked:
            continue
        yield ""
        yield _heading(name, curve)
        if len(curve.values) > 1:
            yield from chart(curve.seconds, curve.values, width, HEIGHT)


def _heading(name: str, curve: Curve) -> str:
    first, last = curve.values[0], curve.values[-1]
    if len(curve.values) == 1:
        return f"{name} {last:.4g}"
    kept = f", 1 of {curve.stride} kept" if curve.stride > 1 else ""
    span = format_seconds(curve.seconds[-1] - curve.seconds[0])
    best = f"lowest {min(curve.values):.4g}, highest {max(curve.values):.4g}"
    return f"{name} {first:.4g} → {last:.4g}, {best}, {len(curve.values)} values in {span}{kept}"


def _compare(options: argparse.Namespace, output: Output) -> None:
    stack = Stack(options.stack)

    def cost_of(job_key: str) -> float | None:
        try:
            return bootstrap.job_cost(job_key, stack.outputs).total_usd
        except IsthmusError:
            return None  # a job that waits, say, has used nothing that could be counted

    found = compare_runs(
        options.job_key,
        options.other_key,
        bootstrap.pipeline(stack.outputs),
        stack.records,
        stack.blobs,
        cost_of,
    )
    output.result(as_document(found), "\n".join(_table(found)))


def _table(found: Comparison) -> Iterator[str]:
    lines = [(row.part, row.name, _cell(row.a), _cell(row.b), row.differs) for row in found.rows]
    name_width = max(len(name) for _, name, _, _, _ in lines) + 2
    width = max(12, *(len(a) for _, _, a, _, _ in lines))
    yield f"  {'':<{name_width}}  {found.a[:12]:<{width}}  {found.b[:12]}"
    part = ""
    for row_part, name, a, b, differs in lines:
        if row_part != part:
            part = row_part
            yield part
        yield f"{DIFFERS if differs else ' '}   {name:<{name_width - 2}}  {a:<{width}}  {b}"


def _cell(value: Cell) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
