"""Runs trainings in container images, by Docker or Podman, where a job names an image.

The image holds Python 3.11 or newer as ``python3``, the framework, and ``onnx`` and ``onnxruntime`` for the
export. Its own entry point is not used: the script runs as in an environment of ours, with the attempt's folders
at ``/opt/ml``, no network, no capability, and no more rights than the agent's user has.

Sources: podman-run(1); Docker's "docker container run" reference; for GPUs "Support for Container Device
Interface" (Podman) and "Specialized Configurations with Docker" of the NVIDIA Container Toolkit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import isthmus
from isthmus.errors import EnvironmentProblem
from isthmus.ports import Flag
from isthmus.rig.child import run_step
from isthmus.rig.contract import Layout
from isthmus.rig.warden import RUN_ID

ENGINES = ("podman", "docker")
ASK = {
    "podman": ("info", "--format", "{{.Version.Version}} {{.Host.Security.Rootless}}"),
    "docker": ("info", "--format", "{{.ServerVersion}} {{.SecurityOptions}}"),
}
"""Answered by the engine that would run the container, not by the program alone."""
INSIDE = Layout(Path("/opt/ml"))
SOURCE = "/opt/isthmus"
PYTHON = "python3"
PIDS = 4096
ENGINE_FAILED = 125
"""Exit code when the engine itself failed (podman-run(1), "Exit Status"; Docker's are the same)."""
PULL_SECONDS = 3600
END_SECONDS = 60
FOR_CLIENT = (
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "CONTAINERS_CONF",
    "CONTAINER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
)
"""What the engine's program needs of the agent's environment; none of it gets into a container."""


@dataclass(frozen=True)
class Engine:
    """A container engine that answers. ``rootless``: its containers' root is the agent's own user."""

    name: str
    path: str
    version: str
    rootless: bool = False

    def client(self) -> dict[str, str]:
        """Return the environment of the engine's program."""
        return {name: os.environ[name] for name in FOR_CLIENT if name in os.environ}

    def pull(self, image: str, stop: Flag | None = None) -> None:
        """Make sure that an image is here; what is here is not asked for again.

        Raises:
            EnvironmentProblem: it cannot be pulled.
            AttemptLost: ``stop`` was set meanwhile.
        """
        if self._call("image", "inspect", image, seconds=END_SECONDS).returncode == 0:
            return
        last, command = deque(["it does not say why"], maxlen=1), [self.path, "pull", "--quiet", image]
        try:
            code = run_step(command, self.client(), last.append, stop=stop, limit_seconds=PULL_SECONDS)
        except OSError as error:
            raise EnvironmentProblem(f"{self.name} pull does not answer: {error}") from error
        if code:
            raise EnvironmentProblem(f"{self.name} cannot pull {image}: {last[-1][:400]}")

    def end(self, run_id: str) -> None:
        """Kill and remove a run's container; there may be none. An engine that does not answer keeps nobody
        from going on: the container's processes are ended as the run's."""
        with contextlib.suppress(EnvironmentProblem):
            self._call(*self.ending(run_id)[1:], seconds=END_SECONDS)

    def ending(self, run_id: str) -> list[str]:
        """Return the command that kills and removes a run's container."""
        at_once = ["--time", "0"] if self.name == "podman" else []
        return [self.path, "rm", "--force", *at_once, container_name(run_id)]

    def _call(self, *words: str, seconds: float) -> subprocess.CompletedProcess[str]:
        command = [self.path, *words]
        try:
            return subprocess.run(
                command,
                env=self.client(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnvironmentProblem(f"{self.name} {words[0]} does not answer: {error}") from error


def find(given: str | None = None) -> Engine | None:
    """Return the engine that is used: the argument, or ``ISTHMUS_CONTAINER_ENGINE``, or the first on the PATH that
    answers, Podman before Docker; None where none does."""
    named = given or os.environ.get("ISTHMUS_CONTAINER_ENGINE")
    for name in [named] if named else ENGINES:
        path = shutil.which(name)
        if path and (engine := _asked(path)):
            return engine
    return None


def _asked(path: str) -> Engine | None:
    name = Path(path).name
    if name not in ASK:
        return None
    try:
        told = Engine(name, path, "")._call(*ASK[name], seconds=30)
    except EnvironmentProblem:
        return None
    version, _, rest = told.stdout.strip().partition(" ")
    if told.returncode or not version[:1].isdigit():
        return None
    return Engine(name, path, version, "true" in rest or "rootless" in rest)


def container_name(run_id: str) -> str:
    """Return the name of a run's container, by which it is found again whatever became of the agent."""
    return f"isthmus-{run_id}"


def run_command(
    engine: Engine,
    image: str,
    program: Sequence[str],
    *,
    run_id: str,
    layout: Layout,
    channels: Mapping[str, Path],
    variables: Mapping[str, str],
    reads: Path | None = None,
    streams: bool = False,
    gpus: Sequence[str] = (),
) -> list[str]:
    """Return the command that runs ``program`` (its first word is the Python) in a container.

    ``variables`` are taken from the environment of this command, so that no process list shows them.
    """
    names = sorted({*variables, RUN_ID} - {"HOME"})
    return [
        # Not --rm: ``end`` removes it, and Docker's client on Podman 4's service takes every end for a success then.
        *(engine.path, "run", "--init", "--pull", "never", "--log-driver", "none"),
        *("--name", container_name(run_id), "--network", "none", *_user(engine)),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", str(PIDS)),
        # Mounted folders keep their labels: other agents and the owner read them too.
        *("--security-opt", "label=disable"),
        # PyTorch's loaders hand batches over in shared memory, of which an engine gives 64 MiB by itself.
        *("--shm-size", str(_memory_bytes() // 2)),
        *("--workdir", str(INSIDE.code), "--env", f"HOME={INSIDE.home}"),
        *(word for name in names for word in ("--env", name)),
        *(word for mount in mounts(layout, channels, reads, streams=streams) for word in ("--mount", mount)),
        *_devices(engine, gpus),
        *("--entrypoint", program[0], image, *program[1:]),
    ]


def _user(engine: Engine) -> list[str]:
    """Whoever runs the agent owns what the script writes."""
    own = f"{os.getuid()}:{os.getgid()}"
    if not engine.rootless:
        return ["--user", own]
    return ["--userns", "keep-id", "--user", own] if engine.name == "podman" else ["--user", "0:0"]


def mounts(
    layout: Layout, channels: Mapping[str, Path], reads: Path | None = None, *, streams: bool = False
) -> list[str]:
    """Return what the container sees of the machine: the attempt's folders, and this package to read.

    ``reads``: where links in the channels lead; it is seen by the same path, and only read. ``streams``: the channels
    come through pipes, of which more are made while the script runs: it sees the folder that they lie in.

    Raises:
        EnvironmentProblem: a folder's name holds a comma or a quote, which the engines' options cannot.
    """
    seen = {
        INSIDE.code: layout.code,
        INSIDE.model: layout.model,
        INSIDE.output: layout.output,
        INSIDE.checkpoints: layout.checkpoints,
        INSIDE.home: layout.home,
    }
    data = (
        {INSIDE.data: layout.data}
        if streams
        else {INSIDE.data / name: path for name, path in channels.items()}
    )
    only_read = {
        INSIDE.config: layout.config,
        Path(SOURCE, "isthmus"): Path(isthmus.__file__).parent,
        **data,
        **({reads: reads} if reads is not None else {}),
    }
    return [
        *(_mount(source, target) for target, source in seen.items()),
        *(_mount(source, target) + ",readonly" for target, source in only_read.items()),
    ]


def _mount(source: Path, target: Path) -> str:
    # Checkpoints are a link to where the job's attempts share them.
    where = str(source.resolve())
    if set(where + str(target)) & {",", '"'}:
        raise EnvironmentProblem(
            f"a container cannot have {where}: its name holds a comma or a quote; give the agent another folder"
        )
    return f"type=bind,source={where},target={target}"


def _devices(engine: Engine, gpus: Sequence[str]) -> list[str]:
    if not gpus:
        return []
    if engine.name == "podman":
        return [word for gpu in gpus for word in ("--device", f"nvidia.com/gpu={gpu}")]
    # The quotes belong to the value: without them Docker takes the comma for the end of it.
    return ["--gpus", f'"device={",".join(gpus)}"']


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
