"""What a training prints as ``name=value``, on its way to who watches: the latest values, every two seconds.

The item ``JOB#<job key>`` / ``PROGRESS`` holds them, ``CURVES`` how they went, every twenty seconds. They are
news, not a result: what an attempt ended with is in its outcome. While the network is away only the newest values
wait.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus import documents
from isthmus.errors import Conflict, PermissionMissing, Unavailable
from isthmus.frameworks.curves import CurveRecorder
from isthmus.frameworks.printed import metrics_in
from isthmus.model import layout
from isthmus.model.messages import Work
from isthmus.model.output import CURVES_FILE
from isthmus.model.units import utc_of
from isthmus.rig.output import write
from isthmus.rig.services import Report, Services

EVERY_SECONDS = 2.0
"""With a watcher's look every 2.5 s, what is printed is seen within five."""
CURVES_EVERY = 10
"""Curves are larger than values, and a table's write costs by the size: every tenth time is enough to see a trend."""
CURVE_POINTS = 60
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
        self._recorder = CurveRecorder()
        self._started_at = self._clock.now()
        self._news = False
        self._curves_news = False
        self._silent = False
        self._said = ""

    def __enter__(self) -> Progress:
        self._started_at = self._clock.now()
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
            kept = {n: v for n, v in found.items() if n in self._metrics or n in fresh}
            self._metrics |= kept
            seconds = self._clock.now() - self._started_at
            for name, value in kept.items():
                self._recorder.add(name, seconds, value)
            self._news = self._curves_news = True

    def leave(self, folder: Path) -> None:
        """Leave how the metrics went, if there are any, in an attempt's folder for those that look later."""
        with self._lock:
            curves = self._recorder.document()
        if curves["curves"]:
            with contextlib.suppress(OSError):  # a script may remove its folder; then it has no curves
                write(folder / CURVES_FILE, documents.encode(curves))

    def _run(self) -> None:
        rounds = 0
        while not self._closed.wait(EVERY_SECONDS):
            self.tell()
            rounds += 1
            if rounds % CURVES_EVERY == 0:
                self.tell_curves()
        self.tell()
        self.tell_curves()

    def tell(self) -> None:
        """Write what is new; what cannot be written now is written at the next call."""
        with self._lock:
            if not self._news or self._silent:
                return
            metrics, self._news = dict(self._metrics), False
        if not self._told(layout.PROGRESS, {"metrics": metrics, "rig": self._rig, "at": self._now()}):
            with self._lock:
                self._news = True

    def tell_curves(self) -> None:
        """As ``tell``, of how the metrics went."""
        with self._lock:
            if not self._curves_news or self._silent:
                return
            curves, self._curves_news = self._recorder.document(CURVE_POINTS), False
        if not self._told(layout.CURVES, {"metrics": curves, "at": self._now()}):
            with self._lock:
                self._curves_news = True

    def _told(self, kind: str, values: dict[str, Any]) -> bool:
        """Write an item of news; return False if that shall be tried again."""
        try:
            self._write(kind, values)
        except Unavailable:
            return False
        except Conflict:
            self._silent = True  # a later attempt tells of itself by now
        except PermissionMissing as error:
            self._silent = True
            self._say(str(error))
        except Exception as error:  # a thread that dies of it would tell nothing more
            self._say(f"{type(error).__name__}: {error}")
            return False
        return True

    def _now(self) -> str:
        return utc_of(self._clock.now())

    def _say(self, error: str) -> None:
        if error != self._said:
            self._said = error
            self._report("progress is not told", job_key=self._work.job_key, error=error)

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        key, fencing = layout.job_pk(self._work.job_key), self._work.fencing
        self._records.update(key, kind, {"fencing": fencing, **values}, below={"fencing": fencing + 1})
