"""One side of a stream as a process of its own: `python -m benchmarks.wires.peer receive|send …`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.errors import ChannelClosed
from isthmus.transport.direct import DirectListener, DirectTransport
from isthmus.transport.ports import Channel, within
from isthmus.transport.wires import Tls

RING_BYTES = 192 * 2**20
"""More than the last cache of most processors: each message is other memory than the ones before."""
PATIENCE_SECONDS = 60.0


def main() -> None:
    """Be one of the two sides; a receiver prints its port, then what it received."""
    role, files, *rest = sys.argv[1:]
    tls = _tls(role, files) if files else None
    if role == "receive":
        _receive(DirectListener(("127.0.0.1", 0), tls=tls))
    else:
        port, size, seconds = rest
        transport = DirectTransport(("127.0.0.1", int(port)), tls=tls)
        _send(transport.connect(deadline=within(PATIENCE_SECONDS)), int(size), float(seconds))


def _tls(role: str, files: str) -> Tls:
    folder = Path(files)
    other = "send" if role == "receive" else "receive"
    return Tls(folder / f"{role}.pem", folder / f"{role}.key", folder / "authority.pem", frozenset({other}))


def _receive(listener: DirectListener) -> None:
    """Take messages until the sender ends; the stream itself verifies the checksum of each."""
    print(listener.address[1], flush=True)
    channel = listener.accept(deadline=within(PATIENCE_SECONDS))
    expected, size = 0, 0
    first = last = time.perf_counter()
    try:
        while True:
            found = channel.receive(deadline=within(PATIENCE_SECONDS))["x"]
            last = time.perf_counter()
            if found[0] != expected:
                raise SystemExit(f"message {found[0]} came where {expected} was due")
            if expected == 0:
                first = last  # what came before has paid for the connection and the first memory
            else:
                size += found.nbytes
            expected += 1
    except ChannelClosed:
        print(json.dumps({"bytes": size, "seconds": last - first}), flush=True)
    channel.close()
    listener.close()


def _send(channel: Channel, size: int, seconds: float) -> None:
    noise = np.random.default_rng(1)
    ring: list[Any] = [
        noise.integers(0, 2**62, size // 8, dtype=np.int64) for _ in range(max(3, RING_BYTES // size))
    ]
    # A buffer is written to again only once its message was acknowledged: the window is 64 messages or 128 MiB,
    # and one message at the least, so the ring is larger.
    until, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        array = ring[number % len(ring)]
        array[0] = number
        channel.send({"x": array}, deadline=within(PATIENCE_SECONDS))
        number += 1
    channel.close()


if __name__ == "__main__":
    main()
