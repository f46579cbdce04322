"""What a message over the direct stream costs the two processes that it goes between, each on a core of its own.

A worker computes between two messages, and its caches hold other things when one comes: each message here finds them
so too. What counts is each side's processor time, whose larger part a plan takes for the link.

``python -m benchmarks.slicing.rate CORE`` is the side that receives: it writes its address, answers what comes, and at
the end writes its own seconds a message.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from benchmarks.slicing.processes import Host, end, start
from isthmus.bootstrap_chain import slice_asker
from isthmus.errors import ChannelClosed
from isthmus.transport.direct import DirectListener
from isthmus.transport.pipelined import Label, labelled, unlabelled
from isthmus.transport.ports import within

SIZE_BYTES, MESSAGES = 2**19, 64
EVICT_BYTES = 2**25
LONG_SECONDS = 60.0


class Costs:
    """The processor seconds of this process without those of ``evict``, which puts other things into the caches."""

    def __init__(self) -> None:
        self._filler = np.zeros(EVICT_BYTES, np.uint8)
        self._evicting = 0.0
        self._begun = time.process_time()

    def evict(self) -> None:
        """Go through more memory than the caches hold."""
        begun = time.thread_time()
        self._filler += 1
        self._evicting += time.thread_time() - begun

    def seconds(self) -> float:
        """Return what was used since the start."""
        return time.process_time() - self._begun - self._evicting


def main() -> None:
    """Answer until the other side ends."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    listener = DirectListener(("127.0.0.1", 0), tls=None)
    print(listener.address[1], flush=True)
    channel = listener.accept(deadline=within(LONG_SECONDS))
    costs, count = Costs(), 0
    try:
        while True:
            label, _ = unlabelled(channel.receive(deadline=within(LONG_SECONDS)))
            costs.evict()
            answer = labelled({"y": np.zeros(1, np.float32)}, Label(label.number))
            channel.send(answer, deadline=within(LONG_SECONDS))
            count += 1
    except ChannelClosed:
        print(costs.seconds() / max(count, 1), flush=True)
        listener.close()


def direct_link(cores: tuple[int, int]) -> tuple[float, float]:
    """Return the bytes a second that a message of half a MiB leaves a core time for, and the seconds from a question to
    its answer, halved."""
    before = os.sched_getaffinity(0)
    process = start([sys.executable, "-m", "benchmarks.slicing.rate", str(cores[1])], Host(core=cores[1]))
    os.sched_setaffinity(0, {cores[0]})
    try:
        assert process.stdout is not None
        asker = slice_asker(("127.0.0.1", int(process.stdout.readline())), tls=None)
        array, costs, trips = np.ones(SIZE_BYTES, np.uint8), Costs(), []
        for _ in range(MESSAGES):
            costs.evict()
            begun = time.perf_counter()
            asker.ask({"x": array}, deadline=within(LONG_SECONDS)).result()
            trips.append(time.perf_counter() - begun)
        ours = costs.seconds() / MESSAGES
        asker.close()
        theirs = float(process.stdout.readline())
    finally:
        os.sched_setaffinity(0, before)
        end(process)
    return SIZE_BYTES / max(ours, theirs), min(trips) / 2


if __name__ == "__main__":
    main()
