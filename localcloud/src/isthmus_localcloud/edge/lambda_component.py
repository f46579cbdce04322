"""Components imported from Lambda: awslambdaric in NoContainer fashion, without layers and without boto3.

What AWS's runtime adds in the cloud is not on a device: a function has to bring what it imports.
"""

import threading
import time
import uuid
from typing import Any

from ..lambdas.environment import Environment
from ..lambdas.interpreters import interpreter_for
from ..lambdas.runtime_api import Invocation
from ..processes import Program
from ..state import StateFolder
from .resolver import Item
from .variables import Device, environment

MAX_ATTEMPTS = 3


class LambdaComponent:
    """Pinned: started at once and kept. On demand: started by its first event, stopped when idle."""

    def __init__(self, item: Item, device: Device, state: StateFolder, variables: dict[str, str]) -> None:
        self.item, self._device = item, device
        self.state, self.reason = "NEW", ""
        self._attempts, self._lock, self._last_used = 0, threading.Lock(), time.monotonic()
        self._configuration = item.configuration
        self.pinned = str(self._configuration.get("pinned", True)).lower() == "true"
        self._timeout = float(self._configuration.get("timeoutInSeconds", 3))
        self._idle = float(self._configuration.get("maxIdleTimeInSeconds", 60))
        self._init_timeout = float(self._configuration.get("statusTimeoutInSeconds", 60))
        self._environment = Environment(self._program(state, variables), self._log, self._init_timeout)

    def _log(self, data: bytes) -> None:
        with self._device.folder.log(self.item.name).open("ab") as file:
            file.write(data)

    def _program(self, state: StateFolder, variables: dict[str, str]) -> Program:
        function = self.item.function or {}
        interpreter = interpreter_for(function["runtime"], state.path)
        code = self._device.folder.unarchived(self.item.name, self.item.version) / "lambda-artifact"
        work = self._device.folder.work(self.item.name)
        work.mkdir(parents=True, exist_ok=True)
        packages = state.edge_runtime_dir
        env = {
            **environment(self._device),
            **variables,
            "_HANDLER": function["handler"],
            "LAMBDA_TASK_ROOT": str(code),
            "LAMBDA_RUNTIME_DIR": str(packages),
            "PYTHONPATH": str(packages),
            "PYTHONNOUSERSITE": "1",
            "ISTHMUS_LOCALCLOUD_OPT": str(self._device.folder.root / "no-layers"),
            "AWS_LAMBDA_FUNCTION_NAME": function["name"],
            "AWS_LAMBDA_FUNCTION_VERSION": function["version"],
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "0",
            "AWS_LAMBDA_LOG_GROUP_NAME": "",
            "AWS_LAMBDA_LOG_STREAM_NAME": "",
            "MY_FUNCTION_ARN": function["arn"],
        }
        root = self._device.folder.root / "tmp" / f"root-{self.item.name}"
        return Program([interpreter.path, "-s", "-S", f"{packages}/bootstrap.py"], env, str(work), root)

    def install(self) -> None:
        self.state = "INSTALLED"

    def start(self) -> None:
        """A pinned function's initialisation has to succeed, or the component is ERRORED."""
        if not self.pinned:
            self.state = "RUNNING"
            return
        self._attempts += 1
        self.state = "STARTING"
        with self._lock:  # an event that arrives meanwhile waits for the initialisation
            self._environment.start()
        if self._environment.alive:
            self.state, self.reason = "RUNNING", ""
        else:
            self.state = "ERRORED"
            self.reason = f"{self.item.name}: initialisation failed: {self._environment.init_failure()}"

    def check(self) -> None:
        if self.state == "RUNNING" and self.pinned and not self._environment.alive:
            self.state, self.reason = "ERRORED", f"the process of {self.item.name} ended by itself"
        if self.state == "ERRORED":
            if self._attempts >= MAX_ATTEMPTS:
                self.state = "BROKEN"
            else:
                self.start()
        idle = time.monotonic() - self._last_used > self._idle
        if not self.pinned and idle and self._environment.alive and self._lock.acquire(blocking=False):
            try:
                self._environment.kill()
            finally:
                self._lock.release()

    def stop(self) -> None:
        self._environment.kill()
        if self.state != "BROKEN":
            self.state = "INSTALLED"

    def invoke(self, payload: bytes) -> dict[str, Any]:
        """One event, one at a time. The answer carries the function's own error if it raised one."""
        arn = (self.item.function or {})["arn"]
        with self._lock:
            self._last_used = time.monotonic()
            outcome = self._environment.invoke(Invocation(str(uuid.uuid4()), payload, arn, 0), self._timeout)
        return {
            "payload": outcome.body.decode(),
            "is_error": outcome.is_error,
            "duration_ms": outcome.duration_ms,
        }

    def listens_to(self, topic: str) -> bool:
        """Local publish/subscribe topics with MQTT wildcards."""
        sources = self._configuration.get("pubsubTopics", {}).values()
        return any(
            source.get("type") == "PUB_SUB" and topic_matches(source["topic"], topic) for source in sources
        )

    @property
    def pid(self) -> int | None:
        return self._environment.pid if self._environment.alive else None


def topic_matches(pattern: str, topic: str) -> bool:
    """``+`` stands for one level, a final ``#`` for any number."""
    wanted, given = pattern.split("/"), topic.split("/")
    for index, part in enumerate(wanted):
        if part == "#":
            return True
        if index >= len(given) or (part != "+" and part != given[index]):
            return False
    return len(wanted) == len(given)
