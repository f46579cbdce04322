"""Slices as `isthmus slice serve` serves them, each a process on a core of its own; and loops to compare."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.bootstrap_chain import slice_asker
from isthmus.model.sliced import Cast
from isthmus.transport.pipelined import Pipelined
from isthmus.transport.wires import Tls

ISTHMUS = Path(sys.executable).with_name("isthmus")
LISTENS = "listens on "
ANSWER_SECONDS = 60.0
END_SECONDS = 20.0


@dataclass(frozen=True)
class Host:
    """Where a process runs. ``command``: what stands before it; ``core``: None takes any; ``listen``: its address;
    ``options``: of ``isthmus slice serve``, for its TLS."""

    command: Sequence[str] = ()
    core: int | None = None
    listen: str = "127.0.0.1"
    options: Sequence[str] = ()


@dataclass
class Chain:
    """Workers that are joined, the first one's address, and their processes in order."""

    address: tuple[str, int]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def asker(self, *, most: int, tls: Tls | None = None, cast: Cast = "") -> Pipelined:
        """Return what asks the first one."""
        return slice_asker(self.address, tls=tls, cast=cast, most=most)


def start(command: Sequence[str], host: Host) -> subprocess.Popen[str]:
    """Start a process that is talked to by lines."""
    pin = None if host.core is None else partial(os.sched_setaffinity, 0, {host.core})
    return subprocess.Popen(
        [*host.command, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=pin,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def serve_slice(
    folder: Path, number: int, host: Host, following: str = ""
) -> tuple[subprocess.Popen[str], str]:
    """Start a worker; return it and its address.

    Raises:
        SystemExit: it did not start; its own words stand on standard error.
    """
    command = [str(ISTHMUS), "slice", "serve", str(folder), "--slice", str(number)]
    command += ["--listen", f"{host.listen}:0", *host.options, *(["--next", following] if following else [])]
    process = start(command, host)
    assert process.stdout is not None
    said = process.stdout.readline()
    if LISTENS not in said:
        raise SystemExit(f"slice {number} of {folder} did not start: {said}")
    return process, said.rpartition(LISTENS)[2].strip()


@contextlib.contextmanager
def chain(folder: Path, hosts: Sequence[Host], first: int = 0) -> Iterator[Chain]:
    """Serve the slices of a folder from number ``first`` on, one at each host, and end them."""
    found, where = Chain(("", 0)), ""
    try:
        for number in reversed(range(len(hosts))):
            process, where = serve_slice(folder, first + number, hosts[number], where)
            found.processes.insert(0, process)
        host, _, port = where.rpartition(":")
        found.address = (host, int(port))
        yield found
    finally:
        for process in found.processes:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """End a process that this one started."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


class Loop:
    """A process that runs a model in a loop, asked by lines: ``whole.py``, or ``head.py``."""

    def __init__(self, name: str, *arguments: object, core: int | None) -> None:
        command = [sys.executable, "-m", f"benchmarks.slicing.{name}", *map(str, arguments)]
        self._process = start(command, Host(core=core))

    def seconds_each(self, runs: int) -> float:
        """Return the seconds of a run.

        Raises:
            SystemExit: the process ended; its own words stand on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{runs}\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        if not said:
            raise SystemExit("a process that was measured ended early")
        return float(said)

    def close(self) -> None:
        """End it."""
        end(self._process)


def feeds_of(document: Any, count: int, rows: int = 1, seed: int = 7) -> list[dict[str, Any]]:
    """Return made-up inputs of a sliced model, ``rows`` samples each: normal, or whole numbers of 0 and 1."""
    random = np.random.default_rng(seed)

    def one(spec: Any) -> Any:
        shape = [rows if size == -1 else size for size in spec.shape]
        if spec.datatype == "FP32":
            return random.standard_normal(shape).astype("float32")
        return random.integers(0, 2, shape).astype(spec.datatype.lower())

    return [{spec.name: one(spec) for spec in document.inputs} for _ in range(count)]
