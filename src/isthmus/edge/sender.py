"""Sends an outbox's results whenever the cloud can be had, in a thread of its own; for ever, if it never can.

Between two tries that failed it waits a random part of a time that doubles ("full jitter": AWS Architecture Blog,
"Exponential Backoff And Jitter"): devices that lost the same network do not come back at the same moment.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from isthmus.edge.drain import ResultSink, drain
from isthmus.edge.outbox import Outbox
from isthmus.errors import IsthmusError
from isthmus.model.results import Batch
from isthmus.model.units import MIB
from isthmus.ports import Flag, Threads

SEND_BYTES = MIB
"""Of a batch, some thousand results: a device has little memory, and a line that breaks takes less with it."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 300.0

logger = logging.getLogger(__name__)


class Sender:
    """Drains ``outbox`` into ``sink``; what is put is sent together with what comes within ``gather_seconds``.

    ``jitter`` gives numbers in [0, 1).
    """

    def __init__(
        self,
        outbox: Outbox,
        sink: ResultSink,
        threads: Threads,
        *,
        gather_seconds: float = 10.0,
        max_bytes: int = SEND_BYTES,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._outbox, self._sink, self._threads, self._jitter = outbox, sink, threads, jitter
        self._gather_seconds, self._max_bytes = gather_seconds, max_bytes
        self._some: Flag = threads.flag()
        self._ends: Flag = threads.flag()
        self.sent = 0
        self.problem = ""
        """Why the last try failed, empty after one that did not."""

    def start(self) -> None:
        """Begin with what an earlier process left."""
        self._some.set()
        self._threads.start("results-sender", self._run)

    def wake(self) -> None:
        """Something was put."""
        self._some.set()

    def close(self) -> None:
        """End after what is under way, and do not wait for that: what the cloud has not confirmed is sent by the next
        process."""
        self._ends.set()
        self._some.set()

    def try_once(self) -> bool:
        """Send all that waits; return whether that went well."""
        try:
            drain(self._outbox, self, max_bytes=self._max_bytes)
        except IsthmusError as error:
            if self.problem != str(error):
                logger.warning("results wait: %s", error)
            self.problem = str(error)
            return False
        if self.problem:
            logger.info("results are sent again")
        self.problem = ""
        return True

    def send(self, batch: Batch) -> int:
        """As ``ResultSink``, which it is to count what went well before something did not."""
        last = self._sink.send(batch)
        self.sent += len(batch.results)
        return last

    def _run(self) -> None:
        failures = 0
        while not self._ends.is_set():
            self._some.wait()
            if self._ends.wait(self._pause(failures)):
                return
            # Before the look: what is put meanwhile sets it again.
            self._some.clear()
            try:
                went_well = self.try_once()
            except Exception:
                logger.exception("results could not be sent")
                went_well = False
            failures = 0 if went_well else failures + 1
            if failures:
                self._some.set()

    def _pause(self, failures: int) -> float:
        if not failures:
            return self._gather_seconds
        return self._jitter() * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 16))
