"""What `slice_chaos` does to a training in two slices: workers are killed and started again, and the line between
them does to the stream what no line should, at random moments."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from isthmus.bootstrap_training import LOST_CODE
from tests.bad_line import BadLine, Fault
from tests.certificates import Authority
from tests.functional.slices.sliced_workers import KEPT, Workers

WORKERS = 2
KILLS = ("kill head", "kill tail")
LINE: tuple[Fault, ...] = ("cut", "corrupt", "duplicate", "reorder")
KINDS = (*KILLS, *LINE)
KILLED = -9
AWAY_SECONDS = 0.6
"""The longest that a killed worker, or a cut line, stays away."""
LIMIT_SECONDS = 240.0
PATIENCE_SECONDS = 20.0
LOOK_SECONDS = 0.02
SAID_LINES = 400


@dataclass
class Supervised:
    """Workers, each started again when it was killed, or says that it may be (75). ``ended``: with which code each
    ended for good; ``said``: what all said, the last lines."""

    workers: Workers
    seed: int
    ended: dict[int, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    starts: int = 0
    over: bool = False
    kept: dict[int, bool] = field(default_factory=dict)
    """Which have kept a checkpoint since they were started last."""

    def start(self) -> None:
        """Start all, and watch over each in a thread of its own."""
        self.threads = [threading.Thread(target=self._watch, args=(k,), daemon=True) for k in range(WORKERS)]
        for thread in self.threads:
            thread.start()

    def is_over(self) -> bool:
        """Whether all have ended for good."""
        return len(self.ended) == WORKERS

    def is_training(self) -> bool:
        """Whether all are at it: each has kept a checkpoint in its present life."""
        return not self.is_over() and len(self.kept) == WORKERS and all(self.kept.values())

    def kill(self, worker: int) -> bool:
        """Kill one by SIGKILL; return whether it ran."""
        process = self.workers.running.get(worker)
        if process is None or process.poll() is not None:
            return False
        self.kept[worker] = False
        process.kill()
        return True

    def stop(self) -> None:
        """End all, and start none again."""
        self.over = True
        for worker in range(WORKERS):
            self.kill(worker)
        for thread in self.threads:
            thread.join()

    def _watch(self, worker: int) -> None:
        chance = random.Random(f"{self.seed}/{worker}")
        while not self.over:
            self.kept[worker] = False
            self.workers.start(worker)
            self.starts += 1
            process = self.workers.running[worker]
            assert process.stderr is not None
            for line in process.stderr:
                self.said.append(f"{worker}: {line.rstrip()}")
                del self.said[:-SAID_LINES]
                self.kept[worker] = self.kept.get(worker, False) or KEPT.search(line) is not None
            code = process.wait()
            process.stderr.close()
            self.said.append(f"{worker}: ended with {code}")
            if code not in (KILLED, LOST_CODE):
                self.ended[worker] = code
                return
            time.sleep(chance.random() * AWAY_SECONDS)


@dataclass(frozen=True)
class Course:
    """What is trained: ``model``: a folder of ``learning_mxnet``'s ``write``; ``python``, ``path``: its
    environment."""

    python: Path
    path: str
    model: Path
    steps: int
    every: int

    def workers(self, folder: Path) -> Workers:
        """Return two workers, joined directly."""
        common = {
            "framework": "mxnet",
            "model": str(self.model),
            "cuts": json.loads((self.model / "cuts.json").read_text())[str(WORKERS)],
            "rows": 120,
            "samples": 12,
            "microbatches": 3,
            "steps": self.steps,
            "every": self.every,
            "options": {"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-3},
            "seed": 5,
            "patience_seconds": PATIENCE_SECONDS,
        }
        found = Workers(self.python, self.path, folder, common, WORKERS)
        for worker, name in enumerate(("data", "label")):
            found.jobs[worker]["inputs"] = {name: str(self.model / f"{name}.npy")}
        return found


def undisturbed(course: Course, folder: Path) -> tuple[dict[str, Any], float]:
    """Train without a fault; return all arrays of the last checkpoint, and the seconds.

    Raises:
        SystemExit: it fails, or its first losses are not those of the unsliced network.
    """
    workers, started = course.workers(folder), time.monotonic()
    workers.start_all()
    try:
        workers.wait()
    finally:
        workers.end()
    seconds, found = time.monotonic() - started, workers.result()
    with np.load(course.model / "reference.npz") as reference:
        expected = reference["losses"]
    (losses,) = (array for name, array in found.items() if name.startswith("loss:"))
    if losses[: len(expected)].tobytes() != expected.tobytes():
        raise SystemExit("the undisturbed training is not the unsliced one: there is nothing to compare with")
    return found, seconds


@dataclass
class Round:
    """What came of a training: ``faults`` by kind, how many came while all were ``training``, names of ``unequal``
    arrays, and why it did not end if so."""

    faults: Counter[str]
    training: int
    unequal: list[str]
    problem: str
    starts: int
    seconds: float


def attacked(
    course: Course,
    folder: Path,
    expected: Mapping[str, Any],
    kinds: list[str],
    gap: float,
    seed: int,
    tls: bool,
) -> Round:
    """Train under faults of these kinds, one after the other, ``gap`` seconds apart on average.

    Two of three wait until all have trained on since the one before; the others come whatever goes on.
    """
    chance, workers, started = random.Random(seed), course.workers(folder), time.monotonic()
    host, port = workers.jobs[0]["listen"].rsplit(":", 1)
    line = BadLine((host, int(port)), LINE, seed=seed, one_in=0)
    workers.jobs[1]["peers"] = {"0": "{}:{}".format(*line.address)}
    if tls:
        _secure(workers, folder)
    supervised, faults, left, training = Supervised(workers, seed), Counter[str](), list(kinds), 0
    supervised.start()
    while not supervised.is_over() and time.monotonic() - started < LIMIT_SECONDS:
        if not left or (len(left) % 3 and not supervised.is_training()):
            time.sleep(LOOK_SECONDS)
            continue
        time.sleep(chance.random() * 2 * gap)
        if not supervised.is_over():
            kind = left.pop()
            training += supervised.is_training()
            if kind in KILLS:
                faults[kind] += supervised.kill(KILLS.index(kind))
            else:
                line.strike(cast(Fault, kind), chance.random() * AWAY_SECONDS)
    ended = supervised.is_over()
    supervised.stop()
    line.close()
    faults.update(line.happened)
    problem = "" if ended and set(supervised.ended.values()) == {0} else _failure(supervised)
    unequal = [] if problem else differing(workers.result(), expected)
    return Round(faults, training, unequal, problem, supervised.starts, time.monotonic() - started)


def _failure(supervised: Supervised) -> str:
    said = "\n".join(supervised.said[-60:])
    return f"ended with {supervised.ended or 'nothing in time'}:\n{said}"


def _secure(workers: Workers, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    authority, names = Authority(folder), ("head", "tail")
    for worker, job in enumerate(workers.jobs):
        files = authority.tls(names[worker], names[1 - worker])
        job["tls"] = {
            "certificate": str(files.certificate),
            "key": str(files.key),
            "authority": str(files.authority),
            "peers": sorted(files.peers),
        }


def differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return names of arrays that are not the same bytes, of one type and shape."""

    def seen(array: Any) -> tuple[Any, ...]:
        return array.dtype, array.shape, array.tobytes()

    names = sorted({*found, *expected})
    return [
        name
        for name in names
        if name not in found or name not in expected or seen(found[name]) != seen(expected[name])
    ]
