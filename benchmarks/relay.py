"""relay: exchanges a second through a bucket each of whose requests takes 30 ms, against what such a bucket allows.

The bound is of a model: a message is a write and a read, and the read can see the object once the write is half done;
so a message takes half a write and half a read, and then the answer does. What a write and a read take is measured in
the same rounds, by the same adapter, one after the other: the 30 ms and what the adapter computes. The model has no
time for looking too early or too late, nor for packing and checking. Two processes exchange 64 KiB each way, one
question at a time; `round_trip` is the median, `of_bare_30_ms` the ratio to a bound of 30 ms for each of the two
messages. `usd_per_thousand` counts the requests that were made, at the prices of S3 Standard; deletions are free.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import Counter

import numpy as np

from benchmarks.report import report
from benchmarks.wires.paced_store import BUCKET, paced_store
from isthmus.adapters.aws.blobs import S3BlobStore
from isthmus.transport.asking import serve
from isthmus.transport.ports import Channel, within
from isthmus.transport.relay import RelayTransport

REQUEST_SECONDS = 0.03
ROUNDS = 5
EXCHANGES = 60
WARM_UP = 20
SINGLE_REQUESTS = 20
BYTES = 64 * 1024
PATIENCE_SECONDS = 60.0
USD = {"PUT": 0.005 / 1000, "LIST": 0.005 / 1000, "GET": 0.0004 / 1000, "HEAD": 0.0004 / 1000, "DELETE": 0.0}
PRICES = "S3 Standard, us-east-1, https://aws.amazon.com/s3/pricing/, entered on 2026-11-27"


def main() -> None:
    """Measure and report; or, with an argument, be the side that answers."""
    if sys.argv[1:]:
        serve(_end("answer"), lambda question: question)
        return
    with paced_store(REQUEST_SECONDS) as store:
        os.environ |= {
            "AWS_ENDPOINT_URL": store.url,
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        asks = _end("ask")
        answering = subprocess.Popen([sys.executable, "-m", "benchmarks.relay", "answer"])
        try:
            _exchange(asks, WARM_UP)
            store.counts()
            rounds, requests = [], []
            counts: Counter[str] = Counter()
            for _ in range(ROUNDS):
                rounds.append(_exchange(asks, EXCHANGES))
                counts += store.counts()
                requests.append(_requests())
                store.counts()
        finally:
            asks.close()
            answering.wait(timeout=PATIENCE_SECONDS)
    trips = [seconds for each in rounds for seconds in each]
    made = ROUNDS * EXCHANGES
    bounds = [write + read for write, read in requests]
    report(
        "relay",
        ours=statistics.median(len(each) / sum(each) for each in rounds),
        reference=statistics.median(1 / bound for bound in bounds),
        unit="exchanges/s",
        steps_per_second=round(made / sum(trips), 2),
        round_trip=round(statistics.median(trips), 4),
        round_trip_bound=round(statistics.median(bounds), 4),
        of_bare_30_ms=round(
            statistics.median(2 * REQUEST_SECONDS * len(each) / sum(each) for each in rounds), 3
        ),
        usd_per_thousand=round(1000 / made * sum(USD[kind] * count for kind, count in counts.items()), 5),
        requests_per_exchange={kind: round(count / made, 2) for kind, count in sorted(counts.items())},
        prices=PRICES,
    )


def _end(side: str) -> Channel:
    return RelayTransport(S3BlobStore(BUCKET), "benchmark", "ask" if side == "ask" else "answer").connect(
        deadline=within(PATIENCE_SECONDS)
    )


def _requests() -> tuple[float, float]:
    """Return the median seconds of a write and of a read, one at a time."""
    store, data, writes, reads = S3BlobStore(BUCKET), os.urandom(BYTES), [], []
    for number in range(SINGLE_REQUESTS):
        started = time.perf_counter()
        store.create(f"single/{time.time_ns()}-{number}", data)
        writes.append(time.perf_counter() - started)
        store.put("single/read", data)
        started = time.perf_counter()
        store.get("single/read", max_bytes=BYTES)
        reads.append(time.perf_counter() - started)
    return statistics.median(writes), statistics.median(reads)


def _exchange(asks: Channel, times: int) -> list[float]:
    noise, trips = np.random.default_rng(1), []
    for _ in range(times):
        sent = noise.integers(0, 255, BYTES, dtype=np.uint8)
        started = time.perf_counter()
        asks.send({"x": sent}, deadline=within(PATIENCE_SECONDS))
        found = asks.receive(deadline=within(PATIENCE_SECONDS))["x"]
        trips.append(time.perf_counter() - started)
        if not np.array_equal(found, sent):
            raise SystemExit("an answer is not that of its question")
    return trips


if __name__ == "__main__":
    main()
