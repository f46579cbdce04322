"""Which interpreter runs which Lambda runtime. Ours runs python3.13; others are named by the user."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import PreflightError
from ..processes import base_interpreter

OWN_RUNTIME = f"python{sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True)
class Interpreter:
    """``foreign``: not ours, so it has to bring awslambdaric itself."""

    path: str
    foreign: bool

    @property
    def prefix(self) -> Path:
        return Path(self.path).resolve().parent.parent


def named_interpreters(state: Path) -> dict[str, str]:
    """What ``up --runtime NAME=PYTHON`` recorded."""
    file = state / "runtimes.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


def interpreter_for(runtime: str, state: Path) -> Interpreter:
    """Raises PreflightError when no interpreter is known for the runtime."""
    if runtime == OWN_RUNTIME:
        return Interpreter(os.path.realpath(base_interpreter()), foreign=False)
    named = named_interpreters(state)
    if path := named.get(runtime):
        return Interpreter(path, foreign=True)
    raise PreflightError(
        f"runtime {runtime} needs an interpreter that has awslambdaric, and only {OWN_RUNTIME} is at hand: "
        f"use Runtime: {OWN_RUNTIME}, or start with 'up --runtime {runtime}=PATH_TO_PYTHON'"
    )


def check_interpreter(runtime: str, path: str) -> None:
    """Raises PreflightError when the program is missing, of another version, or has no awslambdaric."""
    code = "import sys, awslambdaric; print('python%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    except OSError as error:
        raise PreflightError(
            f"runtime {runtime} needs a Python at {path}, but it cannot be started ({error.strerror}): "
            f"name an existing interpreter with --runtime {runtime}=PATH"
        ) from error
    found = done.stdout.strip()
    if done.returncode != 0 or found != runtime:
        reason = f"it is {found}" if found else "it cannot import awslambdaric"
        raise PreflightError(
            f"runtime {runtime} needs a {runtime} with awslambdaric at {path}, but {reason}: "
            f"make a virtual environment of that version with 'pip install awslambdaric boto3'"
        )
