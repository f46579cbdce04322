"""The process behind a Lambda function: its files at AWS's paths and the environment that AWS documents."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..processes import Program, namespaces_work
from .interpreters import Interpreter

KEPT_FROM_HOST = ("LANG", "LC_ALL", "SSL_CERT_FILE")


@dataclass(frozen=True)
class FunctionFiles:
    """Unpacked code, merged layers (or None), the runtime's packages, and a writable folder of its own."""

    code: Path
    layers: Path | None
    runtime: Path
    scratch: Path


def new_scratch(parent: Path) -> Path:
    """A folder for one environment with ``tmp`` (its /tmp), ``root`` and an empty ``opt``."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    for name in ("tmp", "root", "opt"):
        (folder / name).mkdir()
    (folder / "tmp").chmod(0o1777)
    return folder


def remove_scratch(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def function_program(
    files: FunctionFiles, interpreter: Interpreter, runtime: str, variables: Mapping[str, str]
) -> Program:
    """The runtime's process. ``variables`` are the function's own and those the service adds."""
    isolated = namespaces_work()
    task, opt, packages, tmp = "/var/task", "/opt", "/var/runtime", "/tmp"
    layers = files.layers or files.scratch / "opt"
    if not isolated:
        task, opt, packages, tmp = (
            str(files.code),
            str(layers),
            str(files.runtime),
            str(files.scratch / "tmp"),
        )
    env = {name: os.environ[name] for name in KEPT_FROM_HOST if name in os.environ}
    env |= {
        "PATH": f"{Path(interpreter.path).parent}:/usr/local/bin:/usr/bin:/bin:{opt}/bin",
        "LD_LIBRARY_PATH": f"{task}:{task}/lib:{opt}/lib",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "HOME": tmp,
        "TMPDIR": tmp,
        "PYTHONPATH": packages if not interpreter.foreign else "",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        **variables,
        "LAMBDA_TASK_ROOT": task,
        "LAMBDA_RUNTIME_DIR": packages,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
    }
    if opt != "/opt":
        env["ISTHMUS_LOCALCLOUD_OPT"] = opt
    if interpreter.foreign:
        env["ISTHMUS_LOCALCLOUD_FOREIGN"] = "1"
    flags = ["-s"] if interpreter.foreign else ["-s", "-S"]
    return Program(
        argv=[interpreter.path, *flags, f"{packages}/bootstrap.py"],
        env={name: value for name, value in env.items() if value},
        cwd=task,
        root=files.scratch / "root",
        grafts={
            "/var/task": (files.code, True),
            "/opt": (layers, True),
            "/var/runtime": (files.runtime, True),
            "/tmp": (files.scratch / "tmp", False),
        },
        keep=[interpreter.prefix],
    )
