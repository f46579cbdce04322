"""Files of a bucket, fetched over several connections at once, each whole and right or not at all.

A small file is one request. A big one is fetched in ranges of one version of the object, each noted when it is
written; what was cut off goes on with the ranges that are missing. Either way the SHA-256 of the whole decides, so
that the notes need no care about the order in which a disk writes: after a power cut they may claim what is not there,
and then the file is fetched anew. Why no transfer library does this: docs/adr/0024.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Generator, Iterator, Sequence

from isthmus.model.units import MIB
from isthmus.ports import BlobStore, GoOn, always
from isthmus.sync.transfer import LOOK_AGAIN_SECONDS, Busy, Step, Transfer, Wanted

CONNECTIONS = 32
"""At 30 ms a round trip, 32 files of 1 MiB under way are 1 GiB/s; memory is 256 KiB for each."""
RANGE_BYTES = 8 * MIB
AHEAD = 2 * CONNECTIONS
"""Files that are begun before the first of them is done."""
LATER = 2**32
"""Added to a file's number: after every step that can be done now."""


def download(
    files: Sequence[Wanted],
    blobs: BlobStore,
    *,
    connections: int = CONNECTIONS,
    range_bytes: int = RANGE_BYTES,
    go_on: GoOn = always,
) -> Generator[Wanted, None, None]:
    """Fetch files and yield each, in their order, as soon as it is there; those after it are fetched meanwhile.

    Nothing happens before the first is asked for. With one connection everything is done in the caller's thread.
    What was under way when the iterator is closed, or fails, is gone on with by the next call. ``go_on`` is asked
    between the pieces of each file, in whatever thread fetches it.

    Raises:
        DigestMismatch: an object has other bytes than promised.
        MissingFile: there is no such object.
        Unavailable: the store did not answer.
        OSError: the files cannot be written.
        what ``go_on`` raises.
    """
    transfers = [Transfer(wanted, blobs, range_bytes, go_on) for wanted in files]
    try:
        if connections == 1:
            for transfer in transfers:
                _alone(transfer)
                yield transfer.wanted
        else:
            with _Crew(transfers, connections) as crew:
                yield from crew.in_order()
    finally:
        for transfer in transfers:
            transfer.close()


def _alone(transfer: Transfer) -> None:
    steps: list[Step] = [transfer.begin]
    while steps:
        step = steps.pop(0)
        try:
            steps += step()
        except Busy:
            time.sleep(LOOK_AGAIN_SECONDS)
            steps.append(step)


class _Crew:
    """Threads that take the steps of the earliest file first."""

    def __init__(self, transfers: Sequence[Transfer], connections: int) -> None:
        self._transfers = transfers
        self._steps: queue.PriorityQueue[tuple[int, int, Step | None]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._open = [1] * len(transfers)
        self._failure: Exception | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"download-{n}", daemon=True)
            for n in range(min(connections, 1 + AHEAD))
        ]

    def __enter__(self) -> _Crew:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What is under way ends by itself, within a range; nothing else begins."""
        self._closed = True
        for _thread in self._threads:
            self._steps.put((-1, next(self._order), None))
        for thread in self._threads:
            thread.join()

    def in_order(self) -> Iterator[Wanted]:
        begun = 0
        for number, transfer in enumerate(self._transfers):
            while begun < min(len(self._transfers), number + AHEAD):
                self._put(begun, self._transfers[begun].begin)
                begun += 1
            with self._changed:
                while self._open[number] and self._failure is None:
                    self._changed.wait()
                if self._open[number] and self._failure is not None:
                    raise self._failure
            yield transfer.wanted

    def _put(self, number: int, step: Step) -> None:
        self._steps.put((number, next(self._order), step))

    def _work(self) -> None:
        while True:
            number, _, step = self._steps.get()
            if step is None:
                return
            if self._closed or self._failure is not None:
                continue
            try:
                more = step()
            except Busy:
                time.sleep(LOOK_AGAIN_SECONDS)
                self._put(number % LATER + LATER, step)
            except Exception as error:
                self._fail(error)
            else:
                self._done(number % LATER, more)

    def _done(self, number: int, more: list[Step]) -> None:
        with self._changed:
            self._open[number] += len(more) - 1
            self._changed.notify_all()
        for further in more:
            self._put(number, further)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
