"""Moves messages from a rig's queue to its waiting list, also while a training runs.

A queue (SQS, standard) neither keeps an order nor hands out the message that one asks for; the list does
both. A message is deleted once its item is written: a crash in between delivers it again, and it finds its
item there. "If your system requires that order be preserved, we recommend using a FIFO queue or adding
sequencing information in each message so you can reorder the messages when they're received." (SQS
developer guide, "Amazon SQS standard queues")
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from isthmus.errors import PermissionMissing, Unavailable
from isthmus.model.messages import Work
from isthmus.ports import JobQueue, Message, Threads
from isthmus.rig.services import Report
from isthmus.rig.waiting import WaitingList

PAUSE_SECONDS = 5.0
"""After a failure; a queue that does not answer is not asked without end."""


class Intake:
    """``arrived`` is set whenever something new waits; who looks at the list clears it first.

    ``started``: a thread takes in whatever comes; nobody else needs to ask. An agent that found nothing on the list
    gets the next message that ``fits`` by hand: it needs no place where nothing waits. Until the lease is taken the
    queue keeps it.
    """

    def __init__(
        self,
        queue: JobQueue,
        waiting: WaitingList,
        report: Report,
        threads: Threads,
        fits: Callable[[Work], bool] = lambda work: True,
    ) -> None:
        self._queue = queue
        self._waiting = waiting
        self._report = report
        self._threads = threads
        self._fits = fits
        self._lock = threading.Lock()
        self._is_wanted = False
        self._handed: Message | None = None
        self._closed = threads.flag()
        self._list_answers = False
        self.arrived = threads.flag()
        self.started = False

    def drain(self, *, wait_seconds: int = 0) -> None:
        """Take in everything that is visible now. ``wait_seconds`` above 0 asks every server of the queue
        ("Amazon SQS short and long polling"), for a message at a time at least.

        Raises:
            Unavailable: the queue or the table did not answer; what was not deleted comes back.
        """
        while self.once(wait_seconds=wait_seconds):
            continue

    def once(self, *, wait_seconds: int) -> int:
        """Take in what one call returns; return how many messages were taken.

        Raises:
            Unavailable, PermissionMissing: of the queue or the table.
        """
        if not self._list_answers:
            # Each delivery counts, and the fifth is the last (``maxReceiveCount``): what cannot be written
            # down is not asked for.
            self._waiting.check()
            self._list_answers = True
        messages = self._queue.receive(wait_seconds=wait_seconds)
        if len(messages) == 1 and self._hand_over(messages[0]):
            return 1
        return sum(self._take(message) for message in messages)

    # ------------------------------------------------------------------ by hand

    def want(self) -> None:
        """The list had nothing for the agent: the next message may come by hand."""
        with self._lock:
            self._is_wanted = self.started

    def handed(self) -> Message | None:
        """Return the message that came by hand, if one did; no other comes before the next ``want``."""
        with self._lock:
            message, self._handed, self._is_wanted = self._handed, None, False
        return message

    def _hand_over(self, message: Message) -> bool:
        """Give a message to an agent that waits. What was listed meanwhile comes first: ``arrived`` says so."""
        if message.work is None or not self._fits(message.work):
            return False
        with self._lock:
            if not self._is_wanted or self.arrived.is_set() or self._closed.is_set():
                return False
            self._handed, self._is_wanted = message, False
        self.arrived.set()
        return True

    def put_back(self, message: Message) -> None:
        """List a message that was handed over after all.

        Raises:
            Unavailable: the queue or the table did not answer; the message comes back.
        """
        self._take(message)

    def delete(self, message: Message) -> None:
        """Of a message that was handed over: nobody needs it any more.

        Raises:
            Unavailable: the queue did not answer; the message comes back, and the lease says whose it is.
        """
        self._queue.delete(message.receipt)

    # ------------------------------------------------------------------ by the list

    def _take(self, message: Message) -> bool:
        """Take in one message. What is left stays in the queue, comes back, and ends in its dead-letter
        queue, which raises an alarm."""
        if message.work is None:
            self._report("message left: it cannot be read", error=message.problem)
            return False
        if not self._add(message.work):
            return False
        self._queue.delete(message.receipt)
        self.arrived.set()
        return True

    def _add(self, work: Work) -> bool:
        """Let it wait, if it does not yet; return whether it is on the list."""
        about = {"job_key": work.job_key, "fencing": work.fencing}
        try:
            new = self._waiting.add(work)
        except (Unavailable, PermissionMissing):
            self._list_answers = False
            raise
        except Exception as error:
            # The table's word on this one item, as far as we know: the others of its batch go on.
            self._list_answers = False
            self._report(
                "message left: it cannot be listed", error=f"{type(error).__name__}: {error}", **about
            )
            return False
        if new:
            self._report("work waits", team=work.team, **about)
        return True

    def start(self, wait_seconds: int) -> None:
        """Take in whatever comes, in a thread of its own, until ``close``."""
        self.started = True
        self._threads.start("intake", lambda: self._run(wait_seconds))

    def close(self) -> None:
        """Take in no more; a call under way is not waited for: what it brings comes back, or waits."""
        self._closed.set()
        self.arrived.set()

    def _run(self, wait_seconds: int) -> None:
        while not self._closed.is_set():
            try:
                self.once(wait_seconds=wait_seconds)
            except Unavailable as error:
                self._report("no work", error=str(error))
                self._closed.wait(PAUSE_SECONDS)
            except Exception as error:
                # A thread that died here would leave the rig idle for good, without a word.
                self._report("intake failed", error=f"{type(error).__name__}: {error}")
                self._closed.wait(PAUSE_SECONDS)
