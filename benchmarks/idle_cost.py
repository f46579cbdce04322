"""idle_cost: dollars a month of the deployed template while nothing happens.

Every resource that CloudFormation gets, once SAM has written the template out, is priced by its type
from ``at_rest.json``; unit prices are the dated list in ``src/isthmus/planning/prices.json``. Free
tiers are left out, but for the dashboard: an account's first three cost nothing. The reference is the
smallest always-on alternative, one SageMaker endpoint on the smallest instance that an endpoint can
have, from the same list.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from benchmarks.report import report
from isthmus.planning.cost import price_list

ROOT = Path(__file__).resolve().parent.parent
AT_REST = Path(__file__).with_name("at_rest.json")
HOURS_A_MONTH = 730
ENDPOINT_INSTANCE = "ml.t2.medium"
"""The smallest of ProductionVariantInstanceType (SageMaker API reference), which has no ml.t3. AWS's own
aws-samples/sagemaker-serverless-inference-benchmarking reckons with the same price an hour (cost_constants.py)."""
Resources = dict[str, dict[str, Any]]


class Unpriced(Exception):
    """A resource of which nobody said what it costs at rest."""


class Line(NamedTuple):
    """One resource, and its dollars a month."""

    name: str
    kind: str
    usd: float


def at_rest() -> dict[str, Any]:
    """Return what each type of resource costs at rest, and why."""
    rules: dict[str, Any] = json.loads(AT_REST.read_text())
    return rules


def resources_of(template: dict[str, Any]) -> Resources:
    """Return the resources that SAM makes of a template (YAML's short tags in their long form)."""
    local = copy.deepcopy(template)
    for entry in local["Resources"].values():
        for name in {"CodeUri", "ContentUri", "DefinitionUri"} & set(entry.get("Properties", {})):
            # What `sam package` would write; SAM takes no local path.
            entry["Properties"][name] = "s3://packages/one"
    parameters = {name: entry["Default"] for name, entry in local["Parameters"].items()}
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=price_list().region))
    written: Resources = translator.translate(local, parameters)["Resources"]
    return written


def priced(resources: Resources) -> list[Line]:
    """Price every resource, and the packages that were deployed.

    Raises:
        Unpriced: a type that ``at_rest.json`` lacks, or a property that costs something at rest.
    """
    rules, prices = at_rest(), {name: entry.usd for name, entry in price_list().prices.items()}
    lines = [_priced(name, entry, rules, prices) for name, entry in resources.items()]
    return [*lines, Line("packages", "S3 storage", rules["package_bytes"] / 1e9 * prices["s3_gb_month"])]


def _priced(name: str, entry: dict[str, Any], rules: dict[str, Any], prices: dict[str, float]) -> Line:
    kind, properties = entry["Type"], entry.get("Properties", {})
    rule = rules["types"].get(kind)
    if rule is None:
        raise Unpriced(f"{name} is a {kind}, which {AT_REST.name} does not price; say there what it costs")
    for wanted, value in rule.get("only_with", {}).items():
        if properties.get(wanted) != value:
            raise Unpriced(
                f"{name} has {wanted} {properties.get(wanted)!r}, and is priced for {value!r} alone"
            )
    if costly := sorted(set(rule.get("only_without", [])) & set(properties)):
        raise Unpriced(f"{name} has {costly[0]}, which costs something at rest; price it in {AT_REST.name}")
    if rule["price"] is None or (kind == "AWS::CloudWatch::Dashboard" and rules["free_dashboards"]):
        return Line(name, kind, 0.0)
    return Line(name, kind, _units(kind, properties) * prices[rule["price"]])


def _units(kind: str, properties: dict[str, Any]) -> int:
    """Return how often a resource's price is paid: an alarm's for each metric that it reads."""
    if kind != "AWS::CloudWatch::Alarm":
        return 1
    return sum("MetricStat" in metric for metric in properties.get("Metrics", [])) or 1


def rotations(resources: Resources) -> float:
    """Return by how many dollars a month keys that rotate have become dearer after two years."""
    rotating = sum(
        entry.get("Properties", {}).get("EnableKeyRotation") is True for entry in resources.values()
    )
    return 2 * rotating * price_list().prices["kms_rotation_month"].usd


def main() -> None:
    """Price the template, and print what costs something."""
    sys.path.insert(0, str(ROOT / "tests/template"))
    from cloudformation import load_template

    resources = resources_of(load_template())
    lines = priced(resources)
    for line in sorted(lines, key=lambda line: -line.usd):
        if line.usd:
            print(f"{line.usd:8.4f}  {line.name} ({line.kind})", file=sys.stderr)
    ours, prices = sum(line.usd for line in lines), price_list()
    report(
        "idle_cost",
        ours=ours,
        reference=HOURS_A_MONTH * prices.prices["endpoint_hour"].usd,
        unit="USD/month",
        after_two_key_rotations=round(ours + rotations(resources), 4),
        with_a_fourth_dashboard=round(ours + prices.prices["dashboard_month"].usd, 4),
        resources=len(resources),
        prices=f"{prices.region}, {prices.as_of}",
        reference_is=f"one SageMaker real-time endpoint on {ENDPOINT_INSTANCE}, the smallest, which never sleeps",
    )


if __name__ == "__main__":
    main()
