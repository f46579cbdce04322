"""The machines of a chaos run: each an agent's process, a link of its own, and what the agent said."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.regional import stack
from benchmarks.regional.endpoint import Endpoint
from benchmarks.regional.link import Link
from benchmarks.regional.steps import Doom, spool_steps, through_steps

ROOT = Path(__file__).resolve().parents[2]


class Rig:
    """One agent's machine. ``changed`` is told when any of them says something, or dies."""

    def __init__(
        self,
        number: int,
        folder: Path,
        endpoint: Endpoint,
        changed: threading.Condition,
        epoch_seconds: float,
    ) -> None:
        self.name = f"agent-{number}"
        self.folder = folder / self.name
        self.seen = folder / "seen"
        self.link = Link(("127.0.0.1", endpoint.server_address[1]))
        self.changed = changed
        self._epoch_seconds = epoch_seconds
        self.busy_with = ""
        self.moment = ""
        """Of its death at a step; empty before."""
        self.up = False
        self.heard: list[tuple[float, str, str, int]] = []
        """When it said which event, of which job and fencing number."""
        self._process: subprocess.Popen[str] | None = None
        self._log = (folder / f"{self.name}.log").open("a")

    def start(self) -> None:
        """Begin another life of the agent, in the folder that the last one left."""
        command = [sys.executable, "-m", "benchmarks.rig_chaos", "--agent", str(self.folder), str(self.seen)]
        command += ["--epoch-seconds", str(self._epoch_seconds)]
        process = subprocess.Popen(
            command,
            env=stack.environment(self.link.url),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
        )
        with self.changed:
            self._process, self.busy_with, self.moment, self.up = process, "", "", True
        threading.Thread(target=self._hear, args=(process,), daemon=True).start()

    def _hear(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            told = json.loads(line)
            with self.changed:
                self.heard.append((time.time(), told["event"], told["job_key"], told["fencing"]))
                if process is self._process and self.up:
                    self._note(told["event"], told["job_key"])
                    self.moment = told["moment"]
                self.changed.notify_all()
        process.wait()
        with self.changed:
            if process is self._process:
                self.up = False
            self.changed.notify_all()

    def _note(self, event: str, job_key: str) -> None:
        if event in ("attempt started", "dies"):
            self.busy_with = job_key
        elif event == "attempt ended":
            self.busy_with = ""

    def tell(self, order: str) -> None:
        """Let it die: ``steps.Doom`` says how orders are; an empty one takes the last one back."""
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):  # it died meanwhile
                os.write(process.stdin.fileno(), f"{order}\n".encode())

    def kill(self) -> None:
        """SIGKILL, from outside."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        with self.changed:
            self.up = False

    def drain(self, seconds: float) -> None:
        """Let it leave, and close its link."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.link.close()
        self._log.close()


def be_agent(folder: Path, seen: Path, epoch_seconds: float) -> None:
    """Be an agent until told to drain; say each event on standard output."""
    from benchmarks.regional.trainer import Trainer
    from isthmus.rig.signals import obey_signals

    def report(event: str, **fields: Any) -> None:
        told = {"event": event, "job_key": fields.get("job_key", ""), "fencing": fields.get("fencing", 0)}
        told["moment"] = fields.get("moment", "")
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        print(time.time(), event, fields, file=sys.stderr, flush=True)

    doom = Doom(seen.parent, report)
    url = os.environ["AWS_ENDPOINT_URL"]
    agent = stack.agent(
        url, folder, report, Trainer(seen, epoch_seconds), lambda services: through_steps(services, doom)
    )
    agent._spool = spool_steps(agent._spool, doom)
    obey_signals(agent)
    doom.listen()
    agent.run()
