"""``isthmus edge results`` as it is typed, over results that came through the ingest, against AWS's interfaces."""

from __future__ import annotations

import json

import msgspec
import pytest

from isthmus import bootstrap
from isthmus.adapters.aws.session import client
from isthmus.cli.main import main
from isthmus.model import layout
from isthmus.model.drift import describe_answers
from isthmus.model.results import Answered, Batch, Numbered, Prediction, Result
from isthmus.workflows.ingest_results import ingest_results
from tests.contract.formation import REGION, Formation, outputs_of

pytestmark = pytest.mark.usefixtures("aws")


@pytest.fixture
def stack(aws: None) -> str:
    """A stack whose table knows how release 3 of digits answered where it was judged."""
    outputs = outputs_of("shop")
    client("dynamodb").create_table(
        TableName=outputs["Table"],
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    client("s3").create_bucket(
        Bucket=outputs["Bucket"], CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    Formation({"shop": []}).install()
    judged = msgspec.to_builtins(describe_answers([number % 4 for number in range(400)], [0.95] * 400))
    release = {"pk": layout.model_pk("digits"), "sk": layout.release_sk(3)}
    bootstrap.records(outputs["Table"]).put({**release, "answers": judged})
    return "shop"


def send(device: str, indexes: list[int], *, first: int = 1, dropped: int = 0) -> int:
    results = []
    for number, index in enumerate(indexes, first):
        found = Answered(way="local", latency_ms=1.5, predictions=(Prediction(index=index, confidence=0.95),))
        outputs = msgspec.Raw(msgspec.json.encode(found))
        result = Result(model="digits", release=3, at_ms=number, outputs=outputs)
        results.append(Numbered(sequence=number, result=result))
    batch = Batch(device=device, outbox="c" * 32, results=results, dropped=dropped)
    names = outputs_of("shop")
    return ingest_results(
        msgspec.json.encode(batch),
        device,
        blobs=bootstrap.blobs(names["Bucket"]),
        records=bootstrap.records(names["Table"]),
        now="2026-11-28T01:00:00+00:00",
    )


def test_devices_are_listed_with_what_came_and_how_far_it_drifted(
    stack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["edge", "results", "--stack", stack]) == 0
    assert "no device has sent results yet" in capsys.readouterr().out
    send("gate-1", [number % 4 for number in range(100)])
    send("gate-1", [number % 4 for number in range(260)])  # again, and more
    send("gate-2", [0] * 250, dropped=7)
    assert main(["edge", "results", "digits", "--stack", stack, "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)
    assert (one["device"], one["results"], one["dropped"], one["models"][0]["drifted"]) == (
        "gate-1",
        260,
        0,
        False,
    )
    assert (two["device"], two["results"], two["dropped"], two["models"][0]["drifted"]) == (
        "gate-2",
        250,
        7,
        True,
    )
    assert main(["edge", "results", "--stack", stack]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "0.00" in next(line for line in lines if line.startswith("gate-1"))
    assert "!" in next(line for line in lines if line.startswith("gate-2"))


def test_a_mark_that_another_call_has_moved_further_is_left_alone(stack: str) -> None:
    assert send("gate-1", [0, 1, 2]) == 3
    assert send("gate-1", [0, 1]) == 3, "it is told of what is there beyond its own"
    assert send("gate-1", [3], first=4) == 4
    (mark,) = bootstrap.records(outputs_of(stack)["Table"]).query(layout.RESULTS)
    assert (mark["due"], mark["results"], mark["models"]["digits"]["seen"]) == (5, 4, 4)
