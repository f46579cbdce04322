"""One stage of a pipeline as a process of its own, pinned to a core: it reads, runs its slice, and sends.

``python -m benchmarks.stage MODEL --core N --samples N [--source FD] [--sink FD]``. What crosses is the tensors' bytes,
in the order of their names, over a socket that the parent opened. The first stage makes up its input. The last prints
the seconds of a sample, from the first one that came out warm to the last one.
"""

from __future__ import annotations

import argparse
import os
import socket
import time
from typing import Any

import numpy as np

from isthmus.frameworks.onnx import runtime

WARM_UP = 5


def receive(source: socket.socket, into: dict[str, Any]) -> None:
    """Fill the arrays of a sample, by name."""
    for name in sorted(into):
        view = memoryview(into[name]).cast("B")
        done = 0
        while done < len(view):
            got = source.recv_into(view[done:])
            if not got:
                raise SystemExit("the stage before ended early")
            done += got


def send(sink: socket.socket, outputs: dict[str, Any]) -> None:
    """Send the arrays of a sample, by name."""
    for name in sorted(outputs):
        sink.sendall(memoryview(np.ascontiguousarray(outputs[name])).cast("B"))


def main() -> None:
    """Run the samples."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--source", type=int)
    parser.add_argument("--sink", type=int)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    with open(options.model, "rb") as file:
        session = runtime.session(file.read(), runtime.options())
    feeds = {name: np.ascontiguousarray(array) for name, array in runtime.random_feeds(session).items()}
    names = [entry.name for entry in session.get_outputs()]
    source = socket.socket(fileno=options.source) if options.source is not None else None
    sink = socket.socket(fileno=options.sink) if options.sink is not None else None
    begun = 0.0
    for sample in range(WARM_UP + options.samples):
        if sample == WARM_UP:
            begun = time.perf_counter()
        if source is not None:
            receive(source, feeds)
        outputs = dict(zip(names, runtime.run(session, feeds), strict=True))
        if sink is not None:
            send(sink, outputs)
    if sink is None:
        print((time.perf_counter() - begun) / options.samples, flush=True)


if __name__ == "__main__":
    main()
