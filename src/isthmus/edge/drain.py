"""Sends what waits in an outbox, batch after batch, in order; whatever breaks, it is sent again."""

from __future__ import annotations

from typing import Protocol

from isthmus.edge.outbox import Outbox
from isthmus.errors import InvalidAnswer
from isthmus.model.results import MAX_BATCH_BYTES, Batch


class ResultSink(Protocol):
    """Takes results into the cloud."""

    def send(self, batch: Batch) -> int:
        """Return the highest number of that outbox that the cloud has for good.

        Raises:
            Unavailable: it did not answer; it may have the batch all the same.
        """


def drain(outbox: Outbox, sink: ResultSink, *, max_bytes: int = MAX_BATCH_BYTES) -> int:
    """Send until nothing waits; return how many results the cloud has taken.

    Raises:
        Unavailable: the cloud did not answer. What it has not confirmed waits on.
        InvalidAnswer: it confirmed less than it was sent, or what it was not sent.
    """
    taken = 0
    while batch := outbox.batch(max_bytes=max_bytes):
        last = sink.send(batch)
        # More than was sent is in order: an earlier answer may have been lost, and its results were dropped since.
        if last < batch.last:
            raise InvalidAnswer(f"the cloud must confirm result {batch.last}, and confirmed {last}")
        outbox.remove(batch.last)
        taken += len(batch.results)
    return taken
