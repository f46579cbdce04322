"""Runs one training on this machine under the SageMaker contract: the script, then the export."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from isthmus.errors import EnvironmentProblem, InvalidJob
from isthmus.frameworks import launch
from isthmus.model.job import Framework, Training
from isthmus.model.slices import Slices
from isthmus.ports import Flag, TrainingRun
from isthmus.rig import packages, warden
from isthmus.rig.archive import unpack
from isthmus.rig.child import MAX_LINE_BYTES, Child, OnLine, Record
from isthmus.rig.containers import ENGINE_FAILED, Engine
from isthmus.rig.contract import Layout, arguments, write_config
from isthmus.rig.gpus import NO_GPU, Share
from isthmus.rig.joblog import MAX_LOG_BYTES, JobLog
from isthmus.rig.places import Place, image_of, in_container, in_environment
from isthmus.rig.standby import Standby

GRACE_SECONDS = 120.0
"""SageMaker's time between SIGTERM and SIGKILL."""
EXPORT_SECONDS = 900
"""For export and parity check, which the job's deadline does not count."""


@dataclass(frozen=True)
class TrainingRequest:
    """One attempt to run. ``code`` is the verified archive; ``channels`` are folders of verified files.

    ``run_id`` names the attempt's processes, on this machine and once only. ``on_line`` hears what they print.
    ``reads``: the folder to which links in the channels lead, if they are links. ``withholds``: the data stay on this
    rig, and a line that was printed may tell of them.
    """

    name: str
    run_id: str
    training: Training
    code: Path
    channels: Mapping[str, Path]
    work: Path
    on_line: OnLine = lambda line: None
    reads: Path | None = None
    withholds: bool = False


class Interpreter(Protocol):
    """``Environments.ensure``, or a test's own; the last argument is given for a job with packages of its own."""

    def __call__(
        self, framework: str, version: str, stop: Flag, requirements: Path | None = None, /
    ) -> Path: ...


class Runner(Protocol):
    """What runs a training: ``JobRunner``, or a test's own."""

    def check(self, training: Training) -> None: ...

    def run(self, request: TrainingRequest, stop: Flag) -> TrainingRun: ...

    def end(self, run_id: str) -> int: ...

    def warm(self) -> None: ...

    def close(self) -> None: ...


class JobRunner:
    """Runs trainings, one at a time.

    ``interpreter`` returns the Python of a framework's environment (``Environments.ensure``) unless it is
    stopped meanwhile, and ``source`` is a folder with nothing but isthmus, for its PYTHONPATH
    (``source_folder``). ``fits`` raises when a framework's environment fits this machine not, or not a job with
    so many GPUs.
    ``share`` are the GPUs that it gives, all of them to each training; ``engine`` runs images.
    """

    def __init__(
        self,
        *,
        interpreter: Interpreter,
        source: Path,
        fits: Callable[[Framework, int], None] = lambda framework, accelerators: None,
        share: Share = NO_GPU,
        engine: Engine | None = None,
        grace_seconds: float = GRACE_SECONDS,
        on_line: OnLine = lambda line: None,
        log_bytes: int = MAX_LOG_BYTES,
    ) -> None:
        self._interpreter = interpreter
        self._source = source
        self._fits = fits
        self._share = share
        self._engine = engine
        self._grace_seconds = grace_seconds
        self._on_line = on_line
        self._log_bytes = log_bytes
        self._standby = Standby()

    def warm(self) -> None:
        """Have ready what the next training's start would wait for."""
        self._standby.ready()

    def close(self) -> None:
        """Let go of what ``warm`` made."""
        self._standby.close()

    def check(self, training: Training) -> None:
        """Ask whether a training can run here; asked before anything of it is downloaded.

        Raises:
            InvalidJob: it asks for what its framework cannot do.
            EnvironmentProblem: this rig lacks something; the message has need and have.
        """
        needed, there = training.resources.accelerators, len(self._share.ids)
        if needed > there:
            raise EnvironmentProblem(f"the job needs {needed} GPUs; this agent has {there}")
        for launcher in training.launchers:
            launch.check_launcher(training.framework.name, launcher)
        if not image_of(training):
            self._fits(training.framework, needed)
        elif self._engine is None:
            raise EnvironmentProblem(
                "the job needs Docker or Podman for its image; on this rig neither answers: install one, or start it"
            )

    def end(self, run_id: str) -> int:
        """End what an earlier agent's run left; return how many processes were killed."""
        if self._engine is not None:
            self._engine.end(run_id)
        return warden.kill_run(run_id)

    def run(self, request: TrainingRequest, stop: Flag) -> TrainingRun:
        """Train, export and check parity; the script's own failures are in the result.

        Setting ``stop`` (from any thread) ends it: SIGTERM at once, SIGKILL after the grace.

        Raises:
            InvalidJob: the archive cannot be unpacked, or has no such entry point.
            EnvironmentProblem: the environment cannot be built here, or the image not pulled or started.
            AttemptLost: ``stop`` was set before the script began.
        """
        self.check(request.training)
        started = time.monotonic()
        layout = self._prepare(request)
        training = request.training
        place = self._place(request, layout, stop)
        half = self._log_bytes // 2
        with JobLog(layout.log, head_bytes=half, tail_bytes=half) as log:
            record = Record(log, (request.on_line, self._on_line))
            child = Child(
                request.run_id,
                layout.code,
                place.variables,
                record,
                stop,
                self._grace_seconds,
                standby=self._standby,
                end=place.end,
            )
            code = child.run(place.wrap(self._script(training, place)), training.deadline_seconds)
            if code == 0 and not stop.is_set():
                code = child.run(place.wrap(_export(training, place)), EXPORT_SECONDS)
        if code == ENGINE_FAILED and image_of(training) and not layout.failure.is_file():
            # Of data that are read in place a line may tell, whoever printed it; the rig's log has it.
            said = "why stands in the rig's log" if request.withholds else "".join([*record.tail][-1:])
            raise EnvironmentProblem(f"the container could not be run: {said}")
        return TrainingRun(
            exit_code=code,
            tail=_with_failure("\n".join(record.tail), layout.failure),
            metrics=record.metrics,
            output=layout.root,
            seconds=time.monotonic() - started,
            stopped=stop.is_set(),
        )

    def _prepare(self, request: TrainingRequest) -> Layout:
        layout = Layout(request.work.absolute())
        layout.make()
        unpack(request.code, layout.code)
        if not (layout.code / request.training.entry_point).is_file():
            raise InvalidJob(f"the code archive has no {request.training.entry_point}")
        for channel, folder in request.channels.items():
            if folder.absolute() != layout.data / channel:
                (layout.data / channel).symlink_to(folder.absolute(), target_is_directory=True)
        write_config(layout, request.training, request.channels)
        return layout

    def _place(self, request: TrainingRequest, layout: Layout, stop: Flag) -> Place:
        image, framework = image_of(request.training), request.training.framework
        if image and self._engine is not None:
            self._engine.pull(image, stop)
            return in_container(request, layout, self._engine, image, self._share)
        own = layout.code / packages.FILE
        # Not for an image, which has no network and brings what its jobs need.
        also = (own,) if own.is_file() else ()
        python = self._interpreter(framework.name, framework.version, stop, *also)
        return in_environment(request, layout, python, self._source, self._share)

    def _script(self, training: Training, place: Place) -> list[str]:
        """Return the program that trains; with a launcher, a process for each GPU, in slices, one for each of them."""
        if training.slices is not msgspec.UNSET:
            return _together(training, training.slices, place)
        return launch.command(
            place.python,
            place.source,
            training.framework.name,
            [training.entry_point, *arguments(training.hyperparameters)],
            launcher=next(iter(training.launchers), ""),
            processes=max(1, len(self._share.ids)),
        )


def _together(training: Training, slices: Slices, place: Place) -> list[str]:
    options = ["--framework", training.framework.name, "--slices", msgspec.json.encode(slices).decode()]
    words = [training.entry_point, *arguments(training.hyperparameters)]
    return [place.python, "-P", "-m", "isthmus.bootstrap_together", *options, "--", *words]


def _export(training: Training, place: Place) -> list[str]:
    options = ["--model-dir", str(place.model), "--tolerance", str(training.parity_tolerance)]
    module = ["-P", "-m", "isthmus.frameworks.export", "--framework", training.framework.name]
    return [place.python, *module, *options]


def _with_failure(tail: str, failure: Path) -> str:
    """Add the failure file (SageMaker's way for a script to say why) unless the log ends with it."""
    reason = _regular(failure, MAX_LINE_BYTES).decode("utf-8", "replace").strip()
    return tail if reason in tail else f"{tail}\n{reason}"


def _regular(path: Path, max_bytes: int) -> bytes:
    """Return a file's beginning; nothing of what is none: a link could lead to what the script may not see."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with open(handle, "rb") as file:
        return file.read(max_bytes) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
