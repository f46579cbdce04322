"""``isthmus.submit``: a script or a notebook becomes a job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from isthmus import bootstrap, bootstrap_jobs
from isthmus.errors import InvalidInput, InvalidJob
from isthmus.jobs.handles import LocalHandle, StackHandle
from isthmus.sync import run_folder
from isthmus.workflows.in_place import locate
from isthmus.workflows.job_file import read_job
from isthmus.workflows.submit_job import LOCAL, PLACES, Submission
from isthmus.workflows.submit_job import submit as start

Value = str | int | float | bool


def submit(
    path: str | Path,
    *,
    job: Mapping[str, Any] | str | Path,
    data: str | Path,
    name: str,
    on: str | None = None,
    parameters: Mapping[str, Value] | None = None,
    out: str | Path | None = None,
    stack: str | None = None,
    in_place: str | None = None,
    zone: str | None = None,
    python: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> LocalHandle | StackHandle:
    """Start a job and return at once; ``wait()`` of what is returned follows it with a progress bar.

    ``path`` is the script or the notebook; a notebook that shall run itself names its own file, since no kernel knows
    it. ``job`` is a job as ``isthmus dataset push`` takes it, as a mapping or a YAML file: its ``source.entry_point``
    and ``source.code`` may be left out. ``data`` is the dataset's folder, ``name`` its name. ``on``: ``local``, ``rig``
    or ``sagemaker``; None: where the planner places it. ``parameters`` go over the job's hyperparameters. ``out``:
    where what it leaves goes, ``<stem>.run`` by default; what earlier runs left there is removed, and it is packed
    with no code. ``in_place`` and ``zone``: as ``isthmus dataset push``.
    ``python``: for ``local``, an interpreter of one's own, instead of the environment of the job's framework. ``say``
    hears what is prepared and, of a job that runs here, what it prints.

    Raises:
        InvalidInput: no such place, an argument that does not go with it, or an ``out`` that has code.
        InvalidJob: the job does not fit its schema, its code or its notebook's parameters.
        PolicyViolation: the data may not go where they would.
        EnvironmentProblem: there is no such stack.
    """
    if on is not None and on not in PLACES:
        raise InvalidInput(f"a job runs on {', '.join(PLACES)}; {on!r} is none of them")
    entry = Path(path)
    written, base = job_of(entry, job, parameters or {}, on)
    folder = Path(out) if out is not None else Path(f"{entry.stem}{run_folder.SUFFIX}")
    run_folder.check_apart(folder, base / str(written["source"]["code"]))
    if on == LOCAL:
        if in_place is not None:
            raise InvalidInput(
                "in_place is for jobs of a stack; on this machine data are read where they are anyway"
            )
        given = Submission(dataset=name, folder=Path(data), job=written, base=base)
        own = Path(python) if python is not None else None
        run = bootstrap_jobs.local_run(given, folder, python=own, on_line=say, report=say)
        return LocalHandle(run.start(), entry.name, folder)
    if python is not None:
        raise InvalidInput(
            "python is for jobs on this machine: elsewhere the job's framework says what runs it"
        )
    return _on_stack(entry, Submission(name, Path(data), written, base), folder, stack, in_place, zone, say)


def _on_stack(
    entry: Path,
    given: Submission,
    out: Path,
    stack: str | None,
    in_place: str | None,
    zone: str | None,
    say: Callable[[str], None],
) -> StackHandle:
    outputs = bootstrap.stack_outputs(stack or os.environ.get("ISTHMUS_STACK", "isthmus"))
    blobs, records = bootstrap.blobs(outputs["Bucket"]), bootstrap.records(outputs["Table"])
    if in_place is not None:
        there = locate(in_place, zone, bootstrap.devices(outputs["Table"]).list())
        given = Submission(given.dataset, given.folder, given.job, given.base, there)
    pushed, _ = start(
        given,
        records,
        blobs,
        bootstrap.bucket_zone(outputs),
        lambda file, number, total: say(f"{number}/{total}  {file}"),
    )
    run_folder.clear(out)
    pipeline, clock = bootstrap.pipeline(outputs), bootstrap.clock()
    return StackHandle(pushed.job_key, entry.name, out, pipeline, records, blobs, clock)


def job_of(
    entry: Path, job: Mapping[str, Any] | str | Path, parameters: Mapping[str, Value], on: str | None
) -> tuple[dict[str, Any], Path]:
    """Return the job that runs ``entry``, and the folder to which its paths are relative.

    Raises:
        InvalidJob: the job names another entry point.
    """
    written, base = (
        (dict(job), Path.cwd()) if isinstance(job, Mapping) else (read_job(Path(job)), Path(job).parent)
    )
    source = written.get("source")
    source = {"kind": "training", **source} if isinstance(source, dict) else {"kind": "training"}
    source.setdefault("code", str(entry.parent.resolve()))
    source.setdefault("entry_point", entry.name)
    named = base / str(source["code"]) / str(source["entry_point"])
    if named.resolve() != entry.resolve():
        raise InvalidJob(
            f"the job runs {named}, and not {entry}: leave out its source.entry_point and source.code"
        )
    source["hyperparameters"] = _over(source.get("hyperparameters") or {}, parameters)
    wishes = written.get("wishes") or {}
    if on is not None and on != LOCAL:
        wishes = {**wishes, "run_on": on}
    return {**written, "source": source, **({"wishes": wishes} if wishes else {})}, base


def _over(hyperparameters: Mapping[str, Value], parameters: Mapping[str, Value]) -> dict[str, Value]:
    """Put parameters over a job's; ``learning_rate`` and ``learning-rate`` are the same one."""
    names = {given.replace("-", "_"): given for given in hyperparameters}
    return {
        **hyperparameters,
        **{names.get(name.replace("-", "_"), name): value for name, value in parameters.items()},
    }
