"""A job that runs on this machine, at once: no stack and no queue; contract, environment and export as on a rig."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus import documents
from isthmus.errors import InvalidJob
from isthmus.frameworks.curves import CurveRecorder
from isthmus.frameworks.printed import keep_metrics, metrics_in
from isthmus.model.dataset import DatasetFile
from isthmus.model.job import Job, Training
from isthmus.model.output import CURVES_FILE
from isthmus.ports import GoOn, Threads, TrainingRun
from isthmus.rig import feeder, output
from isthmus.rig.cache import CachedFile
from isthmus.rig.contract import Layout
from isthmus.rig.runner import Runner, TrainingRequest
from isthmus.rig.streams import Stream, Streams
from isthmus.sync import run_folder


@dataclass(frozen=True)
class LocalJob:
    """``code`` is the packed archive; ``files`` lie in ``data``, and what the run leaves goes to ``out``.

    ``home`` is where it works, and is removed at the end.
    """

    home: Path
    job: Job
    code: Path
    data: Path
    files: tuple[DatasetFile, ...]
    out: Path


class _Nothing:
    """Where files would come from that are not there yet; here all are."""

    def hand_out(self, files: Sequence[CachedFile], go_on: GoOn) -> Generator[Path]:
        yield from ()


class LocalRun:
    """One run, in a thread of its own: it can be followed, and stopped.

    ``state``: RUNNING, then SUCCEEDED, FAILED (``cause`` says why) or ABORTED. ``left``: the files that it left in
    ``out``, by their names in it, once it has ended.
    """

    def __init__(
        self,
        given: LocalJob,
        runner: Runner,
        threads: Threads,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not isinstance(given.job.source, Training):
            raise InvalidJob("needs a job that trains; this one imports a model, which runs nothing")
        self._given, self._training, self._runner, self._on_line = given, given.job.source, runner, on_line
        self._threads = threads
        self._work = given.home.absolute() / "attempt"
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._metrics: dict[str, float] = {}
        self._recorder = CurveRecorder()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="isthmus-local-run", daemon=True)
        self.state, self.cause, self.seconds = "RUNNING", "", 0.0
        self.left: frozenset[str] = frozenset()

    def start(self) -> LocalRun:
        """Begin; what earlier runs left in ``out`` is removed."""
        run_folder.clear(self._given.out)
        self._thread.start()
        return self

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, or so long; return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End it: SIGTERM now, SIGKILL after the grace."""
        self._stop.set()

    @property
    def metrics(self) -> dict[str, float]:
        """What it printed as ``name=value``, the newest of each."""
        with self._lock:
            return dict(self._metrics)

    def _run(self) -> None:
        try:
            request = self._request()
            with self._feeding():
                run = self._runner.run(request, self._stop)
            self._end(run)
        except Exception as error:  # whatever it is, who waits shall hear of it
            self.state, self.cause = "FAILED", f"{type(error).__name__}: {error}"
        finally:
            self._runner.close()
            shutil.rmtree(self._given.home, ignore_errors=True)

    def _request(self) -> TrainingRequest:
        folders = Layout(self._work)
        folders.make()
        streams = self._training.streams
        for file in () if streams else self._given.files:
            target = folders.data / (file.path if "/" in file.path else f"{file.channel}/{file.path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to((self._given.data / file.path).resolve())
        channels = {file.channel for file in self._given.files}
        return TrainingRequest(
            name=f"{self._given.job.model[:24]}-local",
            run_id=f"local-{uuid.uuid4().hex}",
            training=self._training,
            code=self._given.code,
            channels={channel: folders.data / channel for channel in channels},
            work=self._work,
            on_line=self._take,
            reads=None if streams else self._given.data.resolve(),
        )

    def _feeding(self) -> contextlib.AbstractContextManager[object]:
        """Feed the script that runs within the block, if its data are streamed. Raises as leaving ``Streams``."""
        if not self._training.streams:
            return contextlib.nullcontext()
        found: dict[str, list[tuple[Path, DatasetFile]]] = {}
        for file in self._given.files:
            found.setdefault(file.channel, []).append(((self._given.data / file.path).resolve(), file))
        channels = {
            name: Stream(
                [file.path for _, file in files],
                there=[(path, feeder.facts_of(path.stat())) for path, _ in files],
            )
            for name, files in found.items()
        }
        return Streams(
            channels,
            Layout(self._work).data,
            _Nothing(),
            self._threads,
            lambda event, **fields: None,
            record_io=self._training.wraps_records,
            on_failure=self._stop.set,
        )

    def _take(self, line: str) -> None:
        with self._lock:
            keep_metrics(line, self._metrics)
            seconds = time.monotonic() - self._started
            for name, value in metrics_in(line).items():
                if name in self._metrics:
                    self._recorder.add(name, seconds, value)
        self._on_line(line)

    def _end(self, run: TrainingRun) -> None:
        """Bring what it left to where it was asked for; the state comes last, for others read it."""
        output.write(self._work / output.METRICS_FILE, json.dumps(run.metrics, sort_keys=True).encode())
        output.write(self._work / CURVES_FILE, documents.encode(self._recorder.document()))
        left = dict(output.files(self._work))
        run_folder.note(self._given.out, left)
        for name, path in left.items():
            target = self._given.out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        self.seconds, self.left = run.seconds, frozenset(left)
        if run.stopped:
            self.state, self.cause = "ABORTED", "it was stopped"
        elif run.exit_code == 0:
            self.state = "SUCCEEDED"
        else:
            self.state, self.cause = "FAILED", f"exit code {run.exit_code}\n{run.tail}"
