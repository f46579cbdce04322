"""Ends a training that has used up what was set aside for it: the plan says how long that is, and nobody is asked."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from isthmus.errors import BudgetExceeded
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.model.units import format_seconds
from isthmus.rig.delivery import ended
from isthmus.rig.power import PowerMeter
from isthmus.rig.services import RigSettings, Services

TO_BEAR = (
    "raise the budget or the job's --max-cost, and redrive the pipeline: it goes on from its last checkpoint"
)


class Spending:
    """Counts an attempt's seconds while its training runs (``with``), its environment and its export included, and the
    joules where something tells them.

    ``on_over`` is called, once and in a thread of its own, when they come to ``work.max_seconds``.
    """

    def __init__(
        self, work: Work, settings: RigSettings, services: Services, on_over: Callable[[], None]
    ) -> None:
        self._limit = work.max_seconds
        self._clock, self._threads, self._on_over = services.clock, services.threads, on_over
        self._meter = settings.joules and PowerMeter(
            settings.joules, settings.folder, self._clock, self._threads
        )
        self._closed = self._threads.flag()
        self._over = self._threads.flag()
        self._join: Callable[[], None] = lambda: None
        self._measured: Callable[[], None] = lambda: None
        self._began: float | None = None
        self._took = 0.0

    def __enter__(self) -> Spending:
        self._began = self._clock.now()
        if self._meter:
            self._measured = self._meter.start()
        if self._limit:
            self._join = self._threads.start("spending", self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._join()
        self._measured()
        self._took = self._clock.now() - (self._began or 0.0)

    def _run(self) -> None:
        if not self._closed.wait(self._limit):
            self._over.set()
            self._on_over()

    def lost(self, error: Exception) -> Outcome:
        """Return the outcome of an attempt that an error ended which is not its script's; of one that was over its
        limit it is ABORTED, so that its checkpoints stay."""
        if not self._over.is_set():
            outcome = ended(AttemptState.LOST, error)
            return msgspec.structs.replace(outcome, seconds=round(self._took, 3))
        took = max(self._took, self._limit)
        why = (
            f"needs more than the {format_seconds(self._limit)} of training that its budget sets aside for it, "
            f"and was stopped after {format_seconds(took)}: {TO_BEAR}"
        )
        outcome = ended(AttemptState.ABORTED, BudgetExceeded(why))
        return msgspec.structs.replace(outcome, seconds=round(took, 3))
