"""Whose turn it is on a rig: teams take turns by their shares, and each team orders its own work.

Pure: what waits, which turns were taken and what the shares are, is given.

Turns are start-time fair queuing (Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996) with an
attempt as the unit: a team's next turn starts where its last one finished, or at the time of the list if that
is later, and finishes ``1 / share`` after. The earliest start is next. While two teams always have work
waiting, the turns that each had over its share differ by at most ``1 / share`` of the one and of the other
(their theorem 1), however many others there are. A team that was away has nothing saved up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from isthmus.model.messages import Work


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A team's last turn: when it was, in any rising unit, and what of the list's time it took.

    A turn that an agent of the version before noted has no times, and counts as taken at the beginning.
    """

    served_at: int = 0
    start: float = 0.0
    finish: float = 0.0


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
    def place(self) -> tuple[int, str, str, str, int]:
        """What its team's work is ordered by: the same for every agent, whoever looks.

        The higher priority goes first, and of one priority what was submitted first.
        """
        return (
            -self.work.priority,
            self.submitted_at,
            self.work.started_at,
            self.work.job_key,
            self.work.fencing,
        )


def next_turn(team: str, turns: Mapping[str, Turn], shares: Mapping[str, int], served_at: int) -> Turn:
    """Return the turn that a team would have now. A team without a share has one of 1."""
    now = max((turn.start for turn in turns.values()), default=0.0)
    start = max(now, turns[team].finish) if team in turns else now
    return Turn(served_at=served_at, start=start, finish=start + 1 / shares.get(team, 1))


def in_turn(
    waiting: Iterable[Waiting], turns: Mapping[str, Turn], shares: Mapping[str, int] | None = None
) -> Iterator[Waiting]:
    """Yield what waits in the order in which one agent would take it.

    Of teams whose turns would start together, the one whose last turn is longest ago comes first; of those
    that never had one, the team whose work was submitted first. Priorities do not count between teams.
    """
    lines: dict[str, deque[Waiting]] = {}
    for entry in sorted(waiting, key=lambda entry: entry.place):
        lines.setdefault(entry.work.team, deque()).append(entry)
    taken, given = dict(turns), shares or {}
    clock = max((turn.served_at for turn in turns.values()), default=0)

    def rank(team: str) -> tuple[float, int, tuple[str, str, str, int]]:
        last = taken.get(team, Turn())
        return next_turn(team, taken, given, 0).start, last.served_at, lines[team][0].place[1:]

    while lines:
        team = min(lines, key=rank)
        yield lines[team].popleft()
        clock += 1
        taken[team] = next_turn(team, taken, given, clock)
        if not lines[team]:
            del lines[team]
