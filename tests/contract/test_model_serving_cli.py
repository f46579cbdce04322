"""``isthmus model shadow``, ``limit`` and ``list`` as they are typed, against AWS's interfaces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from isthmus.adapters.aws.functions import LambdaFunctions
from isthmus.adapters.aws.records import DynamoRecords
from isthmus.adapters.aws.session import client
from isthmus.cli.main import main
from isthmus.model import layout
from isthmus.ports import Alias, FunctionCode
from isthmus.workflows.serving_settings import ServingSettings, Shadow
from isthmus.workflows.shift_traffic import commit_champion
from tests.contract.formation import Formation, outputs_of

pytestmark = pytest.mark.usefixtures("aws")

FUNCTION = "shop-model-digits"


class Clock:
    def now(self) -> float:
        return 1000.0

    def sleep(self, seconds: float) -> None:
        return


@pytest.fixture
def records(aws: None, served_zip: str) -> DynamoRecords:
    """A stack with a model whose releases 1 to 3 were proven; 3 is in service."""
    Formation(stacks={"shop": []}).install()
    table = outputs_of("shop")["Table"]
    client("dynamodb").create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
    )
    records, functions = DynamoRecords(table), LambdaFunctions("data")
    role = client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    settings = {"Runtime": "python3.13", "Handler": "app.handler", "Role": role}
    for release in (1, 2, 3):
        code = FunctionCode(served_zip, str(release), (), {**settings, "MemorySize": 512 + release}, "shop")
        version = functions.stage(FUNCTION, code, (), f"m{release}")
        functions.name_release(FUNCTION, release, version)
    functions.point(FUNCTION, Alias("3"))
    commit_champion("digits", "b" * 64, 3, "k", "3", records=records, now="2026-11-27")
    return records


def isthmus(*arguments: str) -> int:
    return main([*arguments, "--stack", "shop", "--json"])


def said(capsys: pytest.CaptureFixture[str]) -> object:
    return json.loads(capsys.readouterr().out)


def shadow_of(records: DynamoRecords) -> Shadow | None:
    return ServingSettings(records, Clock()).shadow("digits")


def test_a_shadow_begins_and_ends(records: DynamoRecords, capsys: pytest.CaptureFixture[str]) -> None:
    assert isthmus("model", "shadow", "digits", "--release", "2", "--share", "0.25") == 0
    assert shadow_of(records) == Shadow(2, "release-2", 0.25)
    assert isthmus("model", "shadow", "digits", "--off") == 0
    assert shadow_of(records) is None
    capsys.readouterr()
    assert isthmus("model", "shadow", "digits") == 0
    assert said(capsys) == []


def test_what_cannot_shadow_is_refused_with_what_can(
    records: DynamoRecords, capsys: pytest.CaptureFixture[str]
) -> None:
    for release in ("3", "9"):
        assert isthmus("model", "shadow", "digits", "--release", release) == 2
        assert "there are: 1, 2" in capsys.readouterr().out
    assert isthmus("model", "shadow", "absent", "--release", "1") == 2
    assert isthmus("model", "shadow", "digits", "--release", "2", "--share", "2") == 2
    assert shadow_of(records) is None


def test_comparisons_are_shown(records: DynamoRecords, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"release": 2, "difference": 0.5, "agreement": 1.0, "problem": ""}
    times = {"milliseconds": 8.0, "live_milliseconds": 5.0}
    records.put({"pk": layout.shadow_pk("digits"), "sk": "00000002#r", **values, **times})
    assert isthmus("model", "shadow", "digits") == 0
    (summary,) = said(capsys)
    assert (summary["release"], summary["comparisons"], summary["largest_difference"]) == (2, 1, 0.5)


@pytest.mark.usefixtures("records")
def test_a_limit_is_set_shown_and_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, calls in (((), None), (("--concurrency", "5"), 5), ((), 5), (("--off",), None)):
        assert isthmus("model", "limit", "digits", *arguments) == 0
        assert said(capsys) == {"model": "digits", "concurrency": calls}
    assert isthmus("model", "limit", "digits", "--concurrency", "-1") == 2
    assert isthmus("model", "limit", "absent", "--concurrency", "1") == 2


def test_the_list_says_how_a_model_is_served(
    records: DynamoRecords, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isthmus("model", "list") == 0
    assert said(capsys)[0]["served_by"] == "layer"
    records.put({"pk": layout.model_pk("digits"), "sk": layout.release_sk(3), "serving": {"by": "weights"}})
    assert isthmus("model", "list") == 0
    assert said(capsys)[0]["served_by"] == "weights"


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        (None, "not looked at"),
        ({"verdict": "none", "requests": 4, "errors": 0}, "0 of 4 failed: too few to say"),
        ({"verdict": "healthy", "requests": 940, "errors": 2}, "2 of 940 failed"),
    ],
)
def test_the_list_says_what_real_calls_said_of_a_release(
    records: DynamoRecords, capsys: pytest.CaptureFixture[str], calls: dict[str, Any] | None, told: str
) -> None:
    before = records.get(layout.CHAMPIONS, "digits")
    assert before is not None
    records.put({**before, "calls": calls})
    assert main(["model", "list", "--stack", "shop"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(told)
