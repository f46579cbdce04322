"""Run a training script inside its environment: ``python -P …/isthmus/frameworks/launch.py``.

By its path and not by ``-m``, whose own imports take as long as the interpreter's start.

The script sees what ``python train.py …`` would show it: ``__main__``, ``sys.argv``, ``sys.path[0]``
and the current folder. Two things are added: the framework's repairs, applied when (and only if) the
script imports it, and the failure file of the SageMaker contract (``/opt/ml/output/failure``).
"""

from __future__ import annotations

import builtins
import io
import os
import sys

# Whatever is imported here a script waits for: neither typing, argparse nor pathlib is.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from isthmus.frameworks.port import TrainingFramework

FAILURE_LINES = 20
FRAMEWORK = "ISTHMUS_FRAMEWORK"
"""Tells an interpreter that the script starts (a notebook's kernel) which framework to prepare."""
RUN_ID = "ISTHMUS_RUN_ID"
"""As ``rig.warden`` has it, which a training environment need not import."""
PROGRAM = "isthmus/frameworks/launch.py"
USAGE = f"python -P {PROGRAM} --framework NAME -- SCRIPT [ARGUMENT ...]"


class PrepareOnImport:
    """Prepares the interpreter at a module's first import (a finder of ``sys.meta_path``): other scripts pay nothing
    for it."""

    def __init__(self, module: str, prepare: Callable[[], None]) -> None:
        self._module = module
        self._prepare = prepare

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Find nothing, ever: the import goes on along ``sys.meta_path`` as usual."""
        if name == self._module:
            sys.meta_path.remove(self)
            self._prepare()


def install(chosen: TrainingFramework) -> None:
    """Arrange that ``chosen`` is prepared when it is imported."""
    sys.meta_path.insert(0, PrepareOnImport(chosen.module, chosen.prepare))


def install_named(name: str) -> None:
    """As ``install``, of a framework by its name, which is its module's; nothing of it is imported yet."""

    def prepare() -> None:
        from isthmus.frameworks.port import framework

        framework(name).prepare()

    sys.meta_path.insert(0, PrepareOnImport(name, prepare))


def command(
    python: str, source: str, name: str, script: Sequence[str], *, launcher: str = "", processes: int = 1
) -> list[str]:
    """Return what runs a script and its arguments in the environment of ``python``; ``source`` is where isthmus lies.

    ``launcher``: the framework's own, for as many processes; empty: one process.

    Raises:
        InvalidJob: the framework has no such launcher.
    """
    program = [python, "-P", f"{source}/{PROGRAM}", "--framework", name, "--", *script]
    if not launcher:
        return program
    from isthmus.frameworks.port import framework

    check_launcher(name, launcher)
    return [*framework(name).launch(launcher, python, processes), *program]


def variables(name: str, *launchers: str) -> dict[str, str]:
    """Return what the processes of a framework's launcher find in their environment."""
    if not launchers:
        return {}
    from isthmus.frameworks.port import framework

    return dict(framework(name).launch_variables)


def check_launcher(name: str, launcher: str) -> None:
    """Raises InvalidJob: the framework is unknown, or has no such launcher."""
    from isthmus.errors import InvalidJob
    from isthmus.frameworks.port import framework

    there = framework(name).launchers
    if launcher not in there:
        raise InvalidJob(
            f"the job's distribution needs the launcher {launcher}; {name} has {', '.join(there) or 'none'}"
        )


def run_script(script: str, arguments: Sequence[str], failure: str | None) -> int:
    """Run a script as ``python script arguments…`` and return its exit code.

    A failure's last lines go to standard error and to the file ``failure``.
    """
    sys.argv = [script, *arguments]
    folder = os.path.dirname(os.path.realpath(script))
    if sys.flags.safe_path:  # python -P: nothing was put in front that could be replaced
        sys.path.insert(0, folder)
    else:
        sys.path[0] = folder
    try:
        _execute(script)
    except SystemExit as stop:
        return _exit_code(stop, failure)
    except Exception as error:
        import traceback

        text = "".join(
            traceback.format_exception(type(error), error, _of_script(error.__traceback__, script))
        )
        return _fail(text, failure)
    return 0


def _execute(script: str) -> None:
    """Run a file as ``__main__``, which it stays: as ``runpy.run_path``, whose imports would take 6 ms."""
    with io.open_code(os.path.abspath(script)) as file:
        code = compile(file.read(), script, "exec", dont_inherit=True)
    module = type(sys)("__main__")
    module.__dict__.update(__file__=script, __builtins__=builtins, __spec__=None, __cached__=None)
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def _exit_code(stop: SystemExit, failure: str | None) -> int:
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


def _fail(text: str, failure: str | None) -> int:
    sys.stderr.write(text)
    _write("\n".join(text.splitlines()[-FAILURE_LINES:]), failure)
    return 1


def _write(text: str, failure: str | None) -> None:
    """Say why, unless the script has said so in the file itself."""
    if failure is not None and not (os.path.isfile(failure) and os.path.getsize(failure)):
        with open(failure, "w", encoding="utf-8") as file:
            file.write(text + "\n")


def failure_file() -> str | None:
    """Return ``$SM_OUTPUT_DIR/failure``, or None outside the SageMaker contract."""
    folder = os.environ.get("SM_OUTPUT_DIR")
    return os.path.join(folder, "failure") if folder else None


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--wait"]:
        return _wait()
    if len(given) < 4 or (given[0], given[2]) != ("--framework", "--"):
        sys.stderr.write(f"usage: {USAGE}\n")
        return 2
    install_named(given[1])
    os.environ[FRAMEWORK] = given[1]
    return run_script(given[3], given[4:], failure_file())


def _wait() -> int:
    """Wait on standard input for what to become: a line of JSON with ``arguments``, ``folder`` and ``variables``, which
    replace this process's. Without one nobody needs it."""
    import json

    address = _address_of_id()
    text = b""
    while not text.endswith(b"\n"):
        piece = os.read(0, 65_536)
        if not piece:
            return 0
        text += piece
    told = json.loads(text)
    variables: dict[str, str] = told["variables"]
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.chdir(told["folder"])
    if not _renamed(address, variables[RUN_ID]):
        os.execve(sys.executable, [sys.executable, "-P", __file__, *told["arguments"]], variables)
    coerced = {
        name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ
    }  # PEP 538: at its start
    os.environ.clear()
    os.environ.update(variables | coerced)
    return main(told["arguments"])


def _address_of_id() -> int | None:
    """Return where this process's first environment has the value of ``RUN_ID``."""
    try:
        import ctypes

        find = ctypes.CDLL(None).getenv
    except (ImportError, OSError, AttributeError):
        return None
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    address: int | None = find(RUN_ID.encode())
    return address


def _renamed(address: int | None, run_id: str) -> bool:
    """Write the run's id into the environment that ``/proc`` shows, of this process and of all that it forks: they are
    found by it (``rig.warden``). Return whether it stands there."""
    room, name = len(os.environ.get(RUN_ID, "")), run_id.encode()
    if address is None or len(name) > room:
        return False
    import ctypes

    ctypes.memmove(address, name.ljust(room, b"\0"), room)
    with open("/proc/self/environ", "rb") as file:
        return f"{RUN_ID}={run_id}".encode() in file.read().split(b"\0")


if __name__ == "__main__":
    sys.exit(main())
