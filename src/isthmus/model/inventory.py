"""What a stack has in an account: the answer of every search for it."""

from __future__ import annotations

import msgspec


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """One thing, or one container of many alike, such as a bucket's objects below a prefix.

    ``id`` is what the service calls it, ``name`` what a person does. ``kept_by``: the nouns of
    ``isthmus destroy --keep`` that each spare it. ``price``: name of the list price that it costs a
    month while it is kept, per GB of ``size_bytes`` or, for a key, per piece. ``blocked``: why it
    cannot be removed now, and what to do about it.
    """

    id: str
    name: str
    items: int = 1
    size_bytes: int = 0
    kept_by: tuple[str, ...] = ()
    price: str = ""
    note: str = ""
    blocked: str = ""


class Group(msgspec.Struct, frozen=True):
    """Things of one kind."""

    kind: str
    things: tuple[Thing, ...]

    @property
    def items(self) -> int:
        """How many there are, counting what containers hold."""
        return sum(thing.items for thing in self.things)

    @property
    def size_bytes(self) -> int:
        """Bytes of all of them together, as far as the service tells."""
        return sum(thing.size_bytes for thing in self.things)
