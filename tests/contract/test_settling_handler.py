"""The handler that records how a pipeline ended also settles what it cost, and never fails for that."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from isthmus import bootstrap
from isthmus.adapters.aws.session import client
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import Manifest
from isthmus.model.ledger import Reported
from isthmus.model.plan import Plan
from isthmus.ports import Records
from isthmus.workflows import keep_ledger

ROOT = Path(__file__).parents[2]
KEY = "a" * 40
CODE = BlobRef(key="code.zip", sha256="0" * 64, size_bytes=1)
MISSING = "arn:aws:states:eu-west-1:123456789012:execution:shop-train-and-deploy:none"
Handler = Callable[[dict[str, Any], object], Any]


@pytest.fixture
def records(aws: None) -> Records:
    client("dynamodb").create_table(
        TableName="table",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    client("events").create_event_bus(Name="bus")
    records = bootstrap.records("table")
    records.next_number(f"JOB#{KEY}", "FENCING")
    plan = Plan(
        job_key=KEY, fencing=1, device="lab-1", zone="onprem", queue_url="q", price_per_hour_usd=2.0,
        expected_seconds=60.0, max_runtime_seconds=3600,
    )  # fmt: skip
    whose, manifest = (
        keep_ledger.Whose(model="digits", team="default"),
        Manifest(dataset="n", files=(), job=CODE),
    )
    keep_ledger.open_entry(plan, whose, manifest, zone="aws:eu-west-1", now=0.0, records=records)
    keep_ledger.report_training(KEY, 1, Reported(seconds=90.0, fetched_bytes=0, output_bytes=0), records)
    return records


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Handler:
    for name, value in (("BUCKET", "data"), ("TABLE", "table"), ("EVENT_BUS", "bus")):
        monkeypatch.setenv(f"ISTHMUS_{name}", value)
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "shop")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "isthmus")
    spec = importlib.util.spec_from_file_location("record_app", ROOT / "functions/record_outcome/app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Handler = module.handler
    return found


@pytest.mark.parametrize("execution", [{}, {"execution_arn": MISSING}], ids=["unknown", "gone"])
def test_what_cannot_be_counted_stands_as_it_was_estimated(
    records: Records, handler: Handler, execution: dict[str, str]
) -> None:
    asked = {
        "job_key": KEY,
        "state": "DEPLOYED",
        "execution": KEY,
        "redrives": 0,
        "started_at": "2026-11-27T10:00:00Z",
        **execution,
    }
    context = SimpleNamespace(
        function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn", aws_request_id="1"
    )
    assert handler(asked, context)["state"] == "DEPLOYED"
    entry = keep_ledger.read_entry(KEY, 1, records)
    assert entry is not None
    assert entry.settlement is not None
    assert entry.settlement.as_estimated == ("Step Functions and Lambda",)
    assert entry.settlement.charges.training_usd == pytest.approx(0.05)
    assert entry.settlement.charges.lambda_usd == entry.estimate.charges.lambda_usd
