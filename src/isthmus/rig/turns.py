"""Whose turn it is on a rig: teams take turns, and within a team the first submitted goes first.

Pure: what waits and who was served when are given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from isthmus.model.messages import Work


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that waits for a rig. ``arrived_at``: when the rig learned of it (UTC, ISO 8601).

    Until ``claimed_until`` (milliseconds since the epoch) nobody but the agent ``claimed_by`` takes it.
    """

    work: Work
    arrived_at: str
    claimed_by: str = ""
    claimed_until: int = 0

    @property
    def submitted_at(self) -> str:
        """When it was submitted; a message that does not say counts from its arrival."""
        return self.work.submitted_at or self.arrived_at

    @property
    def place(self) -> tuple[str, str, str, int]:
        """What its team's work is ordered by: the same for every agent, whoever looks."""
        return self.submitted_at, self.work.started_at, self.work.job_key, self.work.fencing


def in_turn(waiting: Iterable[Waiting], served: Mapping[str, int]) -> Iterator[Waiting]:
    """Yield what waits in the order in which one agent would take it.

    ``served`` is when each team had its last turn, in any rising unit. The team whose turn is longest
    ago comes first; of those that never had one, the team whose work was submitted first.
    """
    lines: dict[str, deque[Waiting]] = {}
    for entry in sorted(waiting, key=lambda entry: entry.place):
        lines.setdefault(entry.work.team, deque()).append(entry)
    turns, now = dict(served), max(served.values(), default=0)
    while lines:
        team = min(lines, key=lambda name: (turns.get(name, 0), lines[name][0].place))
        yield lines[team].popleft()
        now += 1
        turns[team] = now
        if not lines[team]:
            del lines[team]
