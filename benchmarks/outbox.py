"""outbox: a day without a network, then all of it at once: what is lost, what counts twice, and how fast it drains.

A device makes a million results in 24 hours, a second's worth in each transaction of its outbox: the clock is
simulated and the results are made up; the file, its transactions and the disk are real. Its process is killed twenty
times and goes on with what the outbox has. Then the network is back: batches go through the ingest that ships, with the
adapters that ship, to an emulated S3 and DynamoDB behind HTTP on this machine; of every tenth request the answer is
lost, and it is sent again. What lies in the bucket in the end is read back and compared. `ours`: results that are lost,
there twice, or out of order; `per_second`: results that were drained in a second.
"""

from __future__ import annotations

import gzip
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.regional import stack
from benchmarks.regional.endpoint import Endpoint
from benchmarks.report import report
from isthmus.edge.drain import drain
from isthmus.edge.outbox import Outbox
from isthmus.errors import Unavailable
from isthmus.model.results import Batch, Result
from isthmus.model.units import GIB, MIB
from isthmus.workflows.ingest_results import ingest_results

RESULTS, SECONDS, KILLS, LOST_ANSWERS = 1_000_000, 86_400, 20, 10
GOAL_PER_SECOND = 5_000
DEVICE = "gate-1"
LIMIT_BYTES = GIB


def made_up(number: int) -> Result:
    """Return what the inference with this number gives."""
    outputs = {"number": number, "label": number % 10, "score": (number % 997) / 997}
    at_ms = number * SECONDS * 1000 // RESULTS
    return Result(model="digits", release=1, at_ms=at_ms, outputs=msgspec.Raw(msgspec.json.encode(outputs)))


def write(folder: Path) -> None:
    """Be the device: go on behind what the outbox holds, and say after each transaction what it holds for sure."""
    outbox = Outbox(folder, DEVICE, limit_bytes=LIMIT_BYTES)
    number, each = outbox.state().held, -(-RESULTS // SECONDS)
    while number < RESULTS:
        group = [made_up(at) for at in range(number, min(number + each, RESULTS))]
        outbox.put(group)
        number += len(group)
        os.write(1, number.to_bytes(8, "little"))


def day(folder: Path) -> tuple[int, float]:
    """Let the device work until its day is over, and kill it now and then; return how many results it had for sure and
    lost, and the seconds that it took."""
    began, lost, kept = time.perf_counter(), 0, 0
    for kill in range(1, KILLS + 2):
        until = RESULTS * kill // (KILLS + 1)
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.outbox", str(folder)], stdout=subprocess.PIPE
        ) as process:
            if process.stdout is None:
                raise SystemExit("the device has no pipe to tell by")
            while said := process.stdout.read(8):
                kept = int.from_bytes(said, "little")
                if kill <= KILLS and kept >= until:
                    process.send_signal(signal.SIGKILL)
                    break
            while said := process.stdout.read(8):  # what it said before it died
                kept = int.from_bytes(said, "little") if len(said) == 8 else kept
        outbox = Outbox(folder, DEVICE, limit_bytes=LIMIT_BYTES)
        lost += max(0, kept - outbox.state().held)
        outbox.close()
        print(f"{kept:,} results, {lost} lost", file=sys.stderr)
    return lost, time.perf_counter() - began


class Line:
    """The ingest, whose answer is lost now and then."""

    def __init__(self) -> None:
        self._records, self._blobs = stack.stores()
        self.requests = 0

    def send(self, batch: Batch) -> int:
        self.requests += 1
        raw = msgspec.json.encode(batch)
        last = ingest_results(raw, DEVICE, blobs=self._blobs, records=self._records)
        if self.requests % LOST_ANSWERS == 0:
            raise Unavailable("the answer was lost")
        return last

    def numbers(self) -> list[int]:
        """Return what lies in the bucket, in the order of its objects' names."""
        found = []
        for name in sorted(info.key for info in self._blobs.keys("results/")):
            lines = gzip.decompress(self._blobs.get(name, max_bytes=64 * MIB)).splitlines()
            found += [msgspec.json.decode(line)["outputs"]["number"] for line in lines]
        return found


def send_all(folder: Path, line: Line) -> float:
    """Drain the outbox, again after each answer that is lost; return the seconds."""
    outbox, began = Outbox(folder, DEVICE, limit_bytes=LIMIT_BYTES), time.perf_counter()
    while outbox.state().held:
        try:
            drain(outbox, line)
        except Unavailable:
            continue
    return time.perf_counter() - began


def main() -> None:
    """Measure and print the line; with a folder, be the device."""
    if sys.argv[1:]:
        write(Path(sys.argv[1]))
        return
    endpoint = Endpoint()
    os.environ.update(stack.environment(endpoint.url))
    stack.make((stack.RIG,))
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as scratch:
        folder, line = Path(scratch), Line()
        lost_at_once, day_seconds = day(folder)
        size = Outbox(folder, DEVICE, limit_bytes=LIMIT_BYTES).state().used_bytes
        seconds = send_all(folder, line)
        found = line.numbers()
    missing = RESULTS - len(set(found))
    twice = len(found) - len(set(found))
    disordered = sum(after <= before for before, after in itertools.pairwise(found))
    report(
        "outbox",
        ours=lost_at_once + missing + twice + disordered,
        reference=RESULTS,
        unit="results",
        results=RESULTS,
        lost=missing + lost_at_once,
        twice=twice,
        disordered=disordered,
        per_second=round(RESULTS / seconds),
        per_second_goal=GOAL_PER_SECOND,
        per_second_holds=RESULTS / seconds >= GOAL_PER_SECOND,
        batches=line.requests,
        answers_lost=line.requests // LOST_ANSWERS,
        kills=KILLS,
        outbox_bytes=size,
        put_per_second=round(RESULTS / day_seconds),
        reference_is="the number of results",
    )


if __name__ == "__main__":
    main()
