"""A rig's waiting list: what its queue delivered and no agent has taken yet (docs/adr/0016).

The list is one partition of the table, ``QUEUE#<rig>``: an item for each attempt that waits, and one for
each team's last turn. Several agents may serve one list: an attempt is claimed on condition that nobody
else has, for as long as taking its lease may last; the claim of an agent that died runs out.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import Conflict, InvalidDocument, Unavailable
from isthmus.model import layout
from isthmus.model.messages import Work
from isthmus.model.units import utc_of
from isthmus.ports import Clock, Item, Records
from isthmus.rig.turns import Waiting, in_turn

CLAIM_SECONDS = 300
"""A claim outlasts the slowest call of an agent that lives: four tries of 65 s and the pauses between them
(``adapters.aws.session.CONFIG``). Should a claim run out all the same, the lease says whose the attempt is."""
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
        waiting, served = self._read()
        return list(in_turn(waiting, served))

    def claim(self) -> Work | None:
        """Claim the attempt whose turn it is; None when nothing waits."""
        waiting, served = self._read()
        free = [entry for entry in waiting if self._is_free(entry)]
        return next((entry.work for entry in in_turn(free, served) if self._claim(entry)), None)

    def note_turn(self, team: str) -> None:
        """A team had its turn. What is dropped costs none."""
        self._records.update(self._pk, layout.turn_sk(team), {"served_at": self._now()})

    def remove(self, work: Work) -> None:
        """Take an attempt off the list: it runs here, or nobody waits for it. One that a later message
        renewed meanwhile stays: somebody waits for that."""
        sk = layout.work_sk(work.job_key, work.fencing)
        # An agent of the version before writes no retries, and knows none.
        for retries in (work.retries, None) if work.retries == 0 else (work.retries,):
            with contextlib.suppress(Conflict):
                self._records.delete(self._pk, sk, expect={"redrives": work.redrives, "retries": retries})
                return

    def _read(self) -> tuple[list[Waiting], dict[str, int]]:
        waiting, served = [], {}
        for item in self._records.query(self._pk):
            if item["sk"].startswith(layout.TURN):
                served[item["sk"].removeprefix(layout.TURN)] = item["served_at"]
                continue
            try:
                waiting.append(documents.convert(Waiting, item, item["sk"]))
            except InvalidDocument:
                # An agent of a newer version wrote it: that one can read it, and takes it.
                continue
        return waiting, served

    def _is_free(self, entry: Waiting) -> bool:
        return entry.claimed_by == self._agent or entry.claimed_until < self._now()

    def _claim(self, entry: Waiting) -> bool:
        """Claim one attempt. ``job_key`` must still be there: an update would make a new item otherwise."""
        now, work = self._now(), entry.work
        values = {"claimed_by": self._agent, "claimed_until": now + CLAIM_SECONDS * 1000}
        own = entry.claimed_by == self._agent
        # A claim of its own is of an agent's earlier life, or of a step that a service's silence broke.
        expect = {"job_key": work.job_key} | ({"claimed_by": self._agent} if own else {})
        below = None if own else {"claimed_until": now}
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
