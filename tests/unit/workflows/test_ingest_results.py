"""The cloud's side of results: through the API, once each, and counted against what the model answered where it was
judged."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import Unavailable
from isthmus.model import layout
from isthmus.model.drift import MAX_CLASSES, describe_answers, stability_index
from isthmus.model.results import MAX_BATCH_BYTES, Answered, Batch, Numbered, Prediction, Result
from isthmus.ports import Item
from isthmus.workflows.ingest_results import answer_results, ingest_results
from isthmus.workflows.show_results import show_results
from isthmus.workflows.watch_answers import AnswerDrift, window_of

OUTBOX = "a" * 32
JUDGED = describe_answers([number % 4 for number in range(400)], [0.95] * 400)


class Cloud:
    """Bucket and table, and what was reported of drift."""

    def __init__(self, folder: Path) -> None:
        self.blobs, self.records = DirectoryBlobStore(folder), MemoryRecords()
        self.told: list[tuple[str, AnswerDrift]] = []
        item: Item = {"answers": msgspec.to_builtins(JUDGED), "bundle": "b"}
        self.records.put({"pk": layout.model_pk("digits"), "sk": layout.release_sk(3), **item})

    def ingest(self, batch: Batch, now: str = "2026-11-28T01:00:00Z") -> int:
        raw = msgspec.json.encode(batch)
        return ingest_results(
            raw, batch.device, blobs=self.blobs, records=self.records, now=now, report=self.report
        )

    def report(self, model: str, drift: AnswerDrift) -> None:
        self.told.append((model, drift))

    def answer(self, device: str, body: bytes) -> tuple[int, Any]:
        event = {
            "httpMethod": "POST",
            "path": f"/results/{device}",
            "pathParameters": {"device": device},
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }
        told = answer_results(event, blobs=self.blobs, records=self.records, now="now", report=self.report)
        return told["statusCode"], json.loads(told["body"])


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path)


def batch(
    indexes: list[int], *, first: int = 1, confidence: float | None = 0.95, release: int = 3, **changes: Any
) -> Batch:
    def result(number: int, index: int) -> Result:
        answered = Answered(
            way="local", latency_ms=1, predictions=(Prediction(index=index, confidence=confidence),)
        )
        outputs = msgspec.Raw(msgspec.json.encode(answered))
        return Result(model="digits", release=release, at_ms=number, outputs=outputs)

    results = [
        Numbered(sequence=number, result=result(number, index)) for number, index in enumerate(indexes, first)
    ]
    return Batch(**{"device": "gate-1", "outbox": OUTBOX, "results": results, **changes})


def test_a_batch_that_the_api_hands_over_is_confirmed(cloud: Cloud) -> None:
    raw = msgspec.json.encode(batch([1, 2, 3]))
    assert cloud.answer("gate-1", gzip.compress(raw)) == (200, {"last": 3})
    assert cloud.answer("gate-1", raw) == (200, {"last": 3})
    assert len(list(cloud.blobs.keys("results/"))) == 1


def test_the_path_says_whose_results_may_come(cloud: Cloud) -> None:
    status, told = cloud.answer("gate-2", msgspec.json.encode(batch([1])))
    assert (status, told["error"]) == (
        400,
        "needs a batch of gate-2, who sent it, and this is one of gate-1",
    )
    assert list(cloud.blobs.keys("results/")) == []


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{}", 400, "the batch cannot be used"),
        (gzip.compress(bytes(1 << 26)), 413, "at most 8.0 MiB unpacked"),
        (gzip.compress(b"x" * 1000)[:20], 400, "ends in the middle"),
        (b"\x1f\x8bnothing of the kind", 400, "must be gzip"),
        (b'{"x":' * 100_000, 400, "nested too deep"),
        (b" " * (2 * MAX_BATCH_BYTES + 1), 400, "at most 8.0 MiB is read"),
    ],
    ids=("empty", "bomb", "torn", "not-gzip", "deep", "large"),
)
def test_what_is_no_batch_is_refused(cloud: Cloud, body: bytes, status: int, said: str) -> None:
    found, told = cloud.answer("gate-1", body)
    assert (found, said in told["error"]) == (status, True), told


def test_a_table_that_is_away_is_a_503(cloud: Cloud) -> None:
    class Away(MemoryRecords):
        def get(self, pk: str, sk: str) -> Item | None:
            raise Unavailable("DynamoDB did not answer")

    cloud.records = Away()
    assert cloud.answer("gate-1", msgspec.json.encode(batch([1]))) == (
        503,
        {"error": "DynamoDB did not answer"},
    )


def test_answers_as_where_it_was_judged_are_no_drift(cloud: Cloud) -> None:
    draw = random.Random(4)
    cloud.ingest(batch([draw.randrange(4) for _ in range(500)]))
    assert [model for model, _ in cloud.told] == ["digits", "digits"]
    assert all(drift.classes < 0.1 and not drift.is_large for _, drift in cloud.told)


@pytest.mark.parametrize(
    ("index", "confidence", "large"),
    [(None, 0.95, False), (0, 0.95, True), (99, 0.95, True), (None, 0.35, True), (None, None, False)],
)
def test_other_classes_and_other_confidences_are_drift(
    cloud: Cloud, index: int | None, confidence: float | None, large: bool
) -> None:
    indexes = [number % 4 if index is None else index for number in range(250)]
    cloud.ingest(batch(indexes, confidence=confidence))
    ((_, drift),) = cloud.told
    assert drift.is_large is large
    assert (drift.confidence is None) is (confidence is None)
    (device,) = show_results(cloud.records)
    assert (device.models[0].drift, device.models[0].drifted) == (drift, large)


def test_what_is_sent_again_is_counted_once(cloud: Cloud) -> None:
    cloud.ingest(batch([0] * 200))
    cloud.ingest(batch([0] * 240))
    cloud.ingest(batch([0] * 240))
    assert cloud.told == []
    cloud.ingest(batch([0] * 20, first=241))
    ((_, drift),) = cloud.told
    assert (drift.samples, drift.at_ms) == (250, 250)
    (device,) = show_results(cloud.records)
    assert (device.results, device.models[0].answers) == (260, 260)


def test_what_a_try_that_died_left_uncounted_is_counted_from_the_bucket(cloud: Cloud) -> None:
    """Its object was written, and its mark was not."""
    cloud.ingest(batch([0] * 100))
    before = cloud.records.get(layout.RESULTS, layout.results_sk("gate-1", OUTBOX))
    cloud.ingest(batch([0] * 100, first=101))
    assert before is not None
    cloud.records.put(before)
    cloud.ingest(batch([1] * 50, first=201))
    ((_, drift),) = cloud.told
    assert drift.samples == 250
    (device,) = show_results(cloud.records)
    assert (device.results, device.models[0].answers) == (250, 250)


def until_taken(cloud: Cloud, found: Batch) -> None:
    """Send it as a device does: a call goes past a few objects that the mark does not know, the next one further."""
    for _ in range(5):
        with contextlib.suppress(Unavailable):
            assert cloud.ingest(found) >= found.last
            return
    raise AssertionError("it was never taken")


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40), st.integers(0, 8)), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_counts_are_those_of_the_objects_whichever_marks_were_lost(
    tmp_path_factory: pytest.TempPathFactory, tries: list[tuple[int, int, int]]
) -> None:
    """Each try sends from somewhere that arrived already on, and finds the mark as it was some tries before."""
    cloud, sent = Cloud(tmp_path_factory.mktemp("cloud")), 0
    sk = layout.results_sk("gate-1", OUTBOX)
    marks: list[Item] = []
    for back, more, lost in tries:
        first = max(1, sent + 1 - back)
        until_taken(cloud, batch([number % 4 for number in range(sent + more + 1 - first)], first=first))
        sent += more
        mark = cloud.records.get(layout.RESULTS, sk)
        assert mark is not None
        marks.append(mark)
        cloud.records.put(marks[max(0, len(marks) - 1 - lost)])
    until_taken(cloud, batch([0], first=sent + 1))
    lines = b"".join(
        gzip.decompress(cloud.blobs.get(name, max_bytes=1 << 24))
        for name in sorted(info.key for info in cloud.blobs.keys("results/"))
    ).splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, sent + 2))
    (device,) = show_results(cloud.records)
    assert (device.results, device.models[0].answers) == (sent + 1, sent + 1)


def test_a_release_that_was_not_judged_here_is_counted_and_no_more(cloud: Cloud) -> None:
    cloud.ingest(batch([0] * 300, release=9))
    assert cloud.told == []
    (device,) = show_results(cloud.records)
    assert (device.models[0].release, device.models[0].answers, device.models[0].drift) == (9, 300, None)


def test_another_release_begins_anew_an_earlier_one_too(cloud: Cloud) -> None:
    cloud.ingest(batch([0] * 100, release=2))
    cloud.ingest(batch([0] * 10, first=101, release=3))
    cloud.ingest(batch([0] * 10, first=111, release=2))
    (device,) = show_results(cloud.records)
    assert (device.results, device.models[0].release, device.models[0].answers) == (120, 2, 10)


def test_results_of_another_form_are_kept_and_not_counted(cloud: Cloud) -> None:
    other = Result(model="digits", release=3, at_ms=0, outputs=msgspec.Raw(b'["free form"]'))
    found = Batch(device="gate-1", outbox=OUTBOX, results=[Numbered(sequence=1, result=other)])
    assert cloud.ingest(found) == 1
    (device,) = show_results(cloud.records)
    assert (device.results, device.models[0].answers) == (1, 0)


def test_devices_are_shown_by_name_with_all_their_outboxes(cloud: Cloud) -> None:
    cloud.ingest(batch([0, 1], device="gate-2", dropped=4), now="2026-11-28T02:00:00Z")
    cloud.ingest(batch([0, 1], dropped=1), now="2026-11-28T01:00:00Z")
    cloud.ingest(batch([0], outbox="b" * 32, dropped=2), now="2026-11-28T03:00:00Z")
    one, two = show_results(cloud.records, "digits")
    assert (one.device, one.last_seen, one.results, one.dropped, one.outboxes) == (
        "gate-1",
        "2026-11-28T03:00:00Z",
        3,
        3,
        2,
    )
    assert (two.device, two.dropped) == ("gate-2", 4)
    assert show_results(cloud.records, "other") == []


def test_the_index_is_siddiqis() -> None:
    assert stability_index([0.5, 0.5], [0.5, 0.5]) == 0
    assert stability_index([0.6, 0.4], [0.5, 0.5]) == pytest.approx(0.0405, abs=1e-4)
    assert stability_index([1.0, 0.0], [0.5, 0.5]) > 1


def test_a_baseline_of_many_classes_stays_small() -> None:
    draw = random.Random(1)
    found = describe_answers([draw.randrange(1000) for _ in range(512)], [])
    assert found is not None
    assert len(found.shares) == MAX_CLASSES + 1 == len(found.classes) + 1
    assert sum(found.shares) == pytest.approx(1, abs=1e-4)
    assert found.confidence == ()
    assert window_of(found) == 800
    assert describe_answers([], []) is None


def test_what_a_device_sends_stays_one_line_and_counts_whatever_it_says(cloud: Cloud) -> None:
    """Line breaks between tokens are JSON; a row of somebody else could follow one."""
    sent = batch([1, 2])
    forged = b'{"way":"local","latency_ms":1,\n"predictions":[{"index":1,"confidence":1e308}]}'
    told = msgspec.structs.replace(sent.results[0].result, outputs=msgspec.Raw(forged))
    first = msgspec.structs.replace(sent.results[0], result=told)
    sent = msgspec.structs.replace(sent, results=[first, sent.results[1]])
    assert cloud.ingest(sent) == 2
    (name,) = [entry.key for entry in cloud.blobs.keys("results/")]
    lines = gzip.decompress(cloud.blobs.get(name, max_bytes=1 << 20)).splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == [1, 2]
    cloud.records.delete(layout.RESULTS, layout.results_sk("gate-1", OUTBOX))
    assert cloud.ingest(sent) == 2, "and is read back when the mark is lost"
