"""``isthmus pipeline list | show | watch | stop | redrive``; the other verbs are in
``pipeline_runs`` and ``pipeline_approve``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.cli import pipeline_approve, pipeline_runs
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.cli.pipeline_text import Lines, Picture, describe, how_to_answer
from isthmus.errors import InvalidInput
from isthmus.workflows.follow_job import Pipeline, until_ended
from isthmus.workflows.show_pipeline import Shown, list_pipelines, redrive_pipeline, show_pipeline

COLUMNS = ("job_key", "model", "dataset", "state", "step", "since", "attempt", "redrives")
GOOD_ENDS = ("DEPLOYED",)


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser("pipeline", help="see every state of a pipeline, and steer it")
    verbs = verbs.add_subparsers(title="verbs", metavar="VERB", required=True)
    _register_list(verbs, common)
    pipeline_runs.register(verbs, common)
    pipeline_approve.register(verbs, common)
    for name, run, text in (
        ("show", _show, "each state with its attempts, reasons, plan and scores"),
        ("watch", _watch, "the same, live, to the end; exit status 0 when it deployed"),
        ("stop", _stop, "stop a running pipeline"),
        ("redrive", _redrive, "go on in the state that failed, without repeating finished work"),
    ):
        verb = verbs.add_parser(name, parents=[common], help=text)
        verb.add_argument("job_key")
        verb.set_defaults(run=run)
        if name == "stop":
            verb.add_argument("--reason", default="stopped by isthmus pipeline stop", help="goes on record")


def _register_list(verbs: Any, common: argparse.ArgumentParser) -> None:
    verb = verbs.add_parser("list", parents=[common], help="recent pipelines, the newest first")
    verb.add_argument(
        "--state", default="", type=str.upper, help="RUNNING, DEPLOYED, REJECTED, FAILED, ABORTED"
    )
    verb.add_argument("--model", default="", help="of this model alone")
    verb.add_argument("--limit", type=int, default=20, help="at most so many (default: 20)")
    verb.set_defaults(run=_list)


def _list(options: argparse.Namespace, output: Output) -> None:
    if options.limit < 1:
        raise InvalidInput(f"--limit must be at least 1; it is {options.limit}")
    stack = Stack(options.stack)
    found = list_pipelines(
        _pipeline(stack), stack.records, state=options.state, model=options.model, limit=options.limit
    )
    rows = [msgspec.to_builtins(entry) for entry in found]
    lines = [table(rows, COLUMNS) if rows else "there is no such pipeline yet"]
    for entry in (entry for entry in found if entry.waits_for):
        lines.append(f"{entry.job_key} waits for {entry.waits_for}; {how_to_answer(entry.job_key)}")
    output.result(found, "\n".join(lines))


def _show(options: argparse.Namespace, output: Output) -> None:
    stack = Stack(options.stack)
    found = show_pipeline(options.job_key, _pipeline(stack), stack.records, stack.blobs)
    output.result(found, describe(found))


def _watch(options: argparse.Namespace, output: Output) -> int:
    stack, tell = Stack(options.stack), teller(output)
    pipeline = _pipeline(stack)

    def look() -> Shown:
        found = show_pipeline(options.job_key, pipeline, stack.records, stack.blobs)
        tell(found)
        return found

    ended = until_ended(look, lambda found: found.job.state, bootstrap.clock())
    output.result(ended, describe(ended))
    return 0 if ended.job.state in GOOD_ENDS else 1


def teller(output: Output) -> Callable[[Shown], None]:
    """Return what tells of changes: in place on a terminal, line by line elsewhere."""
    if output.as_json:
        return lambda found: None
    return Picture(sys.stderr).tell if sys.stderr.isatty() else Lines(output.progress).tell


def _stop(options: argparse.Namespace, output: Output) -> None:
    _pipeline(Stack(options.stack)).stop(options.job_key, options.reason)
    output.result({"job_key": options.job_key}, f"pipeline {options.job_key} is stopped")


def _redrive(options: argparse.Namespace, output: Output) -> None:
    state = redrive_pipeline(options.job_key, _pipeline(Stack(options.stack)))
    text = f"pipeline {options.job_key} goes on at {state}"
    output.result({"job_key": options.job_key, "state": state}, text)


def _pipeline(stack: Stack) -> Pipeline:
    return bootstrap.pipeline(stack.outputs)
