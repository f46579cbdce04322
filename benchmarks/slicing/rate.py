"""What the direct stream moves between two processes of this machine, each on a core of its own.

``python -m benchmarks.slicing.rate CORE`` is the side that receives: it writes its address, and takes what comes.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

import numpy as np

from benchmarks.slicing.processes import Host, end, start
from isthmus.errors import ChannelClosed
from isthmus.transport.direct import DirectListener, DirectTransport
from isthmus.transport.ports import Channel, within

SIZE_BYTES, MESSAGES, ROUNDS = 2**19, 32, 9
LONG_SECONDS = 60.0


def main() -> None:
    """Receive until the other side ends, and answer each empty message."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    listener = DirectListener(("127.0.0.1", 0), tls=None)
    print(listener.address[1], flush=True)
    channel = listener.accept(deadline=within(LONG_SECONDS))
    try:
        while True:
            if not channel.receive(deadline=within(LONG_SECONDS)):
                channel.send({}, deadline=within(LONG_SECONDS))
    except ChannelClosed:
        listener.close()


def direct_link(cores: tuple[int, int]) -> tuple[float, float]:
    """Return bytes a second of the stream for messages of half a MiB, and the seconds of an empty message there."""
    before = os.sched_getaffinity(0)
    process = start([sys.executable, "-m", "benchmarks.slicing.rate", str(cores[1])], Host(core=cores[1]))
    os.sched_setaffinity(0, {cores[0]})
    try:
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        channel = DirectTransport(address, tls=None).connect(deadline=within(LONG_SECONDS))
        once = statistics.median(_exchange(channel, 0) for _ in range(MESSAGES))
        many = min(_exchange(channel, MESSAGES) for _ in range(ROUNDS))
        channel.close()
    finally:
        os.sched_setaffinity(0, before)
        end(process)
    return MESSAGES * SIZE_BYTES / max(many - once, 1e-9), once / 2


def _exchange(channel: Channel, count: int) -> float:
    """Return the seconds in which ``count`` messages were taken: until an empty one after them is answered."""
    array = np.ones(SIZE_BYTES, np.uint8)
    begun = time.perf_counter()
    for _ in range(count):
        channel.send({"x": array}, deadline=within(LONG_SECONDS))
    channel.send({}, deadline=within(LONG_SECONDS))
    channel.receive(deadline=within(LONG_SECONDS))
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
