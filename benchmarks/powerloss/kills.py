"""The real edge core as a process, killed while it brings a model into service, and what answers afterwards."""

from __future__ import annotations

import http.client
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.powerloss.world import INPUT, Case, Found, digests
from isthmus.edge.core import EdgeCore, EdgeSettings
from isthmus.inference.runtime import load_onnxruntime

PATIENCE_SECONDS = 30.0
LATER = 1.2
"""Kills come within so many times what an update takes: some find it done."""


class Core:
    """An edge core in a process of its own; it says its port once it serves."""

    def __init__(self, device: Path, key: bytes, artifact: Path) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _be_a_core(device, key, artifact, write)
        os.close(write)
        self._said = read

    def port(self) -> int | None:
        """Wait until it serves; None: it ended, or it took too long."""
        if not select.select([self._said], [], [], PATIENCE_SECONDS)[0]:
            return None
        said = os.read(self._said, 16)
        return int(said) if said else None

    def kill(self) -> None:
        """End it as a loss of power does, as far as the process goes."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._said)


def _be_a_core(device: Path, key: bytes, artifact: Path, said: int) -> None:
    code = 1
    try:
        core = EdgeCore(
            EdgeSettings(artifact=artifact, store=device / "store", public_key_der=key, port=0, threads=1)
        )
        core.start()
        assert core.server is not None
        os.write(said, str(core.server.port).encode())
        signal.pause()
        code = 0
    finally:
        os._exit(code)


def ask(port: int) -> list[float]:
    """Return what the model in service answers to ``INPUT``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": INPUT.ravel().tolist()}
    connection.request("POST", "/v2/models/gate/infer", json.dumps({"inputs": [tensor]}))
    answered: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return [float(value) for value in answered["outputs"][0]["data"]]


def kill(case: Case, key: bytes, folder: Path, points: int, random: Random) -> Found:
    """Kill a core at that many moments of an update, and ask the next one, whose artifact is gone."""
    load_onnxruntime()
    found, took = Found(), _seconds_of_an_update(case, key, folder)
    for number in range(points):
        device = folder / str(number)
        shutil.copytree(case.device, device, symlinks=True)
        core = Core(device, key, case.after.artifact)
        time.sleep(random.uniform(0, LATER * took))
        core.kill()
        found.points += 1
        found.broken.update(_wrong(case, key, device))
        shutil.rmtree(device)
    return found


def _wrong(case: Case, key: bytes, device: Path) -> dict[str, int]:
    core = Core(device, key, device / "no artifact")
    try:
        port = core.port()
        if port is None:
            return {"unserved": 1}
        answer = ask(port)
        held = digests((device / "store/committed").resolve())
    finally:
        core.kill()
    known = [release for release in (case.before, case.after) if release is not None]
    right = any(held == release.files and _near(answer, release.answer) for release in known)
    newer = held == case.after.files
    return {"unverified": int(not right), "served the new one": int(newer)}


def _near(answer: list[float], expected: list[float]) -> bool:
    close: Callable[[float, float], bool] = lambda a, b: abs(a - b) < 1e-4  # noqa: E731
    return len(answer) == len(expected) and all(map(close, answer, expected))


def _seconds_of_an_update(case: Case, key: bytes, folder: Path) -> float:
    device = folder / "timed"
    shutil.copytree(case.device, device, symlinks=True)
    began = time.perf_counter()
    core = Core(device, key, case.after.artifact)
    port = core.port()
    took = time.perf_counter() - began
    core.kill()
    if port is None:
        raise SystemExit("the core must serve an update that nobody disturbs, and does not")
    shutil.rmtree(device)
    return took
