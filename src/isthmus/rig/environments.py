"""Training environments: one folder per framework, version and lock, built once with uv.

A built environment is named by its lock's digest; a marker, written last, commits it, and says
by its time when the environment was last used.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import isthmus
from isthmus.errors import AttemptLost, EnvironmentProblem, InvalidJob
from isthmus.model.device import DeviceDescriptor
from isthmus.ports import Flag
from isthmus.rig import packages
from isthmus.rig.child import run_step
from isthmus.rig.definitions import DEFINITIONS, Definition, definitions
from isthmus.rig.fitness import unmet

MARKER = ".isthmus-complete"
SYSTEM_LIBRARIES = {"libgomp.so": "libgomp1", "libquadmath.so": "libquadmath0"}
"""What the wheels of training frameworks load from the system, by the Debian package that has it."""

UNUSED_SECONDS = 30 * 86_400
"""An environment that nobody used for so long makes room when another is built."""

LOCK_SECONDS = 0.5
"""Between looks at a lock that another agent has."""

Progress = Callable[[str], None]


def find_uv(given: str | None = None) -> str:
    """Return a uv that works: the argument, then ``ISTHMUS_UV``, then every ``uv`` on the PATH.

    Raises:
        EnvironmentProblem: none answers ``uv --version`` (a pyenv shim of that name may exist and fail).
    """
    named = [name for name in (given, os.environ.get("ISTHMUS_UV")) if name]
    for candidate in named[:1] or _on_path("uv"):
        if _answers(candidate):
            return candidate
    raise EnvironmentProblem(
        f"no working uv was found ({named[0] if named else 'PATH'}), and training environments are built "
        "with it: install it from https://docs.astral.sh/uv, or name it with ISTHMUS_UV"
    )


def _on_path(name: str) -> list[str]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [found for folder in folders if (found := shutil.which(name, path=folder))]


def _answers(uv: str) -> bool:
    try:
        done = subprocess.run([uv, "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.startswith(b"uv ")


class Environments:
    """Builds training environments below ``root`` and finds those that are there.

    ``device`` is the machine that they are matched with; without it each fits.
    """

    def __init__(
        self,
        root: Path,
        *,
        uv: str | None = None,
        definitions: Path = DEFINITIONS,
        device: DeviceDescriptor | None = None,
        progress: Progress = lambda line: None,
    ) -> None:
        self._root = root.absolute()
        self._uv = uv
        self._definitions = definitions
        self._device = device
        self._progress = progress

    def check(self, framework: str, version: str, *, accelerators: int = 0) -> None:
        """Ask whether an environment fits this machine, and a job that needs so many GPUs; nothing is fetched.

        Raises:
            InvalidJob: this rig has no such framework and version, or it computes on no GPU.
            EnvironmentProblem: the machine is not what it needs; the message has need and have.
        """
        self._matched(framework, version, accelerators)

    def _matched(self, framework: str, version: str, accelerators: int = 0) -> Definition:
        definition = self._definition(framework, version)
        needs = definition.needs()
        if accelerators and needs.processor_only:
            raise InvalidJob(
                f"the job needs {accelerators} GPUs; the environment of {framework} {version} computes on the processor"
            )
        if self._device is not None and (reason := unmet(needs, self._device)):
            raise EnvironmentProblem(f"{framework} {version} {reason}")
        return definition

    def prepare(self, names: Sequence[str]) -> None:
        """Build environments, named as ``mxnet-1.9.1``; without a name, all that fit this machine.

        Raises:
            InvalidJob, EnvironmentProblem: as ``ensure``.
        """
        fit = [
            entry
            for entry in definitions(self._definitions)
            if self._device is None or unmet(entry.needs(), self._device) is None
        ]
        for name in names or [entry.folder.name for entry in fit]:
            framework, _, version = name.rpartition("-")
            self.ensure(framework, version)

    def ensure(
        self, framework: str, version: str, stop: Flag | None = None, requirements: Path | None = None
    ) -> Path:
        """Return the interpreter of an environment, which is built if it is not there yet.

        ``requirements``: a job's own packages, which make it another environment.

        Raises:
            AttemptLost: ``stop`` was set while it was built, or while another process built it.
            InvalidJob: this rig has no such framework and version, or no rig can install the job's packages.
            EnvironmentProblem: something is missing on this machine; the message says how to get it.
        """
        definition = self._matched(framework, version)
        own = packages.read(requirements, definition) if requirements is not None else None
        digest = own.digest(definition) if own is not None else definition.digest()
        folder = self._root / f"{framework}-{version}-{digest[:16]}"
        interpreter = folder / "bin" / "python"
        if _is_complete(folder):
            _mark_used(folder)
            return interpreter
        with _locked(self._root / f"{folder.name}.lock", stop):
            if not _is_complete(folder):
                self._collect(folder)
                self._build(definition, folder, interpreter, stop, own)
        return interpreter

    def _collect(self, wanted: Path) -> None:
        """Remove what was not used for long: mostly environments of earlier locks."""
        oldest = time.time() - UNUSED_SECONDS
        for marker in self._root.glob(f"*/{MARKER}"):
            if marker.parent != wanted and marker.stat().st_mtime < oldest:
                self._progress(f"removing {marker.parent.name}, which was not used for 30 days")
                # First the marker: half a folder must not pass for an environment.
                marker.unlink()
                shutil.rmtree(marker.parent, ignore_errors=True)

    def _definition(self, framework: str, version: str) -> Definition:
        available = definitions(self._definitions)
        for entry in available:
            if (entry.framework, entry.version) == (framework, version):
                return entry
        names = ", ".join(f"{entry.framework} {entry.version}" for entry in available) or "none"
        raise InvalidJob(f"there is no training environment for {framework} {version}; there are: {names}")

    def _build(
        self,
        definition: Definition,
        folder: Path,
        interpreter: Path,
        stop: Flag | None,
        own: packages.Packages | None,
    ) -> None:
        """Build in place, since a virtual environment cannot be moved: the marker is the commit point."""
        uv = find_uv(self._uv)
        shutil.rmtree(folder, ignore_errors=True)
        self._progress(f"building the training environment for {definition.framework} {definition.version}")
        environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(folder), "UV_NO_PROGRESS": "1"}
        # An active virtual environment of ours is none of uv's business here; it would only warn.
        environment.pop("VIRTUAL_ENV", None)
        if definition.runs_on(sys.version_info[:2]):
            environment.setdefault("UV_PYTHON", os.path.realpath(sys.executable))
        self._run([uv, "sync", "--frozen", "--project", str(definition.folder)], environment, stop)
        if own is not None:
            self._install(own.command(uv, interpreter), environment, stop)
        self._progress(f"trying the training environment for {definition.framework} {definition.version}")
        command = [str(interpreter), "-P", "-c", _TRY_IMPORT, definition.framework]
        self._run(command, {"PATH": os.defpath, "PYTHONPATH": str(source_folder(self._root))}, stop)
        (folder / MARKER).write_text(definition.digest() + "\n", encoding="utf-8")

    def _install(self, command: list[str], environment: dict[str, str], stop: Flag | None) -> None:
        """Add a job's own packages; where no rig could, the fault is the job's."""
        try:
            self._run(command, environment, stop)
        except EnvironmentProblem as error:
            if any(fault in str(error) for fault in packages.JOBS_FAULTS):
                raise InvalidJob(f"the job's {packages.FILE} cannot be installed: {error}") from error
            raise

    def _run(self, command: list[str], environment: dict[str, str], stop: Flag | None) -> None:
        """Run a build step, passing its lines on as progress."""
        lines: list[str] = []

        def hear(line: str) -> None:
            lines.append(line.rstrip())
            self._progress(lines[-1])

        if run_step(command, environment, hear, stop=stop):
            tail = "\n".join(lines[-15:])
            raise EnvironmentProblem(f"{' '.join(command[:3])} failed: {_advice(tail)}\n{tail}")


_TRY_IMPORT = """
import importlib, sys
from isthmus.frameworks.launch import install
from isthmus.frameworks.port import framework
chosen = framework(sys.argv[1])
install(chosen)
importlib.import_module(chosen.module)
"""


def source_folder(root: Path) -> Path:
    """Return a folder for PYTHONPATH that holds isthmus and nothing else.

    Where isthmus is installed lie other packages (another numpy, say), which must not shadow those
    of a training environment.
    """
    folder = root / "source"
    link, package = folder / "isthmus", Path(isthmus.__file__).parent
    if not link.is_symlink() or link.resolve() != package.resolve():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".isthmus-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(package)
        temporary.replace(link)
    return folder


def _is_complete(folder: Path) -> bool:
    # The interpreter is a link to a Python elsewhere, which may have been uninstalled since.
    return (folder / MARKER).is_file() and (folder / "bin" / "python").exists()


def _mark_used(folder: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that cannot be written still serves
        os.utime(folder / MARKER)


def _advice(tail: str) -> str:
    if "no interpreter found" in tail.lower() or "python-build-standalone" in tail:
        return "uv found no fitting Python and could not download one: install it, or name it in UV_PYTHON"
    for library, package in SYSTEM_LIBRARIES.items():
        if library in tail:
            return f"{library} is missing: apt-get install {package}"
    return "see its last lines"


@contextlib.contextmanager
def _locked(path: Path, stop: Flag | None) -> Iterator[None]:
    """Let one process build at a time; the lock goes with its holder, however that ends.

    Raises:
        AttemptLost: ``stop`` was set while another process had it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while stop is not None and not _is_free(file):
            if stop.wait(LOCK_SECONDS):
                raise AttemptLost(f"stopped while another agent built {path.stem}")
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_free(file: IO[str]) -> bool:
    """Take a lock if nobody else has it; return whether it is taken."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
