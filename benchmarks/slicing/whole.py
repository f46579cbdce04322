"""The whole model as a process: it reads numbers of runs, does as many, and writes the seconds of each.

``python -m benchmarks.slicing.whole MODEL THREADS``. The engine is the one that serves; nothing else is done.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from isthmus.frameworks.onnx import runtime
from isthmus.inference.engine import OnnxEngine

WARM_UP = 5


def main() -> None:
    """Answer until standard input ends."""
    engine = OnnxEngine(Path(sys.argv[1]), threads=int(sys.argv[2]))
    feeds = runtime.random_feeds(engine.load())
    for _ in range(WARM_UP):
        engine.run(feeds)
    for line in sys.stdin:
        runs = int(line)
        begun = time.perf_counter()
        for _ in range(runs):
            engine.run(feeds)
        print((time.perf_counter() - begun) / runs, flush=True)


if __name__ == "__main__":
    main()
