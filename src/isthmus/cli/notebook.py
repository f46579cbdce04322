"""``isthmus notebook run``: the same notebook, here, on a rig or on SageMaker."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli.output import Output
from isthmus.cli.pipeline import teller
from isthmus.errors import InvalidInput, MissingFile
from isthmus.frameworks.notebook import is_notebook
from isthmus.workflows.submit_job import PLACES

if TYPE_CHECKING:
    from isthmus.jobs import LocalHandle, StackHandle
    from isthmus.jobs.starting import Value

GOOD_ENDS = ("SUCCEEDED", "DEPLOYED")


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser("notebook", help="run a notebook as a job").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    verb = verbs.add_parser(
        "run", parents=[common], help="run it to its end; exit status 0 when it succeeded, or deployed"
    )
    verb.add_argument("notebook", type=Path)
    verb.add_argument("--on", choices=PLACES, required=True, help="where: this machine, a rig, SageMaker")
    verb.add_argument(
        "--job", type=Path, required=True, help="the job, as YAML; its entry point may be left out"
    )
    verb.add_argument("--data", type=Path, required=True, help="the dataset's folder")
    verb.add_argument("--name", required=True, help="the dataset's name")
    verb.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="over the job's hyperparameters; a value as in YAML: 3, 0.1, 1e-3, true, adam",
    )
    verb.add_argument("--out", type=Path, help="where what it leaves goes (default: NOTEBOOK.run)")
    verb.add_argument("--in-place", metavar="ROOT[/FOLDER]", help="as isthmus dataset push")
    verb.add_argument("--zone", help="as isthmus dataset push")
    verb.add_argument("--python", type=Path, help="with --on local: an interpreter that has what it needs")
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace, output: Output) -> int:
    from isthmus.jobs import StackHandle, submit

    if not is_notebook(options.notebook.name) or not options.notebook.is_file():
        raise InvalidInput(
            f"needs a notebook, a file that ends in .ipynb; there is no such {options.notebook}"
        )
    handle = submit(
        options.notebook,
        job=options.job,
        data=options.data,
        name=options.name,
        on=options.on,
        parameters=dict(parameter(text) for text in options.parameter),
        out=options.out,
        stack=options.stack,
        in_place=options.in_place,
        zone=options.zone,
        python=options.python,
        say=lambda line: output.progress(f"  {line}"),
    )
    if isinstance(handle, StackHandle):
        output.progress(f"job {handle.job_key}; it goes on if this is interrupted")
        status = handle.wait(progress=False, tell=teller(output))
    else:  # its own lines tell of it
        status = handle.wait(progress=False)
    document, text = _ended(handle, status)
    output.result(document, text)
    return 0 if status in GOOD_ENDS else 1


def parameter(text: str) -> tuple[str, Value]:
    """Return name and value of ``NAME=VALUE``, the value as in YAML. Raises InvalidInput: it is not of that form."""
    import yaml

    name, equals, value = text.partition("=")
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        read = None
    if not name or not equals or not isinstance(read, str | int | float | bool):
        raise InvalidInput(f"a parameter needs a name and one value, as in epochs=3; {text!r} is none")
    return name, _number(read) if read == value.strip() else read


def _number(text: Value) -> Value:
    """Return the number that a text is to anybody but YAML 1.1, whose floats need a dot: ``1e-3``."""
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _ended(handle: LocalHandle | StackHandle, status: str) -> tuple[dict[str, Any], str]:
    """Return how it ended: as a document, and as text."""
    from isthmus.jobs import StackHandle

    executed, why = "", ""
    try:
        executed = str(handle.notebook())
    except MissingFile as error:
        why = str(error)
    job_key = handle.job_key if isinstance(handle, StackHandle) else ""
    metrics = handle.metrics
    document = {
        "job_key": job_key,
        "status": status,
        "metrics": metrics,
        "notebook": executed,
        "not_here": why,
        "error": handle.error,
    }
    lines = [f"{handle.entry}: {status}"]
    if metrics:
        lines.append("metrics: " + " ".join(f"{name}={value:g}" for name, value in sorted(metrics.items())))
    lines.append(f"the executed notebook is {executed}" if executed else why)
    if handle.error:
        lines.append(handle.error.strip())
    return document, "\n".join(lines)
