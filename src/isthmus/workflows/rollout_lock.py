"""One roll-out at a time: of a model in the cloud, and to a target at the edge."""

from __future__ import annotations

from isthmus.errors import Conflict, RolloutBusy
from isthmus.ports import Records

ROLLOUT = "ROLLOUT"
NOTHING = {"function": None, "version": None, "previous": None}
"""What the holder may note for whoever has to undo its work."""


def acquire(pk: str, holder: str, *, records: Records, now: float, seconds: int) -> None:
    """Take the lock of ``pk`` for ``seconds``; who holds it already keeps it.

    It lapses by itself: a roll-out that was stopped from outside cannot give it back.

    Raises:
        RolloutBusy: another roll-out holds it.
    """
    item = records.get(pk, ROLLOUT) or {}
    if item.get("holder") not in (None, holder) and item["until"] > now:
        raise RolloutBusy(f"the roll-out {item['holder']} is under way")
    expected = {"holder": item.get("holder"), "until": item.get("until")}
    try:
        records.update(
            pk, ROLLOUT, {"holder": holder, "until": int(now) + seconds, **NOTHING}, expect=expected
        )
    except Conflict as error:
        raise RolloutBusy("another roll-out began at the same moment") from error


def give_back(pk: str, holder: str, *, records: Records) -> None:
    """Give the lock back, if ``holder`` still has it."""
    try:
        records.update(pk, ROLLOUT, {"holder": None, "until": None}, expect={"holder": holder})
    except Conflict:
        # It lapsed, and another roll-out took it: nothing of ours is left to give back.
        return
