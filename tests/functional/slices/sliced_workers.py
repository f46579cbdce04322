"""Workers of a training in slices as processes, in a training framework's environment."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

KEPT = re.compile(r": (\d+) of \d+ steps are kept")
LENT = ("msgspec", "xxhash")
"""What the workers need beside the framework. Tests take it from this interpreter, which is of the same version; a job
lists it in its requirements.txt."""


def lend(folder: Path) -> Path:
    """Return a folder that holds these packages alone."""
    folder.mkdir(exist_ok=True)
    for name in LENT:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (folder / name).symlink_to(Path(spec.origin).parent)
    return folder


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Workers:
    """All workers of one training; each has a folder of its own below ``folder``."""

    def __init__(
        self,
        python: Path,
        path: str,
        folder: Path,
        common: dict[str, Any],
        places: int,
        *,
        relayed: bool = False,
    ) -> None:
        self._command = [str(python), "-P", "-m", "isthmus.bootstrap_training", "train"]
        self._environment = {
            "PATH": os.defpath,
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
            "MXNET_MKLDNN_ENABLED": "0",
            "MXNET_STORAGE_FALLBACK_LOG_VERBOSE": "0",
        }
        if relayed:
            addresses = [f"file://{folder}/relay-{worker}/messages" for worker in range(places)]
        else:
            addresses = [f"127.0.0.1:{port}" for port in free_ports(places)]
        self.folder = folder
        self.jobs: list[dict[str, Any]] = []
        for worker in range(places):
            own = {
                "worker": worker,
                "checkpoints": str(folder / f"worker-{worker}"),
                "listen": addresses[worker],
                "peers": {str(other): addresses[other] for other in range(worker)},
            }
            self.jobs.append({"patience_seconds": 40.0, **common, **own})
        self.running: dict[int, subprocess.Popen[str]] = {}

    def start(self, worker: int) -> None:
        """Start one, or start it again."""
        path = self.folder / f"worker-{worker}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.jobs[worker]))
        self.running[worker] = subprocess.Popen(
            [*self._command, str(path)], env=self._environment, stderr=subprocess.PIPE, text=True
        )

    def start_all(self) -> None:
        for worker in range(len(self.jobs)):
            self.start(worker)

    def kill(self, worker: int) -> None:
        """Kill one by SIGKILL."""
        self.running[worker].kill()
        self.running[worker].communicate()

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            process.communicate()

    def wait(self) -> None:
        """Wait for all to end well."""
        for worker, process in self.running.items():
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, (worker, said)

    def wait_for(self, step: int, heard_of: int) -> None:
        """Wait until a worker says that so many steps are kept."""
        said = self.running[heard_of].stderr
        assert said is not None
        for line in said:
            kept = KEPT.search(line)
            if kept is not None and int(kept[1]) >= step:
                return
        raise AssertionError(f"worker {heard_of} ended before step {step}")

    def committed(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "worker-0" / "committed.json").read_text())
        return found

    def result(self) -> dict[str, Any]:
        """Return what the committed checkpoints hold: names of weights, and of losses, to arrays."""
        commit, found = self.committed(), {}
        for number in commit["files"]:
            (path,) = self.folder.glob(f"worker-*/slice-{number}/step-{commit['step']:08d}.npz")
            with np.load(path, allow_pickle=False) as arrays:
                found.update({name: arrays[name] for name in arrays})
        return found
