"""``isthmus policy set | show | audit``: a dataset's data policy, which only an administrator may write."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from isthmus import documents
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.errors import InvalidInput
from isthmus.model import layout
from isthmus.model.policy import DataPolicy
from isthmus.model.units import format_bytes
from isthmus.workflows.loading import load_policy

AUDIT_COLUMNS = ("since", "what", "sent", "requests", "held back", "from", "to", "rule")


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
    put.add_argument(
        "--may-leave",
        choices=("nothing", "results", "activations", "everything"),
        default=DataPolicy().may_leave,
        help="what of the data may go elsewhere (default: %(default)s)",
    )
    put.add_argument(
        "--max-leakage-r2",
        type=float,
        metavar="R2",
        help="of activations, only those from which inputs are rebuilt with an R² below this, 0 to 1",
    )
    put.set_defaults(run=_set)
    show = verbs.add_parser("show", parents=[common], help="show a dataset's policy")
    show.add_argument("dataset")
    show.set_defaults(run=_show)
    audit = verbs.add_parser("audit", parents=[common], help="what left rigs for a job, and by which rule")
    audit.add_argument("job_key")
    audit.add_argument("--minutes", action="store_true", help="each minute by itself (default: the sums)")
    audit.set_defaults(run=_audit)


def _set(options: argparse.Namespace, output: Output) -> None:
    zones = [zone.strip() for zone in options.zones.split(",") if zone.strip()]
    wanted = {"zones": zones, "may_leave": options.may_leave, "max_leakage_r2": options.max_leakage_r2}
    if options.max_leakage_r2 is not None and options.may_leave != "activations":
        raise InvalidInput(
            f"--max-leakage-r2 goes with --may-leave activations; what may leave is {options.may_leave}"
        )
    policy = documents.convert(DataPolicy, wanted, "the policy")
    Stack(options.stack).records.put(policy_item(options.dataset, policy))
    output.result(policy, _sentence(options.dataset, policy))


def _show(options: argparse.Namespace, output: Output) -> None:
    policy = load_policy(Stack(options.stack).records, options.dataset)
    output.result(policy, _sentence(options.dataset, policy))


def policy_item(dataset: str, policy: DataPolicy) -> dict[str, Any]:
    """Return a dataset's policy as it stands in the table."""
    # A limit that is not set is not written: functions deployed before it was known refuse the field.
    known = {name: value for name, value in msgspec.to_builtins(policy).items() if value is not None}
    return {"pk": layout.dataset_pk(dataset), "sk": layout.POLICY, "policy": known}


def _sentence(dataset: str, policy: DataPolicy) -> str:
    zones = f"raw data of {dataset} may lie in {', '.join(policy.zones) or 'no zone'}"
    if policy.max_leakage_r2 is not None:
        return f"{zones}; activations may leave with a leakage below R² {policy.max_leakage_r2:g}"
    return zones if policy.may_leave == DataPolicy().may_leave else f"{zones}; {policy.may_leave} may leave"


def _audit(options: argparse.Namespace, output: Output) -> None:
    from isthmus.workflows.audit_crossings import audit_crossings

    found = audit_crossings(options.job_key, Stack(options.stack).records, minutes=options.minutes)
    rows = [
        {
            "since": entry.since,
            "what": entry.what,
            "sent": format_bytes(entry.size_bytes),
            "requests": entry.requests,
            "held back": entry.refused,
            "from": f"{entry.rig} in {entry.from_zone}",
            "to": entry.to_zone,
            "rule": entry.rule,
        }
        for entry in found
    ]
    output.result(found, table(rows, AUDIT_COLUMNS))
