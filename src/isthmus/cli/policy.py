"""``isthmus policy set | show``: a dataset's data policy, which only an administrator may write."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from isthmus import documents
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.model import layout
from isthmus.model.policy import DataPolicy
from isthmus.workflows.loading import load_policy


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser("policy", help="where a dataset's raw data may lie").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    put = verbs.add_parser("set", parents=[common], help="write a dataset's policy")
    put.add_argument("dataset")
    put.add_argument(
        "--zones", required=True, help="comma-separated patterns, for example onprem-*,aws:eu-west-1"
    )
    put.set_defaults(run=_set)
    show = verbs.add_parser("show", parents=[common], help="show a dataset's policy")
    show.add_argument("dataset")
    show.set_defaults(run=_show)


def _set(options: argparse.Namespace, output: Output) -> None:
    zones = [zone.strip() for zone in options.zones.split(",") if zone.strip()]
    policy = documents.convert(DataPolicy, {"zones": zones}, "the policy")
    item = {
        "pk": layout.dataset_pk(options.dataset),
        "sk": layout.POLICY,
        "policy": msgspec.to_builtins(policy),
    }
    Stack(options.stack).records.put(item)
    output.result(policy, f"raw data of {options.dataset} may lie in {', '.join(zones) or 'no zone'}")


def _show(options: argparse.Namespace, output: Output) -> None:
    policy = load_policy(Stack(options.stack).records, options.dataset)
    output.result(policy, f"raw data of {options.dataset} may lie in {', '.join(policy.zones) or 'no zone'}")
