"""Results of devices come into the bucket, each once, however often it is sent.

An outbox's objects say which of its numbers is due: at first 1, and behind an object whose last number is 40, 41. An
object is named by the number that was due, is created once, and is never written again: that is the commit point. Who
finds it there already, of a try that died or of another at the same time, goes on behind what it holds. So the objects
of an outbox hold each number at most once, in order, and whoever reads them needs to ask nobody else. The mark in the
table only saves the search for the number that is due, and carries what was counted of the objects before it
(``watch_answers``): it is derived from them alone, whoever writes it.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import Conflict, InvalidInput, IsthmusError, PayloadTooLarge, Unavailable
from isthmus.inference.events import to_proxy, to_request
from isthmus.inference.http import HttpResponse, error_response, json_response
from isthmus.model import layout
from isthmus.model.drift import AnswerBaseline
from isthmus.model.results import MAX_BATCH_BYTES, Batch, Confirmed
from isthmus.model.units import format_bytes
from isthmus.ports import BlobStore, Records
from isthmus.workflows.watch_answers import AnswerDrift, Watch, read_watches, watch

TRIES = 5
GZIP = 16 + zlib.MAX_WBITS
LEVEL = 1
"""Of gzip: a function pays for its seconds, and the bucket's bytes are cheap."""


Told = tuple[str, AnswerDrift]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the object, which Athena reads as a row (JSON lines)."""

    device: str
    outbox: str
    sequence: int
    at_ms: int
    model: str
    release: int
    priority: int
    outputs: msgspec.Raw


@dataclass
class _Tally:
    """What the objects before the number ``due`` come to."""

    due: int
    results: int
    watches: dict[str, Watch]

    def add(self, rows: list[Row], baselines: Callable[[str, int], AnswerBaseline | None]) -> list[Told]:
        """Go on behind an object; return the drifts that are known with it."""
        self.due = rows[-1].sequence + 1
        self.results += len(rows)
        return watch(self.watches, rows, baselines)


def answer_results(
    event: Mapping[str, Any],
    *,
    blobs: BlobStore,
    records: Records,
    now: str,
    report: Callable[[str, AnswerDrift], None],
) -> dict[str, Any]:
    """Answer the API's ``POST /results/{device}``: the path says whose results they are, and IAM has said that whoever
    sent them may name itself so.

    The body is a batch as JSON, packed by gzip or not. The answer has what is in the cloud for good, or is a 4xx for a
    batch that will never be, or a 503 for one to send again.
    """
    try:
        raw = unpacked(to_request(event).body)
        device = str((event.get("pathParameters") or {}).get("device") or "")
        last = ingest_results(raw, device, blobs=blobs, records=records, now=now, report=report)
    except InvalidInput as error:
        return to_proxy(_refused(error))
    except Unavailable as error:
        return to_proxy(error_response(503, str(error)))
    return to_proxy(json_response(Confirmed(last)))


def unpacked(body: bytes) -> bytes:
    """Return what a body holds, at most ``2 * MAX_BATCH_BYTES`` of it, however small it was packed.

    Raises:
        PayloadTooLarge: it holds more.
        InvalidInput: it begins like gzip, and is none.
    """
    if not body.startswith(b"\x1f\x8b"):
        return body
    packed = zlib.decompressobj(GZIP)
    try:
        raw = packed.decompress(body, 2 * MAX_BATCH_BYTES + 1)
    except zlib.error as error:
        raise InvalidInput(f"the batch must be gzip, as it begins: {error}") from error
    if len(raw) > 2 * MAX_BATCH_BYTES:
        raise PayloadTooLarge(f"a batch must have at most {format_bytes(2 * MAX_BATCH_BYTES)} unpacked")
    if not packed.eof:
        raise InvalidInput("the batch ends in the middle: send it again, whole")
    return raw


def _refused(error: IsthmusError) -> HttpResponse:
    return error_response(getattr(error, "status", 400), str(error))


def ingest_results(
    raw: bytes,
    device: str,
    *,
    blobs: BlobStore,
    records: Records,
    now: str = "",
    report: Callable[[str, AnswerDrift], None] = lambda model, drift: None,
) -> int:
    """Take a batch of ``device``, as whoever authenticated it names it; return the highest number that is in for good.
    ``report`` hears of each model's drift that this batch completed.

    Raises:
        InvalidDocument: not a batch, or larger than ``MAX_BATCH_BYTES``.
        InvalidInput: it is another device's, or its numbers do not rise.
        Unavailable: other calls took each mark that this one found.
    """
    batch = documents.decode(Batch, raw, "the batch", max_bytes=2 * MAX_BATCH_BYTES)
    _check(batch, device)
    tally = _tally(batch, records)
    baselines = functools.cache(functools.partial(_baseline, records))
    for _ in range(TRIES):
        rows = _rows(batch, tally.due)
        if not rows:
            return tally.due - 1
        name = layout.results_object(device, batch.outbox, tally.due)
        if not blobs.create(name, _lines(rows)):
            rows = _read(blobs, name)
        told = tally.add(rows, baselines)
        if _mark(batch, tally, now, records):
            for model, drift in told:
                report(model, drift)
    if tally.due > batch.last:
        return tally.due - 1
    raise Unavailable(f"other batches of {device} came at the same time, {TRIES} times; send it again")


def _check(batch: Batch, device: str) -> None:
    if batch.device != device:
        raise InvalidInput(f"needs a batch of {device}, who sent it, and this is one of {batch.device}")
    numbers = [entry.sequence for entry in batch.results]
    if any(after <= before for before, after in itertools.pairwise(numbers)):
        raise InvalidInput("the numbers of a batch must rise")


def _tally(batch: Batch, records: Records) -> _Tally:
    mark = records.get(layout.RESULTS, layout.results_sk(batch.device, batch.outbox))
    if mark is None:
        return _Tally(1, 0, {})
    return _Tally(int(mark["due"]), int(mark["results"]), read_watches(mark["models"]))


def _baseline(records: Records, model: str, release: int) -> AnswerBaseline | None:
    """Return how a release answered where it was judged; None for one that the stack does not know."""
    found = (records.get(layout.model_pk(model), layout.release_sk(release)) or {}).get("answers")
    return msgspec.convert(found, AnswerBaseline) if found else None


def _rows(batch: Batch, due: int) -> list[Row]:
    return [
        Row(
            device=batch.device, outbox=batch.outbox, sequence=entry.sequence, at_ms=entry.result.at_ms,
            model=entry.result.model, release=entry.result.release, priority=entry.result.priority,
            outputs=_one_line(entry.result.outputs),
        )
        for entry in batch.results
        if entry.sequence >= due
    ]  # fmt: skip


def _one_line(outputs: msgspec.Raw) -> msgspec.Raw:
    """Return the same JSON without what a line of an object must not have: line breaks between its tokens."""
    return msgspec.Raw(msgspec.json.encode(msgspec.json.decode(outputs)))


def _read(blobs: BlobStore, name: str) -> list[Row]:
    """Return what an object holds."""
    lines = gzip.decompress(blobs.get(name, max_bytes=2 * MAX_BATCH_BYTES)).splitlines()
    return [documents.decode(Row, line, name) for line in lines]


def _lines(rows: list[Row]) -> bytes:
    return gzip.compress(b"".join(msgspec.json.encode(row) + b"\n" for row in rows), LEVEL, mtime=0)


def _mark(batch: Batch, tally: _Tally, now: str, records: Records) -> bool:
    """Say how far the objects go; return whether nobody had said so before."""
    values = {
        "device": batch.device,
        "outbox": batch.outbox,
        "due": tally.due,
        "dropped": batch.dropped,
        "results": tally.results,
        "models": msgspec.to_builtins(tally.watches),
        "seen_at": now,
    }
    sk = layout.results_sk(batch.device, batch.outbox)
    try:
        records.update(layout.RESULTS, sk, values, below={"due": tally.due})
    except Conflict:
        return False  # another call is as far, or further
    return True
