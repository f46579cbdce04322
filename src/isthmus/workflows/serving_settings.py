"""What the router is told about each model besides where it is in service: which candidate shadows it."""

from __future__ import annotations

import msgspec

from isthmus.errors import Conflict, InvalidInput, Unavailable
from isthmus.model import layout
from isthmus.ports import Clock, Records

LOOK_AGAIN_SECONDS = 30.0


class Shadow(msgspec.Struct, frozen=True):
    """A candidate that gets a copy of a ``share`` (0..1) of a model's requests; nobody sees its answers.

    ``qualifier`` is its version, or its release's alias, of the model's function.
    """

    release: int
    qualifier: str
    share: float


class ServingSettings:
    """Read with one query for all models, at most every half minute: a request seldom waits for it."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records, self._clock = records, clock
        self._shadows: dict[str, Shadow] = {}
        self._read_at = -LOOK_AGAIN_SECONDS

    def shadow(self, model: str) -> Shadow | None:
        """Return the model's shadow, as it was within the last half minute."""
        now = self._clock.now()
        if now - self._read_at >= LOOK_AGAIN_SECONDS:
            self._read_at = now
            try:
                items = self._records.query(layout.SERVING)
            except Unavailable:
                return self._shadows.get(model)  # a table that is away stops no inference
            self._shadows = {
                item["model"]: msgspec.convert(item["shadow"], Shadow) for item in items if item.get("shadow")
            }
        return self._shadows.get(model)


def set_shadow(model: str, shadow: Shadow | None, *, records: Records) -> None:
    """Give a model a shadow, or take it away; routers see it within half a minute.

    Raises:
        InvalidInput: a share that is none.
    """
    if shadow is not None and not 0 < shadow.share <= 1:
        raise InvalidInput(f"the share of requests must be above 0 and at most 1, not {shadow.share}")
    value = None if shadow is None else msgspec.to_builtins(shadow)
    records.update(layout.SERVING, model, {"model": model, "shadow": value})


def drop_shadow(model: str, qualifier: str, *, records: Records) -> bool:
    """Take the shadow away if it still is this one; return whether it was."""
    item = records.get(layout.SERVING, model) or {}
    shadow = item.get("shadow")
    if not shadow or shadow["qualifier"] != qualifier:
        return False
    try:
        records.update(layout.SERVING, model, {"shadow": None}, expect={"shadow": shadow})
    except Conflict:
        return False  # another candidate's by now
    return True
