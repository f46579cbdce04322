"""Run a training script inside its environment: ``python -m isthmus.frameworks.launch``.

The script sees what ``python train.py …`` would show it: ``__main__``, ``sys.argv``, ``sys.path[0]``
and the current folder. Two things are added: the framework's repairs, applied when (and only if) the
script imports it, and the failure file of the SageMaker contract (``/opt/ml/output/failure``).
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import TracebackType

from isthmus.errors import InvalidJob
from isthmus.frameworks.port import TrainingFramework, framework

FAILURE_LINES = 20


class PrepareOnImport(MetaPathFinder):
    """Prepares the interpreter at the framework's first import: other scripts pay nothing for it."""

    def __init__(self, chosen: TrainingFramework) -> None:
        self._chosen = chosen

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Find nothing, ever: the import goes on along ``sys.meta_path`` as usual."""
        if name == self._chosen.module:
            sys.meta_path.remove(self)
            self._chosen.prepare()


def install(chosen: TrainingFramework) -> None:
    """Arrange that ``chosen`` is prepared when it is imported."""
    sys.meta_path.insert(0, PrepareOnImport(chosen))


def command(
    python: str, name: str, script: Sequence[str], *, launcher: str = "", processes: int = 1
) -> list[str]:
    """Return what runs a script and its arguments in the environment of ``python``.

    ``launcher``: the framework's own, for as many processes; empty: one process.

    Raises:
        InvalidJob: the framework has no such launcher.
    """
    program = [python, "-P", "-m", "isthmus.frameworks.launch", "--framework", name, "--", *script]
    if not launcher:
        return program
    check_launcher(name, launcher)
    return [*framework(name).launch(launcher, python, processes), *program]


def variables(name: str, *launchers: str) -> dict[str, str]:
    """Return what the processes of a framework's launcher find in their environment."""
    return dict(framework(name).launch_variables) if launchers else {}


def check_launcher(name: str, launcher: str) -> None:
    """Raises InvalidJob: the framework is unknown, or has no such launcher."""
    there = framework(name).launchers
    if launcher not in there:
        raise InvalidJob(
            f"the job's distribution needs the launcher {launcher}; {name} has {', '.join(there) or 'none'}"
        )


def run_script(script: str, arguments: Sequence[str], failure: Path | None) -> int:
    """Run a script as ``python script arguments…`` and return its exit code.

    A failure's last lines go to standard error and to the ``failure`` file.
    """
    sys.argv = [script, *arguments]
    folder = str(Path(script).resolve().parent)
    if sys.flags.safe_path:  # python -P: nothing was put in front that could be replaced
        sys.path.insert(0, folder)
    else:
        sys.path[0] = folder
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        return _exit_code(stop, failure)
    except Exception as error:
        text = "".join(
            traceback.format_exception(type(error), error, _of_script(error.__traceback__, script))
        )
        return _fail(text, failure)
    return 0


def _exit_code(stop: SystemExit, failure: Path | None) -> int:
    if stop.code is None or stop.code == 0:
        return 0
    if isinstance(stop.code, int):
        _write(f"the script left with exit code {stop.code}", failure)
        return stop.code
    return _fail(f"{stop.code}\n", failure)


def _of_script(frames: TracebackType | None, script: str) -> TracebackType | None:
    """Drop our own frames; all of them are the script's if none is (a syntax error has none)."""
    current = frames
    while current is not None and current.tb_frame.f_code.co_filename != script:
        current = current.tb_next
    return current


def _fail(text: str, failure: Path | None) -> int:
    sys.stderr.write(text)
    _write("\n".join(text.splitlines()[-FAILURE_LINES:]), failure)
    return 1


def _write(text: str, failure: Path | None) -> None:
    if failure is not None:
        failure.write_text(text + "\n", encoding="utf-8")


def failure_file() -> Path | None:
    """Return ``$SM_OUTPUT_DIR/failure``, or None outside the SageMaker contract."""
    folder = os.environ.get("SM_OUTPUT_DIR")
    return Path(folder, "failure") if folder else None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="isthmus.frameworks.launch", description=__doc__)
    parser.add_argument("--framework", required=True)
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    install(framework(options.framework))
    return run_script(options.script, options.arguments, failure_file())


if __name__ == "__main__":
    sys.exit(main())
