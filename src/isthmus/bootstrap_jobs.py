"""The composition root of jobs that run on this machine, at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.rig.local_run import LocalRun
    from isthmus.rig.runner import JobRunner
    from isthmus.workflows.submit_job import Submission

LOCAL_FOLDER = Path(".isthmus/training")


def local_run(
    given: Submission,
    out: Path,
    *,
    folder: Path = LOCAL_FOLDER,
    python: Path | None = None,
    on_line: Callable[[str], None],
    report: Callable[[str], None],
) -> LocalRun:
    """A run of a job on this machine, not started yet; what it leaves goes to ``out``.

    ``folder`` keeps the environments. ``python``: an interpreter of one's own, instead of the environment of the job's
    framework.

    Raises:
        InvalidJob, InvalidInput: as ``prepare``.
    """
    from isthmus import documents
    from isthmus.adapters.system import SystemThreads
    from isthmus.model.job import Job
    from isthmus.rig.local_run import LocalJob, LocalRun
    from isthmus.workflows.push_dataset import prepare

    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    try:
        prepared = prepare(given.dataset, given.folder, given.job, given.base, home, installs=python is None)
        job = documents.decode(Job, (home / "job.json").read_bytes(), "the job")
        files = prepared.manifest.files
        local = LocalJob(home=home, job=job, code=home / "code.zip", data=given.folder, files=files, out=out)
        return LocalRun(local, _runner(folder, python, report), SystemThreads(), on_line)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _runner(folder: Path, python: Path | None, report: Callable[[str], None]) -> JobRunner:
    from isthmus.ports import Flag
    from isthmus.rig import containers
    from isthmus.rig.environments import Environments, source_folder
    from isthmus.rig.gpus import accelerators, nvml, share
    from isthmus.rig.runner import JobRunner

    def own(framework: str, version: str, stop: Flag, requirements: Path | None = None, /) -> Path:
        return Path(os.path.abspath(python or ""))

    environments = Environments(folder / "environments", progress=report)
    return JobRunner(
        interpreter=own if python is not None else environments.ensure,
        source=source_folder(folder),
        share=share(len(accelerators(nvml())), None, os.environ.get("CUDA_VISIBLE_DEVICES")),
        engine=containers.find(),
    )
