"""Computations elsewhere: a part at one place, or the whole at several, each with some of a batch's samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from isthmus.errors import InvalidInput, InvalidModel, IsthmusError
from isthmus.frameworks.parts import (
    Answered,
    AskedPart,
    KeptCalls,
    Opening,
    Part,
    Pending,
    Place,
    open_part,
)
from isthmus.frameworks.replicas import Sharing, averaged, joined, spans, summed
from isthmus.frameworks.trainable import Arrays

Backward = Callable[[Arrays], dict[str, Any]]


class Far(Protocol):
    """What computes elsewhere."""

    def forward(
        self, tensors: Arrays, held: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> tuple[dict[str, Any], Backward]:
        """Return heads, and what takes gradients of heads and returns those of what was wanted; with either may come
        statistics, where they are others now.

        Raises:
            Unavailable: who computes cannot be reached.
            InvalidInput: it cannot be computed.
        """


class OnePlace:
    """A part at one place. ``statistics``: names of what passes update."""

    def __init__(self, opening: Opening, place: Place, statistics: Sequence[str]) -> None:
        self._part = AskedPart(place, opening)
        self._statistics = statistics

    def forward(
        self, tensors: Arrays, held: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> tuple[dict[str, Any], Backward]:
        """As ``Far``."""
        call, pending = self._part.forward(tensors, held, kept=kept, training=training, wanted=wanted)
        found = pending().arrays
        return found, lambda gradients: self._part.backward(call, gradients, self._statistics)().arrays


class HerePart:
    """A part in this process, asked as if it were elsewhere: it computes when its answer is collected, which is after
    the others were asked."""

    def __init__(self, part: Part) -> None:
        self._calls = KeptCalls(part)
        self._number = 0

    def forward(
        self, tensors: Arrays, held: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> tuple[int, Pending]:
        """As ``AskedPart``."""
        self._number += 1
        number = self._number
        return number, _timed(
            lambda: self._calls.forward(
                number, {**tensors, **held}, kept=kept, training=training, wanted=wanted
            )
        )

    def backward(self, call: int, gradients: Arrays, statistics: Sequence[str]) -> Pending:
        """As ``AskedPart``."""
        return _timed(lambda: self._calls.backward(call, gradients))


def _timed(compute: Callable[[], dict[str, Any]]) -> Pending:
    def collect() -> Answered:
        began = time.perf_counter()
        found = compute()
        return Answered(found, time.perf_counter() - began)

    return collect


class Replicas:
    """The whole network at several places. What gradients of parameters come to is added up from the first replica to
    the last, as a script would that had a micro-batch for each.

    ``statistics``: names of heads that the forward pass updates; the replicas' are averaged by their samples.
    """

    def __init__(
        self,
        opening: Opening,
        places: Sequence[Place | None],
        sharing: Sharing,
        statistics: Sequence[str],
        open_here: Callable[[Opening], Part] = open_part,
    ) -> None:
        self._parts = [
            HerePart(open_here(opening)) if place is None else AskedPart(place, opening) for place in places
        ]
        # Who is asked first computes while the others are asked; this process comes last.
        self._order = sorted(range(len(places)), key=lambda k: places[k] is None)
        self._sharing = sharing
        self._statistics = tuple(statistics)

    def forward(
        self, tensors: Arrays, held: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> tuple[dict[str, Any], Backward]:
        """As ``Far``; every tensor has the batch on its first axis.

        Raises:
            InvalidInput: a tensor has another number of samples.
            InvalidModel: an output is not one of each sample.
        """
        rows = self._shares(tensors, measured=kept and training)
        own = spans(rows)

        def ask(k: int) -> tuple[int, Pending]:
            share = {name: array[own[k]] for name, array in tensors.items()}
            return self._parts[k].forward(share, held, kept=kept, training=training, wanted=wanted)

        calls, answers = self._asked([k for k in self._order if rows[k]], ask)
        heads = self._joined(answers, rows)

        def backward(gradients: Arrays) -> dict[str, Any]:
            def ask(k: int) -> tuple[int, Pending]:
                share = {name: array[own[k]] for name, array in gradients.items()}
                return calls[k], self._parts[k].backward(calls[k], share, self._statistics)

            _, back = self._asked([k for k in self._order if k in calls], ask)
            if training:
                took = [answers[k].seconds + back[k].seconds if k in back else 0.0 for k in range(len(rows))]
                self._sharing.end(rows, took)
            each = [back[k].arrays for k in sorted(back)]
            counts = [rows[k] for k in sorted(back)]
            sums = {name: joined(each, name) if name in tensors else summed(each, name) for name in wanted}
            moved = {name: averaged(each, counts, name) for name in self._statistics if name in each[0]}
            return {**sums, **moved}

        return heads, backward

    def _asked(
        self, numbers: Sequence[int], ask: Callable[[int], tuple[int, Pending]]
    ) -> tuple[dict[int, int], dict[int, Answered]]:
        """Ask replicas, and collect all answers, also where one fails: a place is held until then."""
        calls: dict[int, int] = {}
        pending: dict[int, Pending] = {}
        failed: IsthmusError | None = None
        answers = {}
        try:
            for k in numbers:
                try:
                    calls[k], pending[k] = ask(k)
                except IsthmusError as error:
                    failed = failed or error
            # Who was asked last is this process, which computes while the others do.
            while pending:
                k, collect = pending.popitem()
                try:
                    answers[k] = collect()
                except IsthmusError as error:
                    failed = failed or error
        finally:
            # Ctrl-C, say: whoever is not heard holds its place for ever.
            for collect in pending.values():
                with suppress(IsthmusError):
                    collect()
        if failed is not None:
            raise failed
        return calls, answers

    def _shares(self, tensors: Arrays, *, measured: bool) -> tuple[int, ...]:
        sizes = {name: array.shape[0] if array.ndim else 0 for name, array in tensors.items()}
        if len(set(sizes.values())) != 1:
            raise InvalidInput(
                f"replicas share a batch by its first axis, which all must have alike; they have {sizes}"
            )
        count = next(iter(sizes.values()))
        return self._sharing.begin(count) if measured else self._sharing.some(count)

    def _joined(self, answers: dict[int, Answered], rows: Sequence[int]) -> dict[str, Any]:
        order = sorted(answers)
        each, counts = [answers[k].arrays for k in order], [rows[k] for k in order]
        found = {}
        for name in each[0]:
            if name in self._statistics:
                found[name] = averaged(each, counts, name)
                continue
            if any(one[name].shape[:1] != (count,) for one, count in zip(each, counts, strict=True)):
                raise InvalidModel(
                    "replicas need outputs with one row for each sample; "
                    f"{name} is {each[0][name].shape} of {counts[0]}"
                )
            found[name] = joined(each, name)
        return found
