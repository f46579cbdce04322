"""rtt: a round trip of 1 KiB over the direct stream, against a blocking socket that sends and receives 1 KiB.

Both sides are Python processes, each on a core of its own, as two workers of a pipeline are. Ours carries an array with
its name, type and shape, numbered, acknowledged and with its checksum verified, both ways; the socket's side sends
bytes and reads until as many have come. They take turns; `ratio` is the median over the rounds of the ratio of the
medians. `one_core_ratio` is the same with both sides on one core, where whoever waits has to give the core away.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.report import report
from isthmus.errors import ChannelClosed
from isthmus.transport.direct import DirectListener, DirectTransport
from isthmus.transport.ports import within

ROUNDS = 7
TRIPS = 4000
WARM_UP = 500
BYTES = 1024
PATIENCE_SECONDS = 60.0


def main() -> None:
    """Measure and report; or, with arguments, be the side that answers."""
    if sys.argv[1:]:
        os.sched_setaffinity(0, {int(sys.argv[2])})
        {"ours": _answer_ours, "raw": _answer_raw}[sys.argv[1]]()
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("rtt needs two cores, one for each side")
    os.sched_setaffinity(0, {cores[0]})
    apart = [(_ours(cores[1]), _raw(cores[1])) for _ in range(ROUNDS)]
    together = [(_ours(cores[0]), _raw(cores[0])) for _ in range(3)]
    os.sched_setaffinity(0, cores)
    reference = statistics.median(raw for _, raw in apart)
    report(
        "rtt",
        ours=statistics.median(mine / raw for mine, raw in apart) * reference,
        reference=reference,
        unit="us",
        rounds_us=[(round(mine, 1), round(raw, 1)) for mine, raw in apart],
        one_core_ratio=round(statistics.median(mine / raw for mine, raw in together), 2),
        one_core_us=[(round(mine, 1), round(raw, 1)) for mine, raw in together],
    )


def _ours(core: int) -> float:
    with _Answering("ours", core) as port:
        channel = DirectTransport(("127.0.0.1", port), tls=None).connect(deadline=within(PATIENCE_SECONDS))
        question = {"x": np.zeros(BYTES // 4, np.float32)}

        def trip() -> None:
            channel.send(question, deadline=within(PATIENCE_SECONDS))
            channel.receive(deadline=within(PATIENCE_SECONDS))

        took = _median_us(trip)
        channel.close()
    return took


def _raw(core: int) -> float:
    with _Answering("raw", core) as port, socket.create_connection(("127.0.0.1", port)) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        question, into = bytes(BYTES), memoryview(bytearray(BYTES))

        def trip() -> None:
            connected.sendall(question)
            _fill(connected, into)

        return _median_us(trip)


def _median_us(trip: Callable[[], None]) -> float:
    for _ in range(WARM_UP):
        trip()
    times = []
    for _ in range(TRIPS):
        started = time.perf_counter()
        trip()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def _answer_ours() -> None:
    listener = DirectListener(("127.0.0.1", 0), tls=None)
    print(listener.address[1], flush=True)
    channel = listener.accept(deadline=within(PATIENCE_SECONDS))
    try:
        while True:
            found = channel.receive(deadline=within(PATIENCE_SECONDS))
            channel.send(found, deadline=within(PATIENCE_SECONDS))
    except ChannelClosed:
        channel.close()


def _answer_raw() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connected, _ = server.accept()
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        into = memoryview(bytearray(BYTES))
        while _fill(connected, into):
            connected.sendall(into)


def _fill(connected: socket.socket, into: memoryview) -> bool:
    at = 0
    while at < BYTES:
        got = connected.recv_into(into[at:])
        if not got:
            return False
        at += got
    return True


class _Answering:
    """The answering side as a process on a core of its own."""

    def __init__(self, kind: str, core: int) -> None:
        command = [sys.executable, "-m", "benchmarks.rtt", kind, str(core)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __exit__(self, *details: object) -> None:
        self._process.communicate(timeout=PATIENCE_SECONDS)


if __name__ == "__main__":
    main()
