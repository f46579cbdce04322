"""dataset_download: seconds of a rig's cache for a dataset of 1 GiB in 1,000 files, over a link with 30 ms of latency.

The reference is `aws s3 sync` of the same files from the same endpoint, at the fastest of its settings; `ratio` is its
seconds over ours. Both are processes of their own, start-up included, in turns, and both write to memory where there is
room, so that no disk decides. Ours also verifies every file's SHA-256. `second_job_bytes` is what a second job with the
same dataset moves over the link; `stall` is the share of its time that a training waits for its input while it streams
the same dataset (benchmark `input_stall`).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.input_stall import FILE_BYTES, FILES, ROUND_TRIP_SECONDS, STALL_GOAL, streamed
from benchmarks.paced_s3 import BUCKET, FOLDER, Paced, make_files, paced_bucket, roomy_folder, variables_for
from benchmarks.report import report

ROUNDS = 5
CONCURRENCY = {"default": 10, "20 requests": 20, "32 requests": 32}
"""Settings of ``aws s3``: ``max_concurrent_requests`` is the one that matters for files below 8 MiB."""


def main() -> None:
    """Measure and report; or, with arguments, be the process that fetches."""
    if sys.argv[1:]:
        _fetch(*sys.argv[1:])
        return
    with tempfile.TemporaryDirectory(
        prefix="isthmus-bench-", dir=roomy_folder(6 * FILES * FILE_BYTES)
    ) as scratch:
        folder = Path(scratch)
        make_files(folder / "bucket", folder / "manifest.json", files=FILES, file_bytes=FILE_BYTES)
        with paced_bucket(folder / "bucket", round_trip_seconds=ROUND_TRIP_SECONDS) as bucket:
            _measure(bucket, folder)


def _measure(bucket: Paced, folder: Path) -> None:
    ours: list[float] = []
    references: dict[str, list[float]] = {name: [] for name in CONCURRENCY}
    second_bytes, stalls = [], []
    for number in range(ROUNDS):
        for name, requests in CONCURRENCY.items():
            references[name].append(_sync(bucket, folder, requests))
        with tempfile.TemporaryDirectory(dir=folder) as rig:
            ours.append(_rig(bucket, folder, rig, "first"))
            before = bucket.passed
            _rig(bucket, folder, rig, "second")
            second_bytes.append(bucket.passed - before)
        with tempfile.TemporaryDirectory(dir=folder) as rig:
            stalls.append(streamed(bucket, folder / "manifest.json", Path(rig)).stall)
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


def _sync(bucket: Paced, folder: Path, requests: int) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as target:
        config = Path(target) / "config"
        config.write_text(f"[default]\ns3 =\n  max_concurrent_requests = {requests}\n")
        command = [
            str(Path(sys.executable).with_name("aws")),
            "s3",
            "sync",
            f"s3://{BUCKET}/{FOLDER}",
            f"{target}/data",
            "--quiet",
        ]
        started = time.perf_counter()
        subprocess.run(command, env=variables_for(bucket) | {"AWS_CONFIG_FILE": str(config)}, check=True)
        seconds = time.perf_counter() - started
        if len(list((Path(target) / "data").iterdir())) != FILES:
            raise SystemExit("`aws s3 sync` did not fetch every file")
        return seconds


def _rig(bucket: Paced, folder: Path, rig: str, job: str) -> float:
    """Run one job's download; return its seconds, start-up included."""
    command = [sys.executable, "-m", "benchmarks.dataset_download", str(folder / "manifest.json"), rig, job]
    started = time.perf_counter()
    subprocess.run(command, env=variables_for(bucket), check=True)
    return time.perf_counter() - started


def _fetch(manifest: str, rig: str, job: str) -> None:
    """Fetch a dataset as an attempt does."""
    from isthmus.adapters.aws.blobs import S3BlobStore
    from isthmus.adapters.aws.bulk import BulkReader
    from isthmus.rig.cache import CachedFile, FileCache
    from isthmus.sync.download import CONNECTIONS

    blobs = S3BlobStore(BUCKET, BulkReader.if_possible(BUCKET, CONNECTIONS))
    cache, data = FileCache(Path(rig) / "cache", blobs), Path(rig) / "attempts" / job
    digests = json.loads(Path(manifest).read_text())
    cache.place_all([CachedFile(FOLDER + digest, digest, FILE_BYTES, data / digest) for digest in digests])


if __name__ == "__main__":
    main()
