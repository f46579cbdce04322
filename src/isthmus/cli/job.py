"""``isthmus job show | follow | retry | stop``."""

from __future__ import annotations

import argparse
from typing import Any

from isthmus import bootstrap
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.cli.pipeline_text import describe_approval, describe_attempt
from isthmus.model.units import format_usd
from isthmus.workflows.follow_job import JobStatus, follow, status


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser("job", help="see and steer a pipeline").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    for name, run, text in (
        ("show", _show, "where a job is, and how it ended"),
        ("follow", _follow, "follow a job to its end; exit status 0 when it deployed"),
        ("cost", _cost, "what a job cost, at list prices"),
        ("retry", _retry, "run a job that has ended again"),
        ("stop", _stop, "stop a running job"),
    ):
        verb = verbs.add_parser(name, parents=[common], help=text)
        verb.add_argument("job_key")
        verb.set_defaults(run=run)


def _show(options: argparse.Namespace, output: Output) -> None:
    stack = Stack(options.stack)
    found = status(options.job_key, bootstrap.pipeline(stack.outputs), stack.records)
    output.result(found, describe(found))


def _follow(options: argparse.Namespace, output: Output) -> int:
    stack = Stack(options.stack)
    ended = follow(
        options.job_key,
        bootstrap.pipeline(stack.outputs),
        stack.records,
        bootstrap.clock(),
        lambda step, seconds: output.progress(f"  {seconds:7.1f} s  {step}"),
    )
    output.result(ended, describe(ended))
    return 0 if ended.state == "DEPLOYED" else 1


def _cost(options: argparse.Namespace, output: Output) -> None:
    stack = Stack(options.stack)
    cost = bootstrap.job_cost(options.job_key, stack.outputs)
    output.result(
        cost,
        f"job {options.job_key} cost about {format_usd(cost.total_usd)} ({cost.prices}): "
        f"Step Functions {format_usd(cost.step_functions_usd)}, Lambda {format_usd(cost.lambda_usd)}, "
        f"the rig {format_usd(cost.rig_usd)}; a thousand predictions {format_usd(cost.per_thousand_requests_usd)}; "
        f"idle {format_usd(cost.idle_per_month_usd)} a month",
    )


def _retry(options: argparse.Namespace, output: Output) -> None:
    bootstrap.pipeline(Stack(options.stack).outputs).retry(options.job_key)
    output.result({"job_key": options.job_key}, f"job {options.job_key} runs again")


def _stop(options: argparse.Namespace, output: Output) -> None:
    bootstrap.pipeline(Stack(options.stack).outputs).stop(options.job_key, "stopped by isthmus job stop")
    output.result({"job_key": options.job_key}, f"job {options.job_key} is stopped")


def describe(found: JobStatus) -> str:
    """Return a job's status as text."""
    lines = [f"job {found.job_key}: {found.state}" + (f" at {found.step}" if found.step else "")]
    if found.training is not None:
        lines.append(describe_attempt(found.training))
    if found.candidate is not None:
        champion = "none" if found.champion is None else f"{found.champion:.4f}"
        lines.append(f"accuracy {found.candidate:.4f}, champion's {champion}: {found.reason}")
    lines += describe_approval(found)
    if found.error:
        lines.append(f"{found.error}: {found.cause}")
    return "\n".join(lines)
