"""What left rigs for a job: what, how much, from where to where, by which rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import MissingFile
from isthmus.model import layout
from isthmus.model.crossing import Crossings, What
from isthmus.ports import Records


class Crossed(msgspec.Struct, frozen=True, kw_only=True):
    """Of one kind, from one zone to another. ``since``: the minute's beginning, or that of the first (UTC)."""

    since: str
    what: What
    requests: int
    size_bytes: int
    refused: int
    from_zone: str
    to_zone: str
    rule: str
    rig: str


def audit_crossings(job_key: str, records: Records, *, minutes: bool = False) -> list[Crossed]:
    """Return what left rigs for a job, as their agents counted it; ``minutes``: of each minute by itself.

    Raises:
        MissingFile: no rig sent anything for it.
    """
    items = records.query(layout.crossings_pk(job_key))
    if not items:
        raise MissingFile(
            f"needs a job that a rig has worked on; nothing left one for {job_key}: see `isthmus pipeline list`"
        )
    entries = [documents.convert(Crossings, item["crossings"], str(item["sk"])) for item in items]
    return _summed(entries, minutes=minutes)


def _summed(entries: Iterable[Crossings], *, minutes: bool) -> list[Crossed]:
    sums: dict[tuple[str, ...], Crossed] = {}
    for entry in sorted(entries, key=lambda entry: entry.since):
        for row in entry.rows:
            key = (
                entry.since if minutes else "",
                row.what,
                row.rule,
                entry.from_zone,
                entry.to_zone,
                entry.rig,
            )
            before = sums.get(key)
            values: dict[str, Any] = {
                name: getattr(row, name) + (getattr(before, name) if before else 0)
                for name in ("requests", "size_bytes", "refused")
            }
            sums[key] = Crossed(
                since=before.since if before else entry.since,
                what=row.what,
                from_zone=entry.from_zone,
                to_zone=entry.to_zone,
                rule=row.rule,
                rig=entry.rig,
                **values,
            )
    return list(sums.values())
