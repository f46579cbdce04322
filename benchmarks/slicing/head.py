"""The first slice of a model as a process that asks another one for the rest.

It reads numbers of runs, does as many, and writes the seconds of each.

``python -m benchmarks.slicing.head FOLDER PORT UNDER_WAY ROWS``; ROWS: samples of a question, which are made up here.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.slicing.processes import ANSWER_SECONDS, feeds_of
from isthmus.bootstrap_chain import chained_slice
from isthmus.transport.ports import within
from isthmus.workflows.serve_slice import Chained
from isthmus.workflows.sliced_folder import load_sliced

WARM_UP = 8


def main() -> None:
    """Answer until standard input ends."""
    folder = Path(sys.argv[1])
    head = chained_slice(folder, 0, ("127.0.0.1", int(sys.argv[2])), tls=None, most=int(sys.argv[3]))
    (feeds,) = feeds_of(load_sliced(folder)[0], 1, int(sys.argv[4]))
    for line in sys.stdin:
        print(seconds_each(head, feeds, int(line)), flush=True)
    if head.following is not None:
        head.following.close()


def seconds_each(head: Chained, feeds: dict[str, Any], runs: int) -> float:
    """Return the seconds from answer to answer, those that warm up left out. Raises what a question failed of."""
    ended: list[float] = []
    answers = []
    for _ in range(WARM_UP + runs):
        answer = head.ask(feeds, deadline=within(ANSWER_SECONDS))
        answer.add_done_callback(lambda _: ended.append(time.perf_counter()))
        answers.append(answer)
    for answer in answers:
        answer.result()
    return (ended[-1] - ended[WARM_UP - 1]) / runs


if __name__ == "__main__":
    main()
