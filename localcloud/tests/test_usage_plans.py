"""API keys and usage plans of REST APIs: whose requests are taken, and how many."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import Cloud

from isthmus_localcloud.usage_plans import period

TOO_MANY = (429, {"message": "Too Many Requests"})
USED_UP = (429, {"message": "Limit Exceeded"})
FORBIDDEN = (403, {"message": "Forbidden"})
FINE = (200, {"fine": True})
SLOW = 0.001
"""Requests a second: nothing comes back into a bucket while a test runs."""


@dataclass(frozen=True)
class Api:
    """One that answers by itself, and whose requests need a key."""

    gateway: Any
    id: str
    url: str

    def plan(self, name: str, **limits: Any) -> str:
        stages = [{"apiId": self.id, "stage": "t"}]
        return str(self.gateway.create_usage_plan(name=name, apiStages=stages, **limits)["id"])

    def key(self, name: str, plan: str | None, *, enabled: bool = True) -> tuple[str, str]:
        """The id and the value of a new key."""
        made = self.gateway.create_api_key(name=name, enabled=enabled)
        if plan:
            self.gateway.create_usage_plan_key(usagePlanId=plan, keyId=made["id"], keyType="API_KEY")
        return made["id"], made["value"]

    def ask(self, key: str | None, path: str = "/keyed") -> tuple[int, Any]:
        headers = {} if key is None else {"x-api-key": key}
        request = urllib.request.Request(f"{self.url}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def api(cloud: Cloud) -> Api:
    """As SAM describes one with ``ApiKeyRequired``; /open needs no key."""
    integration = {
        "type": "mock",
        "requestTemplates": {"application/json": '{"statusCode": 200}'},
        "responses": {
            "default": {"statusCode": "200", "responseTemplates": {"application/json": '{"fine":true}'}}
        },
    }
    method = {"x-amazon-apigateway-integration": integration, "responses": {"200": {"description": "fine"}}}
    described = {
        "swagger": "2.0",
        "info": {"title": "keys", "version": "1"},
        "paths": {"/keyed": {"get": {**method, "security": [{"api_key": []}]}}, "/open": {"get": method}},
        "securityDefinitions": {"api_key": {"type": "apiKey", "name": "x-api-key", "in": "header"}},
    }
    gateway = cloud.client("apigateway")
    made = gateway.import_rest_api(body=json.dumps(described).encode())["id"]
    gateway.create_deployment(restApiId=made, stageName="t")
    return Api(gateway, made, f"{cloud.url}/_aws/execute-api/{made}/t")


def test_a_key_of_a_plan_of_the_stage_is_taken_and_no_other(api: Api) -> None:
    _, right = api.key("right", api.plan("open"))
    _, elsewhere = api.key("elsewhere", api.gateway.create_usage_plan(name="elsewhere")["id"])
    _, unplanned = api.key("unplanned", None)
    _, disabled = api.key("disabled", api.plan("disabled"), enabled=False)
    assert api.ask(right) == FINE
    for wrong in (None, "", "x" * 40, right.upper(), elsewhere, unplanned, disabled):
        assert api.ask(wrong) == FORBIDDEN, wrong
    assert api.ask(None, "/open") == FINE


def test_each_key_has_its_burst_and_is_told_when_it_is_used(api: Api) -> None:
    plan = api.plan("burst", throttle={"rateLimit": SLOW, "burstLimit": 3})
    (_, one), (_, other) = api.key("one", plan), api.key("other", plan)
    assert [api.ask(one) for _ in range(5)] == [FINE] * 3 + [TOO_MANY] * 2
    assert api.ask(other) == FINE
    assert api.ask(one, "/open") == FINE, "what needs no key is not metered"


def test_at_its_rate_a_key_may_go_on(api: Api) -> None:
    """A token comes each millisecond, and a request takes longer."""
    _, key = api.key("steady", api.plan("steady", throttle={"rateLimit": 1000, "burstLimit": 1}))
    assert [api.ask(key) for _ in range(10)] == [FINE] * 10


def test_a_changed_plan_counts_from_the_next_request_on(api: Api) -> None:
    plan = api.plan("changed", throttle={"rateLimit": SLOW, "burstLimit": 1})
    _, key = api.key("changed", plan)
    assert [api.ask(key) for _ in range(2)] == [FINE, TOO_MANY]
    change = {"op": "replace", "path": "/throttle/burstLimit", "value": "2"}
    api.gateway.update_usage_plan(usagePlanId=plan, patchOperations=[change])
    assert [api.ask(key) for _ in range(3)] == [FINE, FINE, TOO_MANY]


def test_each_key_has_its_quota(api: Api) -> None:
    plan = api.plan("quota", quota={"limit": 2, "period": "MONTH"})
    (_, one), (_, other) = api.key("first", plan), api.key("second", plan)
    assert [api.ask(one) for _ in range(4)] == [FINE] * 2 + [USED_UP] * 2
    assert api.ask(other) == FINE


def test_a_key_that_is_taken_back_is_refused(api: Api) -> None:
    plan = api.plan("taken back")
    key, value = api.key("taken back", plan)
    assert api.ask(value) == FINE
    api.gateway.delete_usage_plan_key(usagePlanId=plan, keyId=key)
    assert api.ask(value) == FORBIDDEN


@pytest.mark.parametrize(
    ("kind", "found"), [("DAY", "2026-11-25"), ("WEEK", "2026-11-22"), ("MONTH", "2026-11")]
)
def test_periods(kind: str, found: str) -> None:
    """A Wednesday; its week began on Sunday."""
    assert period(kind, datetime(2026, 11, 25, 23, 59, tzinfo=UTC)) == found
    assert period("WEEK", datetime(2026, 11, 22, tzinfo=UTC)) == "2026-11-22"
