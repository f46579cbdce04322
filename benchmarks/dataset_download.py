"""dataset_download: seconds of a rig's cache for a dataset of 1 GiB in 1,000 files, over a link with 30 ms of latency.

The reference is `aws s3 sync` of the same files from the same endpoint, at the fastest of its settings; `ratio` is its
seconds over ours. Both are processes of their own, start-up included, in turns, and both write to memory where there is
room, so that no disk decides. Ours also verifies every file's SHA-256. `second_job_bytes` is what a second job with the
same dataset moves over the link; `stall` is the share of its time that a training waits for its input while the
dataset is still coming: it takes a step for each file, of some 20 ms of arithmetic (50 MiB/s).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.paced_s3 import BUCKET, Paced, paced_bucket
from benchmarks.report import report

FILES = 1000
FILE_BYTES = 2**30 // FILES
ROUND_TRIP_SECONDS = 0.03
ROUNDS = 5
STALL_GOAL = 0.05
CONCURRENCY = {"default": 10, "20 requests": 20, "32 requests": 32}
"""Settings of ``aws s3``: ``max_concurrent_requests`` is the one that matters for files below 8 MiB."""
STEP_SECONDS = 0.02


def main() -> None:
    """Measure and report; or, with arguments, be the process that fetches."""
    if sys.argv[1:]:
        _fetch(*sys.argv[1:])
        return
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-", dir=_scratch()) as scratch:
        folder = Path(scratch)
        _make(folder / "bucket", folder / "manifest.json")
        with paced_bucket(folder / "bucket", round_trip_seconds=ROUND_TRIP_SECONDS) as bucket:
            _measure(bucket, folder)


def _scratch() -> str | None:
    """Return a memory file system with room for the bucket and two copies, if there is one."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free >= 6 * FILES * FILE_BYTES
    return str(memory) if roomy else None


def _make(bucket: Path, manifest: Path) -> None:
    """Write random files, named by their digests as ``isthmus dataset push`` does."""
    bucket.mkdir()
    digests = []
    for _ in range(FILES):
        data = os.urandom(FILE_BYTES)
        digests.append(hashlib.sha256(data).hexdigest())
        (bucket / digests[-1]).write_bytes(data)
    manifest.write_text(json.dumps(digests))


def _measure(bucket: Paced, folder: Path) -> None:
    ours: list[float] = []
    references: dict[str, list[float]] = {name: [] for name in CONCURRENCY}
    second_bytes, stalls = [], []
    for number in range(ROUNDS):
        for name, requests in CONCURRENCY.items():
            references[name].append(_sync(bucket, folder, requests))
        with tempfile.TemporaryDirectory(dir=folder) as rig:
            ours.append(_rig(bucket, folder, rig, "first")[0])
            before = bucket.passed
            _rig(bucket, folder, rig, "second")
            second_bytes.append(bucket.passed - before)
        with tempfile.TemporaryDirectory(dir=folder) as rig:
            stalls.append(_rig(bucket, folder, rig, "stream")[1])
        medians = "  ".join(f"{name} {seconds[-1]:.2f} s" for name, seconds in references.items())
        print(
            f"round {number + 1}: ours {ours[-1]:.2f} s  stall {stalls[-1]:.1%}  {medians}", file=sys.stderr
        )
    settings = {name: statistics.median(seconds) for name, seconds in references.items()}
    fastest = min(settings, key=lambda name: settings[name])
    report(
        "dataset_download",
        ours=statistics.median(ours),
        reference=settings[fastest],
        unit="s",
        speedup=True,
        second_job_bytes=max(second_bytes),
        stall=round(statistics.median(stalls), 4),
        stall_goal=STALL_GOAL,
        all_hold=max(second_bytes) == 0 and statistics.median(stalls) <= STALL_GOAL,
        sync_seconds={name: round(seconds, 2) for name, seconds in settings.items()},
        sync_setting=fastest,
        rounds=ROUNDS,
        reference_is="`aws s3 sync` of the same files from the same endpoint, at the fastest of its settings",
    )


def _environment(bucket: Paced) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return own | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": bucket.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _sync(bucket: Paced, folder: Path, requests: int) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as target:
        config = Path(target) / "config"
        config.write_text(f"[default]\ns3 =\n  max_concurrent_requests = {requests}\n")
        command = [
            str(Path(sys.executable).with_name("aws")),
            "s3",
            "sync",
            f"s3://{BUCKET}/",
            f"{target}/data",
            "--quiet",
        ]
        started = time.perf_counter()
        subprocess.run(command, env=_environment(bucket) | {"AWS_CONFIG_FILE": str(config)}, check=True)
        seconds = time.perf_counter() - started
        if len(list((Path(target) / "data").iterdir())) != FILES:
            raise SystemExit("`aws s3 sync` did not fetch every file")
        return seconds


def _rig(bucket: Paced, folder: Path, rig: str, job: str) -> tuple[float, float]:
    """Run one job's download; return its seconds, start-up included, and the share of time that it waited."""
    command = [sys.executable, "-m", "benchmarks.dataset_download", str(folder / "manifest.json"), rig, job]
    started = time.perf_counter()
    done = subprocess.run(command, env=_environment(bucket), check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - started, float(done.stdout)


def _fetch(manifest: str, rig: str, job: str) -> None:
    """Fetch a dataset as an attempt does; print the share of time that a training would have waited."""
    from isthmus.adapters.aws.blobs import S3BlobStore
    from isthmus.adapters.aws.bulk import BulkReader
    from isthmus.rig.cache import CachedFile, FileCache
    from isthmus.sync.download import CONNECTIONS

    blobs = S3BlobStore(BUCKET, BulkReader.if_possible(BUCKET, CONNECTIONS))
    cache, data = FileCache(Path(rig) / "cache", blobs), Path(rig) / "attempts" / job
    digests = json.loads(Path(manifest).read_text())
    files = [CachedFile(digest, digest, FILE_BYTES, data / digest) for digest in digests]
    if job == "stream":
        print(_train(cache, files))
    else:
        cache.place_all(files)
        print(0.0)


def _train(cache: object, files: list[object]) -> float:
    """Read each file as it comes and calculate; return the time that passed in waiting, over the whole."""
    import numpy as np

    weights = np.random.default_rng(0).random((256, 256), dtype=np.float32)
    products = _products_of_a_step(weights)
    waited, started = 0.0, time.perf_counter()
    arrivals = iter(cache.stream(files))  # type: ignore[attr-defined]
    while True:
        asked = time.perf_counter()
        path = next(arrivals, None)
        waited += time.perf_counter() - asked
        if path is None:
            return waited / (time.perf_counter() - started)
        batch = np.fromfile(path, dtype=np.uint8)[: 256 * 256].reshape(256, 256).astype(np.float32)
        for _ in range(products):
            batch = np.tanh(batch @ weights)


def _products_of_a_step(weights: object) -> int:
    """Return how many products of matrices take about a step's time here."""
    import numpy as np

    started, products = time.perf_counter(), 0
    batch = weights
    while time.perf_counter() - started < 20 * STEP_SECONDS:
        batch = np.tanh(batch @ weights)  # type: ignore[operator]
        products += 1
    return max(1, products // 20)


if __name__ == "__main__":
    main()
