"""What was spent, summed, and how good the estimates were."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isthmus.planning.ledger import Accuracy, Line, accuracy, summed
from isthmus.ports import Records
from isthmus.workflows.keep_ledger import BY_DEADLINE, read_month


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent in ``months`` (UTC, by when each attempt was planned), by a key."""

    months: tuple[str, ...]
    by: str
    lines: tuple[Line, ...]
    accuracy: Accuracy | None


def read_costs(months: Sequence[str], by: str, records: Records) -> Spent:
    """Return what was spent. ``by``: a key of ``planning.ledger.KEYS``."""
    entries = [entry for month in months for entry in read_month(month, records)]
    return Spent(
        months=tuple(months),
        by=by,
        lines=tuple(summed(entries, by)),
        accuracy=accuracy(entries, by_deadline=BY_DEADLINE),
    )
