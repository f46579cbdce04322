"""A part of a script's network that is computed elsewhere, one call at a time: what the one who computes must offer,
and the one who asks.

This code runs inside a training environment. A part knows the parameters and statistics that it was last given; they
are the script's, whose optimizer changes them.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from isthmus.errors import InvalidInput, InvalidJob, InvalidModel, IsthmusError
from isthmus.frameworks.port import framework as framework_of
from isthmus.frameworks.port import known
from isthmus.frameworks.trainable import Arrays

MOST_KEPT = 64
"""Forward passes that wait for their backward pass; of more the oldest is forgotten."""


@dataclass(frozen=True)
class Opening:
    """A part as it travels. ``network``: as the framework writes one, without code of a script; ``described``: JSON
    values that its framework needs besides."""

    framework: str
    network: bytes
    described: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        found = hashlib.sha256(json.dumps([self.framework, dict(self.described)], sort_keys=True).encode())
        found.update(self.network)
        return found.hexdigest()


class Part(Protocol):
    """Who computes."""

    def forward(
        self, arrays: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> tuple[dict[str, Any], Any]:
        """Return the heads, statistics if they are others now, and what ``backward`` takes (None if not ``kept``).

        ``arrays``: inputs, tensors of other parts, masks, and those parameters and statistics that are others than
        before. ``wanted``: of what gradients will be asked.

        Raises:
            InvalidInput: an array is missing, or the part cannot be computed with these.
        """

    def backward(self, kept: Any, gradients: Arrays) -> dict[str, Any]:
        """Take gradients of heads; return those of what was wanted, zeros where there is none, and statistics if they
        are others now.

        Raises:
            InvalidInput: it cannot be computed.
        """


def open_part(opening: Opening) -> Part:
    """Raises InvalidJob (no such framework) or InvalidModel (its network cannot be read)."""
    if opening.framework not in known():
        raise InvalidJob(f"there are no parts of {opening.framework!r}; there are: {', '.join(known())}")
    framework_of(opening.framework).prepare()
    found: Part = importlib.import_module(f"isthmus.frameworks.{opening.framework}.part").read(opening)
    return found


@dataclass
class KeptCalls:
    """A part, and the forward passes of it that wait for their backward pass, by number."""

    part: Part
    _kept: OrderedDict[int, Any] = field(default_factory=OrderedDict)

    def forward(
        self, call: int, arrays: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> dict[str, Any]:
        """As ``Part.forward``."""
        heads, context = self.part.forward(arrays, kept=kept, training=training, wanted=wanted)
        if kept:
            self._kept[call] = context
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return heads

    def backward(self, call: int, gradients: Arrays) -> dict[str, Any]:
        """As ``Part.backward``.

        Raises:
            InvalidInput: there is no such forward pass any more.
        """
        if call not in self._kept:
            raise InvalidInput(
                f"the forward pass {call} is not kept any more: its backward pass came already, or {MOST_KEPT} others "
                "came in between, or the worker was started again; begin the step again"
            )
        return self.part.backward(self._kept.pop(call), gradients)


@dataclass(frozen=True)
class Answered:
    """Arrays, and the seconds that they took where they were computed."""

    arrays: dict[str, Any]
    seconds: float


Pending = Callable[[], Answered]
"""Waits for the answer and returns it; to be called once."""


class Place(Protocol):
    """Where parts are computed. A question must be collected before the next is asked."""

    @property
    def name(self) -> str: ...

    @property
    def meeting(self) -> int:
        """Counts the connections: what was told over an earlier one is forgotten there."""

    def connect(self) -> None:
        """Be connected.

        Raises:
            Unavailable: nobody is there.
        """

    def open(self, part: str, opening: Opening) -> None: ...

    def forward(
        self, part: str, call: int, arrays: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> Pending: ...

    def backward(self, part: str, call: int, gradients: Arrays) -> Pending: ...


class AskedPart:
    """A part at a place. Parameters go there once they are others than those that went last."""

    def __init__(self, place: Place, opening: Opening) -> None:
        self.place = place
        self._opening = opening
        self._digest = opening.digest
        self._meeting = -1
        self._known: dict[str, Any] = {}
        self._calls = 0

    def forward(
        self, tensors: Arrays, held: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> tuple[int, Pending]:
        """Return the call's number and what waits for its answer. ``held``: parameters and statistics.

        Raises:
            Unavailable: the place cannot be reached.
        """
        self.place.connect()
        if self.place.meeting != self._meeting:
            self.place.open(self._digest, self._opening)
            self._meeting, self._known = self.place.meeting, {}
        changed = {name: array for name, array in held.items() if not self._is_known(name, array)}
        self._calls += 1
        pending = self.place.forward(
            self._digest,
            self._calls,
            {**tensors, **changed},
            kept=kept,
            training=training,
            wanted=wanted,
        )
        self._known.update(changed)

        def collect() -> Answered:
            try:
                found = pending()
            except IsthmusError:
                self._meeting = -1
                raise
            self._known.update({name: array for name, array in found.arrays.items() if name in held})
            return found

        return self._calls, collect

    def backward(self, call: int, gradients: Arrays, statistics: Sequence[str]) -> Pending:
        """Return what waits for the gradients, and for ``statistics``.

        Raises:
            Unavailable: the place was lost since the forward pass.
        """
        pending = self.place.backward(self._digest, call, gradients)

        def collect() -> Answered:
            found = pending()
            self._known.update({name: found.arrays[name] for name in statistics if name in found.arrays})
            return found

        return collect

    def _is_known(self, name: str, array: Any) -> bool:
        import numpy as np

        known = self._known.get(name)
        if known is None or known.shape != array.shape or known.dtype != array.dtype:
            return False
        # By their bytes: zero and minus zero are equal numbers.
        return np.array_equal(np.ravel(known).view("u1"), np.ravel(array).view("u1"))


def position(names: Sequence[str], cut: object, prefixes: Sequence[str] = ()) -> int:
    """Return the position of the operator that ``cut`` names: by itself, by its layer (what its name begins with, or
    ``prefixes`` of each), or by number.

    Raises:
        InvalidModel: there is none.
    """
    if isinstance(cut, int):
        return cut
    if isinstance(cut, str):
        if cut in names:
            return names.index(cut)
        found = [
            k
            for k, name in enumerate(names)
            if name.startswith(f"{cut}_") or (prefixes and _is_below(prefixes[k], cut))
        ]
        if found:
            return found[0]
    raise InvalidModel(
        f"no operator or layer of the network is called {cut!r}; there are: {', '.join(names[:20])}"
        + (", …" if len(names) > 20 else "")
    )


def _is_below(path: str, layer: str) -> bool:
    return path == layer or path.startswith(f"{layer}.")
