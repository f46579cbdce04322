"""A rig's waiting list: what its queue delivered and no agent has taken yet (docs/adr/0016).

The list is one partition of the table, ``QUEUE#<rig>``: an item for each attempt that waits, and one for
each team's last turn. Several agents may serve one list: an attempt is claimed on condition that nobody
else has, for as long as taking its lease may last; the claim of an agent that died runs out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import Conflict, InvalidDocument, Unavailable
from isthmus.model import layout
from isthmus.model.messages import Work
from isthmus.model.units import utc_of
from isthmus.ports import Clock, Item, Records
from isthmus.rig.turns import Turn, Waiting, in_turn, next_turn

CLAIM_SECONDS = 30
"""How long the attempt of an agent that died in the act of taking it waits for another: as long as a shipped lease.
An agent whose call takes longer may find that another took the attempt: the lease says whose it is."""
KEPT_SECONDS = 31 * 86_400
"""No job may wait longer (``model.job``: fourteen days, thirty before): what is older waits for nothing."""
TRIES = 5
CHECK = "CHECK"
"""Sort key of an item that never exists."""


class WaitingList:
    """One rig's list, as the agent with this ``agent`` id sees it."""

    def __init__(self, rig: str, agent: str, records: Records, clock: Clock) -> None:
        self._pk = layout.waiting_pk(rig)
        self._agent = agent
        self._records = records
        self._clock = clock
        self._turns: dict[str, Turn] = {}
        self._shares: dict[str, int] = {}

    def check(self) -> None:
        """Ask whether the list can be read and written; nothing of it changes.

        Raises:
            Unavailable, PermissionMissing: it cannot.
        """
        self._records.query(self._pk)
        with contextlib.suppress(Conflict):
            # An attribute that is not there equals nothing: a table that takes writes refuses this one.
            self._records.update(self._pk, CHECK, {"checked": True}, expect={"job_key": CHECK})

    def add(self, work: Work) -> bool:
        """Let an attempt wait; return whether it is new. Delivered again, it keeps its place.

        Raises:
            Unavailable: its item was removed and made anew between our writes, again and again.
        """
        sk = layout.work_sk(work.job_key, work.fencing)
        place = {"pk": self._pk, "sk": sk, "job_key": work.job_key, "arrived_at": utc_of(self._clock.now())}
        for _ in range(TRIES):
            if self._records.create(place | self._values(work)) or self._renew(work):
                return True
            # RigPolicy allows queries of the list, no other read.
            if any(_sending(item) >= work.sending for item in self._records.query(self._pk, prefix=sk)):
                return False
            # Whoever had taken it removed it between our two writes: this message may not be of that taking.
        raise Unavailable(f"{sk} was changed at each of {TRIES} tries to add it; its message comes back")

    def _values(self, work: Work) -> dict[str, Any]:
        """What a later message of the attempt replaces."""
        return {
            "work": msgspec.to_builtins(work),
            "redrives": work.redrives,
            "retries": work.retries,
            "expires_at": int(self._clock.now()) + KEPT_SECONDS,
        }

    def _renew(self, work: Work) -> bool:
        """Take the token of a later redrive, or of a later retry of the same, in the place that the attempt
        has: the older token is void."""
        sk, there = layout.work_sk(work.job_key, work.fencing), {"job_key": work.job_key}
        for expect, below in (
            (there, {"redrives": work.redrives}),
            (there | {"redrives": work.redrives}, {"retries": work.retries}),
        ):
            with contextlib.suppress(Conflict):
                self._records.update(self._pk, sk, self._values(work), expect=expect, below=below)
                return True
        return False

    def in_turn(self) -> list[Waiting]:
        """Return everything that waits, first come first."""
        waiting = self._read()
        return list(in_turn(waiting, self._turns, self._shares))

    def claim(self, fits: Callable[[Work], bool] = lambda work: True) -> Work | None:
        """Claim the attempt whose turn it is, of those that fit; None when none waits."""
        free = [entry for entry in self._read() if self._is_free(entry) and fits(entry.work)]
        order = in_turn(free, self._turns, self._shares)
        return next((entry.work for entry in order if self._claim(entry)), None)

    def note_turn(self, team: str) -> None:
        """A team had its turn, counted from the list as it was last read. What is dropped costs none.

        Agents that take at the same time count from the same list: one turn may then be counted short.
        """
        turn = next_turn(team, self._turns, self._shares, self._now())
        self._turns[team] = turn
        self._records.update(self._pk, layout.turn_sk(team), msgspec.to_builtins(turn))

    @property
    def shares(self) -> dict[str, int]:
        """Each team's share as an administrator set it; a team that is not named has a share of 1."""
        self._read()
        return dict(self._shares)

    def set_shares(self, shares: Mapping[str, int]) -> None:
        """Give teams other shares, each from 1 on; they count from the next turn."""
        self._records.put({"pk": self._pk, "sk": layout.SHARES, "shares": dict(shares)})

    def remove(self, work: Work) -> None:
        """Take an attempt off the list: it runs here, or nobody waits for it. One that a later message
        renewed meanwhile stays: somebody waits for that."""
        sk = layout.work_sk(work.job_key, work.fencing)
        # An agent of the version before writes no retries, and knows none.
        for retries in (work.retries, None) if work.retries == 0 else (work.retries,):
            with contextlib.suppress(Conflict):
                self._records.delete(self._pk, sk, expect={"redrives": work.redrives, "retries": retries})
                return

    def _read(self) -> list[Waiting]:
        """Return what waits, and keep the turns and shares."""
        waiting, now = [], self._now()
        self._turns, self._shares = {}, {}
        for item in self._records.query(self._pk):
            if item["sk"] == layout.SHARES:
                self._shares = {team: max(1, int(share)) for team, share in item["shares"].items()}
                continue
            if item["sk"].startswith(layout.TURN):
                turn = documents.convert(Turn, item, item["sk"])
                # A clock that was ahead must not keep a team waiting until the time has come.
                turn = msgspec.structs.replace(turn, served_at=min(turn.served_at, now))
                self._turns[item["sk"].removeprefix(layout.TURN)] = turn
                continue
            try:
                waiting.append(documents.convert(Waiting, item, item["sk"]))
            except InvalidDocument:
                # An agent of a newer version wrote it: that one can read it, and takes it.
                continue
        return waiting

    def _is_free(self, entry: Waiting) -> bool:
        return entry.claimed_by == self._agent or not self._holds(entry)

    def _holds(self, entry: Waiting) -> bool:
        """Whether a claim still counts. One that would count for longer than any does is of a clock that was
        ahead, its agent's or ours before it was set back; the lease says whose the attempt is."""
        now = self._now()
        return now <= entry.claimed_until <= now + 2 * CLAIM_SECONDS * 1000

    def _claim(self, entry: Waiting) -> bool:
        """Claim one attempt. ``job_key`` must still be there: an update would make a new item otherwise."""
        now, work = self._now(), entry.work
        values = {"claimed_by": self._agent, "claimed_until": now + CLAIM_SECONDS * 1000}
        own = entry.claimed_by == self._agent
        # A claim of its own is of an agent's earlier life, or of a step that a service's silence broke.
        expect = {"job_key": work.job_key} | ({"claimed_by": self._agent} if own else {})
        below = None if own else {"claimed_until": entry.claimed_until + 1}
        try:
            sk = layout.work_sk(work.job_key, work.fencing)
            self._records.update(self._pk, sk, values, expect=expect, below=below)
        except Conflict:
            return False
        return True

    def _now(self) -> int:
        return int(self._clock.now() * 1000)


def _sending(item: Item) -> tuple[int, int]:
    return item.get("redrives", 0), item.get("retries", 0)
