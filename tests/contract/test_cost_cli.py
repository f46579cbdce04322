"""``isthmus cost`` as it is typed: what was spent, a pipeline item by item, budgets, prices; in a table of DynamoDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus import bootstrap
from isthmus.adapters.aws.session import client
from isthmus.cli.main import main
from isthmus.errors import BudgetExceeded
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.ledger import Reported, Used
from isthmus.model.plan import Plan
from isthmus.ports import Records
from isthmus.workflows import cost_settings, keep_ledger
from tests.contract.formation import Formation, outputs_of

pytestmark = pytest.mark.usefixtures("aws")

KEY, OTHER, THIRD = "a" * 40, "b" * 40, "c" * 40
CODE = BlobRef(key="code.zip", sha256="0" * 64, size_bytes=1)
WHOSE = keep_ledger.Whose(model="digits", team="default")
MANIFEST = Manifest(
    dataset="numbers", files=(DatasetFile(path="a", sha256="0" * 64, size_bytes=1_000_000_000),), job=CODE
)


@pytest.fixture
def records(aws: None) -> Records:
    outputs = outputs_of("shop")
    client("dynamodb").create_table(
        TableName=outputs["Table"],
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    Formation({"shop": []}).install()
    return bootstrap.records(outputs["Table"])


def planned(key: str, records: Records, *, seconds: float = 1800.0, price: float = 2.0) -> Plan:
    """Plan an attempt, this month."""
    records.next_number(f"JOB#{key}", "FENCING")
    plan = Plan(
        job_key=key,
        fencing=1,
        device="lab-1",
        zone="onprem",
        queue_url="q",
        price_per_hour_usd=price,
        expected_seconds=seconds,
        basis="as long as the last ones there",
        max_runtime_seconds=3600,
    )
    now = bootstrap.clock().now()
    return keep_ledger.open_entry(plan, WHOSE, MANIFEST, zone="aws:eu-west-1", now=now, records=records)


def ended(key: str, records: Records, seconds: float) -> None:
    said = Reported(seconds=seconds, fetched_bytes=1_000_000_000, output_bytes=500_000)
    keep_ledger.report_training(key, 1, said, records)
    counted = Used(state_transitions=44, lambda_requests=19, lambda_gb_seconds=16.5)
    keep_ledger.settle(key, counted, now=bootstrap.clock().now(), records=records)


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["cost", *arguments, "--stack", "shop"]) == 0
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(typed(capsys, *arguments, "--json"))


def test_what_was_spent_and_how_good_the_estimates_were(
    records: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(capsys).startswith("nothing was planned in ")
    planned(KEY, records)
    planned(OTHER, records)
    ended(KEY, records, 2000.0)
    text = typed(capsys)
    assert text.splitlines()[0].split() == [
        "NAME",
        "ATTEMPTS",
        "TRAINING",
        "TRAINING_USD",
        "ESTIMATED",
        "COST",
        "SET_ASIDE",
    ]
    assert text.splitlines()[1].split()[:2] == ["digits", "2"]
    assert "estimates were off by 9.2% in the median of 1" in text
    found = told(capsys, "--by", "pipeline")
    assert [line["name"] for line in found["lines"]] == [OTHER, KEY], "what is set aside counts"
    line = found["lines"][1]
    assert line["training_usd"] == pytest.approx(2000 / 3600 * 2)
    assert line["cost_usd"] == pytest.approx(2000 / 3600 * 2 + 0.09 + 0.0014, abs=1e-3)
    assert found["accuracy"]["median_error"] == pytest.approx(0.092, abs=1e-3)
    assert [one["name"] for one in told(capsys, "--by", "device")["lines"]] == ["lab-1"]
    assert len(told(capsys, "--by", "month")["months"]) == 12
    assert main(["cost", "--month", "2026-13", "--stack", "shop"]) == 2


def test_a_pipeline_item_by_item(records: Records, capsys: pytest.CaptureFixture[str]) -> None:
    planned(KEY, records)
    text = typed(capsys, "job", KEY)
    assert "attempt 1 of digits on lab-1, planned " in text
    assert "estimated $1.09: training $1.00, step functions $0.001125, lambda" in text
    assert "transfer $0.09" in text
    assert "30 min 00 s of training: as long as the last ones there; the rest as a pipeline" in text
    assert "not settled; up to $2.09 is set aside for it" in text
    ended(KEY, records, 1000.0)
    assert "cost $0.647" in typed(capsys, "job", KEY)
    assert told(capsys, "job", KEY)[0]["settlement"]["used"]["training_seconds"] == 1000
    assert main(["cost", "job", OTHER, "--stack", "shop"]) == 1
    assert "nobody noted" in capsys.readouterr().err


def test_a_budget_is_set_shown_kept_to_and_removed(
    records: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no budget" in typed(capsys, "budget", "show")
    assert typed(capsys, "budget", "set", "--month", "3").strip() == "$3.00 a month for all"
    typed(capsys, "budget", "set", "--month", "0.5", "--team", "default")
    with pytest.raises(BudgetExceeded, match=r"of \$0\.5 for the team default in "):
        planned(OTHER, records)
    typed(capsys, "budget", "remove", "--team", "default")
    first = planned(KEY, records)
    assert first.max_runtime_seconds == 3600
    with pytest.raises(
        BudgetExceeded, match=r"\$0\.90\d+ are left \(\$2\.09 are taken, \$2\.09 of it set aside"
    ):
        planned(THIRD, records)
    (row,) = told(capsys, "budget", "show")
    assert (row["for"], row["month"]) == ("all", 3)
    assert (row["set_aside"], row["left"]) == (pytest.approx(2.09, abs=0.01), pytest.approx(0.91, abs=0.01))
    assert row["spent"] == pytest.approx(0, abs=1e-9)
    ended(KEY, records, 1800.0)
    assert planned("d" * 40, records).max_runtime_seconds == pytest.approx(3270, abs=3), "what it pays for"
    assert main(["cost", "budget", "set", "--month", "nan", "--stack", "shop"]) == 2


def test_own_prices_from_a_file(records: Records, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = {
        "region": "eu-west-1",
        "currency": "USD",
        "as_of": "2026-12",
        "prices": {"transfer_out_gb": {"usd": 0.02, "source": "our contract"}},
    }
    file = tmp_path / "prices.json"
    file.write_bytes(msgspec.json.encode(own))
    assert "our contract" in typed(capsys, "prices", "--set", str(file))
    planned(KEY, records)
    assert "transfer $0.02" in typed(capsys, "job", KEY)
    assert "our contract" not in typed(capsys, "prices", "--listed")
    file.write_text('{"region": "r"}')
    assert main(["cost", "prices", "--set", str(file), "--stack", "shop"]) == 2
    assert main(["cost", "prices", "--set", str(tmp_path / "none"), "--stack", "shop"]) == 2


def test_the_stack_may_stand_before_a_verb(records: Records, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--stack", "shop", "budget", "set", "--month", "3", "--model", "digits"]) == 0
    assert "the model digits" in capsys.readouterr().out
    assert cost_settings.read_budgets(records)[0].model == "digits"
