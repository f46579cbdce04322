"""Runs one training on this machine under the SageMaker contract: the script, then the export."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import InvalidJob
from isthmus.model.job import Training
from isthmus.ports import TrainingRun
from isthmus.rig.archive import unpack
from isthmus.rig.child import MAX_LINE_BYTES, Child, OnLine, Record
from isthmus.rig.contract import Layout, arguments, environment, write_config

GRACE_SECONDS = 120.0
"""SageMaker's time between SIGTERM and SIGKILL."""
EXPORT_SECONDS = 900
"""For export and parity check, which the job's deadline does not count."""


@dataclass(frozen=True)
class TrainingRequest:
    """One attempt to run. ``code`` is the verified archive; ``channels`` are folders of verified files.

    ``run_id`` names the attempt's processes, on this machine and once only.
    """

    name: str
    run_id: str
    training: Training
    code: Path
    channels: Mapping[str, Path]
    work: Path


class JobRunner:
    """Runs trainings, one at a time.

    ``interpreter`` returns the Python of a framework's environment (``Environments.ensure``), and
    ``source`` is a folder with nothing but isthmus, for its PYTHONPATH (``source_folder``).
    """

    def __init__(
        self,
        *,
        interpreter: Callable[[str, str], Path],
        source: Path,
        accelerators: int = 0,
        grace_seconds: float = GRACE_SECONDS,
        on_line: OnLine = lambda line: None,
    ) -> None:
        self._interpreter = interpreter
        self._source = source
        self._accelerators = accelerators
        self._grace_seconds = grace_seconds
        self._on_line = on_line

    def run(self, request: TrainingRequest, stop: threading.Event) -> TrainingRun:
        """Train, export and check parity; the script's own failures are in the result.

        Setting ``stop`` (from any thread) ends it: SIGTERM at once, SIGKILL after the grace.

        Raises:
            InvalidJob: the archive cannot be unpacked, or has no such entry point.
            EnvironmentProblem: the framework's environment cannot be built here.
        """
        started = time.monotonic()
        layout = self._prepare(request)
        training = request.training
        python = str(self._interpreter(training.framework.name, training.framework.version))
        variables = self._variables(request, layout)
        with layout.log.open("wb") as log:
            record = Record(log, self._on_line)
            child = Child(request.run_id, layout.code, variables, record, stop, self._grace_seconds)
            code = child.run([python, "-P", "-m", *_launch(training)], training.deadline_seconds)
            if code == 0 and not stop.is_set():
                code = child.run([python, "-P", "-m", *_export(training, layout)], EXPORT_SECONDS)
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

    def _variables(self, request: TrainingRequest, layout: Layout) -> dict[str, str]:
        contract = environment(
            layout,
            request.training,
            request.channels,
            name=request.name,
            accelerators=self._accelerators,
            inherited=os.environ,
        )
        return contract | {"PYTHONPATH": str(self._source)}


def _launch(training: Training) -> list[str]:
    script = ["--", training.entry_point, *arguments(training.hyperparameters)]
    return ["isthmus.frameworks.launch", "--framework", training.framework.name, *script]


def _export(training: Training, layout: Layout) -> list[str]:
    options = ["--model-dir", str(layout.model), "--tolerance", str(training.parity_tolerance)]
    return ["isthmus.frameworks.export", "--framework", training.framework.name, *options]


def _with_failure(tail: str, failure: Path) -> str:
    """Add the failure file (SageMaker's way for a script to say why) unless the log ends with it."""
    if not failure.is_file():
        return tail
    reason = failure.read_text(encoding="utf-8", errors="replace").strip()[:MAX_LINE_BYTES]
    return tail if reason in tail else f"{tail}\n{reason}"
