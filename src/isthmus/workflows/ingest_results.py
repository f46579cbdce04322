"""Results of devices come into the bucket, each once, however often it is sent.

An outbox's objects say which of its numbers is due: at first 1, and behind an object whose last number is 40, 41. An
object is named by the number that was due, is created once, and is never written again: that is the commit point. Who
finds it there already, of a try that died or of another at the same time, goes on behind what it holds. So the objects
of an outbox hold each number at most once, in order, and whoever reads them needs to ask nobody else. The mark in the
table only saves the search for the number that is due.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools

import msgspec

from isthmus import documents
from isthmus.errors import Conflict, InvalidInput, Unavailable
from isthmus.model import layout
from isthmus.model.results import MAX_BATCH_BYTES, Batch, Numbered
from isthmus.ports import BlobStore, Records

TRIES = 5
LEVEL = 1
"""Of gzip: a function pays for its seconds, and the bucket's bytes are cheap."""


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


def ingest_results(raw: bytes, device: str, *, blobs: BlobStore, records: Records) -> int:
    """Take a batch of ``device``, as whoever authenticated it names it; return the highest number that is in for good.

    Raises:
        InvalidDocument: not a batch, or larger than ``MAX_BATCH_BYTES``.
        InvalidInput: it is another device's, or its numbers do not rise.
        Unavailable: other calls took each mark that this one found.
    """
    batch = documents.decode(Batch, raw, "the batch", max_bytes=2 * MAX_BATCH_BYTES)
    _check(batch, device)
    due = _due(batch, records)
    for _ in range(TRIES):
        new = [entry for entry in batch.results if entry.sequence >= due]
        if not new:
            return due - 1
        name = layout.results_object(device, batch.outbox, due)
        last = batch.last if blobs.create(name, _lines(batch, new)) else _last(blobs, name)
        due = last + 1
        _mark(batch, due, records)
    if due > batch.last:
        return due - 1
    raise Unavailable(f"other batches of {device} came at the same time, {TRIES} times; send it again")


def _check(batch: Batch, device: str) -> None:
    if batch.device != device:
        raise InvalidInput(f"needs a batch of {device}, who sent it, and this is one of {batch.device}")
    numbers = [entry.sequence for entry in batch.results]
    if any(after <= before for before, after in itertools.pairwise(numbers)):
        raise InvalidInput("the numbers of a batch must rise")


def _due(batch: Batch, records: Records) -> int:
    mark = records.get(layout.results_pk(batch.device), batch.outbox)
    return int(mark["due"]) if mark else 1


def _last(blobs: BlobStore, name: str) -> int:
    """Return the last number that an object holds."""
    lines = gzip.decompress(blobs.get(name, max_bytes=2 * MAX_BATCH_BYTES)).rstrip(b"\n")
    return documents.decode(Row, lines[lines.rfind(b"\n") + 1 :], name).sequence


def _lines(batch: Batch, entries: list[Numbered]) -> bytes:
    rows = (
        Row(
            device=batch.device, outbox=batch.outbox, sequence=entry.sequence, at_ms=entry.result.at_ms,
            model=entry.result.model, release=entry.result.release, priority=entry.result.priority,
            outputs=entry.result.outputs,
        )
        for entry in entries
    )  # fmt: skip
    return gzip.compress(b"".join(msgspec.json.encode(row) + b"\n" for row in rows), LEVEL, mtime=0)


def _mark(batch: Batch, due: int, records: Records) -> None:
    values = {"due": due, "dropped": batch.dropped}
    with contextlib.suppress(Conflict):  # another call is further already
        records.update(layout.results_pk(batch.device), batch.outbox, values, below={"due": due})
