"""``isthmus pipeline approve``: answer for a model that waits until somebody lets it into service."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.model.approval import Answer
from isthmus.workflows.approve_model import answer_approval, describe_answer


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    text = "let a model that waits for approval into service, or reject it; takes ApproverPolicy"
    verb = verbs.add_parser("approve", parents=[common], help=text)
    verb.add_argument("job_key")
    verb.add_argument("--reject", action="store_true", help="the model in service stays; needs --reason")
    verb.add_argument("--reason", default="", metavar="TEXT", help="goes on record, with who you are")
    verb.set_defaults(run=_approve)


def _approve(options: argparse.Namespace, output: Output) -> None:
    stack = Stack(options.stack)
    answer = Answer(
        state="REJECTED" if options.reject else "APPROVED",
        at=bootstrap.now(),
        by=bootstrap.account().caller().arn,
        reason=options.reason,
    )
    told = answer_approval(options.job_key, answer, records=stack.records, tasks=bootstrap.tasks())
    text = f"release {told.release} of {told.model} is {describe_answer(told)}"
    output.result({"job_key": options.job_key, **msgspec.to_builtins(told)}, text)
