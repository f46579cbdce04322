"""A crowd of invocations of one function shares a few environments, as many as the machine's cores can serve.

AWS gives each concurrent invocation an environment of its own, on hardware of its own. Here a hundred of them
would be a hundred processes that start on the same few cores: each slower than waiting its turn for one that
runs. Whoever waits too long gets an environment of its own after all, so a function that calls itself, and
waits for the answer, gets it.
"""

import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from localemu.services.lambda_.invocation.assignment import AssignmentService
from localemu.services.lambda_.invocation.lambda_models import InitializationType

ENVIRONMENTS = max(4, os.cpu_count() or 1)
WAIT_SECONDS = 10.0


class Crowd:
    """Lets ``size`` in at a time, by key, and nobody wait longer than ``wait_seconds``."""

    def __init__(self, size: int = ENVIRONMENTS, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._rooms: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(size))

    @contextlib.contextmanager
    def room(self, key: str) -> Iterator[bool]:
        """Yield whether there was room within the time."""
        with self._lock:
            room = self._rooms[key]
        let_in = room.acquire(timeout=self._wait_seconds)
        try:
            yield let_in
        finally:
            if let_in:
                room.release()


def apply() -> None:
    """Who has room finds an environment that is free: there are never more invocations than rooms."""
    original, crowd = AssignmentService.get_environment, Crowd()

    @contextlib.contextmanager
    def get_environment(
        self: Any, version_manager_id: str, function_version: Any, provisioning_type: InitializationType
    ) -> Iterator[Any]:
        on_demand = provisioning_type == InitializationType.on_demand
        room = crowd.room(version_manager_id) if on_demand else contextlib.nullcontext()
        with room, original(self, version_manager_id, function_version, provisioning_type) as environment:
            yield environment

    AssignmentService.get_environment = get_environment
