"""What the template costs while nothing happens: every resource priced, and at most five dollars a month."""

from __future__ import annotations

import copy
from typing import Any

import botocore.session
import pytest
from cloudformation import ROOT, Template

from benchmarks.idle_cost import (
    ENDPOINT_INSTANCE,
    Resources,
    Unpriced,
    at_rest,
    priced,
    resources_of,
    rotations,
)
from isthmus.planning import cost

GOAL_USD = 5.0
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def resources(template: Template) -> Resources:
    return resources_of(template)


def total(resources: Resources) -> float:
    return sum(line.usd for line in priced(resources))


def test_every_resource_is_priced_and_the_sum_is_within_the_goal(resources: Resources) -> None:
    assert len(resources) > 50, "SAM wrote the template out"
    assert total(resources) <= GOAL_USD


def test_it_is_within_the_goal_after_the_keys_rotations_too(resources: Resources) -> None:
    assert rotations(resources) > 0
    assert total(resources) + rotations(resources) <= GOAL_USD


def test_the_readme_states_it(resources: Resources) -> None:
    idle, later = total(resources), total(resources) + rotations(resources)
    assert f"${idle:.2f} a month" in README
    assert f"${later:.2f}" in README


def test_job_cost_states_it_too(resources: Resources) -> None:
    kinds = [entry["Type"] for entry in resources.values()]
    assert kinds.count("AWS::KMS::Key") == cost.KMS_KEYS
    assert kinds.count("AWS::CloudWatch::Alarm") == cost.ALARM_METRICS, "each alarm reads one metric"
    assert cost.cost_of(cost.Usage()).idle_per_month_usd == pytest.approx(total(resources), abs=0.01)


def test_every_rule_has_a_price_a_reason_and_a_source() -> None:
    rules = at_rest()
    assert rules["as_of"] == cost.price_list().as_of, "one date for both lists"
    for kind, rule in rules["types"].items():
        assert rule["price"] is None or rule["price"] in cost.price_list().prices, kind
        assert rule["why"], kind
        assert rule["source"].startswith("https://aws.amazon.com/"), kind


def test_an_endpoint_can_have_the_instance_that_it_is_priced_on() -> None:
    sagemaker = botocore.session.get_session().get_service_model("sagemaker")
    assert ENDPOINT_INSTANCE in sagemaker.shape_for("ProductionVariantInstanceType").enum
    assert f"real-time inference, {ENDPOINT_INSTANCE})" in cost.price_list().prices["endpoint_hour"].source


def test_no_rule_is_for_a_type_that_is_not_there(resources: Resources) -> None:
    assert set(at_rest()["types"]) == {entry["Type"] for entry in resources.values()}


def entry(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


PLANTED = [
    ("AWS::EC2::NatGateway", {}, "Planted is a AWS::EC2::NatGateway"),
    ("AWS::DynamoDB::Table", {"BillingMode": "PROVISIONED"}, "BillingMode 'PROVISIONED'"),
    ("AWS::DynamoDB::Table", {}, "BillingMode None"),
    ("AWS::ApiGateway::Stage", {"CacheClusterEnabled": True}, "CacheClusterEnabled, which costs"),
    ("AWS::Lambda::Alias", {"ProvisionedConcurrencyConfig": {}}, "ProvisionedConcurrencyConfig"),
    ("AWS::Lambda::Function", {"SnapStart": {}}, "SnapStart"),
]


@pytest.mark.parametrize(("kind", "properties", "message"), PLANTED)
def test_what_nobody_priced_is_found(
    resources: Resources, kind: str, properties: dict[str, Any], message: str
) -> None:
    with pytest.raises(Unpriced, match=message):
        priced({**resources, "Planted": entry(kind, **properties)})


def test_a_further_key_and_a_further_alarm_cost_what_they_do(resources: Resources) -> None:
    key = {**resources, "Planted": entry("AWS::KMS::Key")}
    assert total(key) == pytest.approx(total(resources) + 1)
    metrics = [{"MetricStat": {}}, {"MetricStat": {}}, {"Expression": "m1 + m2"}]
    alarm = {**resources, "Planted": entry("AWS::CloudWatch::Alarm", Metrics=metrics)}
    assert total(alarm) == pytest.approx(total(resources) + 0.2), "an expression's two metrics are both paid"


def test_a_template_that_grew_beyond_the_goal_is_found(template: Template) -> None:
    grown = copy.deepcopy(template)
    grown["Resources"] |= {f"Key{number}": entry("AWS::KMS::Key") for number in range(3)}
    assert total(resources_of(grown)) > GOAL_USD
