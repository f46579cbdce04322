"""Death at a step: an agent kills itself right before or right after one of its durable steps, when it is told.

A step is one call that lasts: of the table, the queue, the bucket, Step Functions, the report's function or the spool,
named by its verb and by what it is about. A moment is ``before update LEASE``, or ``after spool begin``.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from isthmus.rig.services import Report, Services

STEPS = (
    "create WORK",
    "update WORK",
    "delete WORK",
    "delete message",
    "create LEASE",
    "update LEASE",
    "succeed task",
    "spool begin",
    "spool end",
    "spool remove",
    "write object",
    "update CHECKPOINT",
    "finished report",
)
"""In about the order of an attempt's life."""
MOMENTS = tuple(f"{when} {step}" for step in STEPS for when in ("before", "after"))
WRITES = {"put": "write object", "upload": "write object", "compose": "write object"}
JOB_KEY = re.compile("(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")

T = TypeVar("T")


class Doom:
    """The moments at which this process dies: told on standard input as ``number;moment;moment``, until the next line.

    Of several that are told the same one dies: who first makes the file of that number in ``folder``. It says ``dies``,
    at which moment, and which job its step was about, before.
    """

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder, self._report = folder, report
        self._number, self._moments = "", frozenset[str]()
        self._about = threading.local()

    def listen(self) -> None:
        """Hear orders from now on, in a thread of its own."""
        threading.Thread(target=self._hear, name="doom", daemon=True).start()

    def _hear(self) -> None:
        for line in sys.stdin:
            self._moments = frozenset()
            self._number, *moments = line.strip().split(";")
            self._moments = frozenset(moments)

    def step(self, name: str, arguments: Iterable[Any], call: Callable[[], T]) -> T:
        """Make a step, and die before or after it if that is the moment."""
        self._about.job_key = _job_key(arguments) or getattr(self._about, "job_key", "")
        self._reach(f"before {name}")
        result = call()
        self._reach(f"after {name}")
        return result

    def _reach(self, moment: str) -> None:
        if moment in self._moments and claim(self._folder, self._number):
            self._report("dies", job_key=self._about.job_key, moment=moment)
            os.kill(os.getpid(), signal.SIGKILL)


def claim(folder: Path, number: str) -> bool:
    """Return whether nobody has claimed this death before: of all processes one is told so."""
    try:
        os.close(os.open(folder / f"death-{number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _job_key(arguments: Iterable[Any]) -> str:
    found = (JOB_KEY.search(repr(argument)) for argument in arguments)
    return next((match.group() for match in found if match), "")


class Steps:
    """A port, or the spool: each of its calls is a step. ``name`` gets the method and its arguments."""

    def __init__(self, port: Any, doom: Doom, name: Callable[[str, tuple[Any, ...]], str]) -> None:
        self._port, self._doom, self._name = port, doom, name

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._port, method)

        def step(*arguments: Any, **named: Any) -> Any:
            return self._doom.step(
                self._name(method, arguments), arguments, lambda: call(*arguments, **named)
            )

        return step


def _record(method: str, arguments: tuple[Any, ...]) -> str:
    """``create`` and ``put`` take an item, the others its two keys."""
    item = arguments[0] if arguments and isinstance(arguments[0], dict) else None
    key = item["sk"] if item else arguments[1] if len(arguments) > 1 else ""
    return f"{method} {key.split('#')[0]}"


def through_steps(services: Services, doom: Doom) -> Services:
    """Return the same services, each call of which is a step."""
    return replace(
        services,
        records=Steps(services.records, doom, _record),
        queue=Steps(services.queue, doom, lambda method, _: f"{method} message"),
        tasks=Steps(services.tasks, doom, lambda method, _: f"{method} task"),
        blobs=Steps(services.blobs, doom, lambda method, _: WRITES.get(method, method)),
        reporter=Steps(services.reporter, doom, lambda method, _: f"{method} report"),
    )


def spool_steps(spool: Any, doom: Doom) -> Any:
    """Return the same spool, each call of which is a step."""
    return Steps(spool, doom, lambda method, _: f"spool {method}")
