"""``Belongings`` in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from isthmus.model.inventory import Thing


class MemoryBelongings:
    """Things of one kind. ``removed`` keeps the order; ``fails`` holds what breaks the next removal of an id."""

    def __init__(self, kind: str, things: Iterable[Thing] = (), log: list[str] | None = None) -> None:
        self.kind = kind
        self.things = list(things)
        self.removed: list[str] = [] if log is None else log
        self.fails: dict[str, Exception] = {}

    def find(self) -> list[Thing]:
        return list(self.things)

    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        if thing.id in self.fails:
            raise self.fails.pop(thing.id)
        self.things = [entry for entry in self.things if entry.id != thing.id]
        self.removed.append(f"{self.kind} {thing.id}")
