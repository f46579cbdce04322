"""How a job's metrics went: from what its newest attempt left or, while it runs, from what its rig told last."""

from __future__ import annotations

import msgspec

from isthmus import documents
from isthmus.errors import InvalidInput, MissingFile
from isthmus.model import layout
from isthmus.model.output import CURVES_FILE, Curves
from isthmus.ports import BlobStore, Records
from isthmus.workflows.attempts import newest_attempt


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The curves of an attempt. ``told_at`` (UTC): while it runs, as of then; empty: to its end."""

    job_key: str
    attempt: int
    told_at: str
    curves: Curves


def read_curves(job_key: str, records: Records, blobs: BlobStore, names: tuple[str, ...] = ()) -> Told:
    """Return the curves of a job's newest attempt, or those of ``names`` alone.

    Raises:
        MissingFile: no attempt has printed a metric yet.
        InvalidInput: none of its metrics has such a name.
    """
    attempt = newest_attempt(job_key, records)
    if attempt is None:
        raise MissingFile(f"job {job_key} has not been trained yet: see `isthmus pipeline show {job_key}`")
    told = _left(job_key, attempt.fencing, blobs) or _news(job_key, attempt.fencing, records)
    if told is None or not told.curves.curves:
        raise MissingFile(
            f"attempt {attempt.fencing} of job {job_key} ({attempt.state.value}) has told no curves: a script prints "
            "metrics as name=value, and they are told every twenty seconds and at its end"
        )
    there = told.curves.curves
    if unknown := [name for name in names if name not in there]:
        raise InvalidInput(
            f"job {job_key} printed no {', '.join(unknown)}; it printed {', '.join(sorted(there))}"
        )
    chosen = {name: curve for name, curve in there.items() if not names or name in names}
    return msgspec.structs.replace(told, curves=Curves(curves=chosen))


def _left(job_key: str, attempt: int, blobs: BlobStore) -> Told | None:
    """What lies in the bucket: none while it runs, or of a rig of an earlier version.

    By the attempt's own place, whatever a rig wrote into the table.
    """
    key = f"{layout.attempt_output(job_key, attempt)}{CURVES_FILE}"
    try:
        raw = blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES)
    except MissingFile:
        return None
    return Told(job_key=job_key, attempt=attempt, told_at="", curves=documents.decode(Curves, raw, key))


def _news(job_key: str, attempt: int, records: Records) -> Told | None:
    item = records.get(layout.job_pk(job_key), layout.CURVES) or {}
    if item.get("fencing") != attempt:
        return None
    curves = documents.convert(Curves, item["metrics"], f"the curves of job {job_key}")
    return Told(job_key=job_key, attempt=attempt, told_at=str(item.get("at", "")), curves=curves)
