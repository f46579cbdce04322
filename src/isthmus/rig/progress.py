"""What a training prints as ``name=value``, on its way to who watches: the latest values, every two seconds.

The item ``JOB#<job key>`` / ``PROGRESS`` holds them. It is news, not a result: what an attempt ended with is
in its outcome. While the network is away only the newest values wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from isthmus.errors import Conflict, PermissionMissing, Unavailable
from isthmus.model import layout
from isthmus.model.messages import Work
from isthmus.model.units import utc_of
from isthmus.rig.child import metrics_in
from isthmus.rig.services import Report, Services

EVERY_SECONDS = 2.0
"""With a watcher's look every 2.5 s, what is printed is seen within five."""
MAX_METRICS = 50
MAX_NAME_CHARACTERS = 200
"""An item stays small whatever a script prints."""


class Progress:
    """Takes a training's lines and tells the table of their metrics, in a thread of its own."""

    def __init__(self, work: Work, rig: str, services: Services, report: Report) -> None:
        self._work, self._rig, self._report = work, rig, report
        self._records, self._clock, self._threads = services.records, services.clock, services.threads
        self._closed = services.threads.flag()
        self._join: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._metrics: dict[str, float] = {}
        self._news = False
        self._silent = False
        self._said = ""

    def __enter__(self) -> Progress:
        self._join = self._threads.start(f"progress-{self._work.job_key[:8]}", self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._join()

    def take(self, line: str) -> None:
        """Note a line's metrics. Of more than ``MAX_METRICS`` names the first are kept, and none that is long."""
        found = {n: v for n, v in metrics_in(line).items() if len(n) <= MAX_NAME_CHARACTERS}
        if not found:
            return
        with self._lock:
            room = MAX_METRICS - len(self._metrics)
            fresh = [name for name in found if name not in self._metrics][: max(room, 0)]
            self._metrics |= {n: v for n, v in found.items() if n in self._metrics or n in fresh}
            self._news = True

    def _run(self) -> None:
        while not self._closed.wait(EVERY_SECONDS):
            self.tell()
        self.tell()

    def tell(self) -> None:
        """Write what is new; what cannot be written now is written at the next call."""
        with self._lock:
            if not self._news or self._silent:
                return
            metrics, self._news = dict(self._metrics), False
        try:
            self._write({"metrics": metrics, "rig": self._rig, "at": utc_of(self._clock.now())})
        except Unavailable:
            self._again()
        except Conflict:
            self._silent = True  # a later attempt tells of itself by now
        except PermissionMissing as error:
            self._silent = True
            self._say(str(error))
        except Exception as error:  # a thread that dies of it would tell nothing more
            self._again()
            self._say(f"{type(error).__name__}: {error}")

    def _again(self) -> None:
        with self._lock:
            self._news = True

    def _say(self, error: str) -> None:
        if error != self._said:
            self._said = error
            self._report("progress is not told", job_key=self._work.job_key, error=error)

    def _write(self, values: dict[str, Any]) -> None:
        key, fencing = layout.job_pk(self._work.job_key), self._work.fencing
        self._records.update(
            key, layout.PROGRESS, {"fencing": fencing, **values}, below={"fencing": fencing + 1}
        )
