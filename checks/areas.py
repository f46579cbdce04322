"""The environments that this repository locks, and what of each is shipped to someone."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import default_environment

from checks.findings import CheckError

RIGS = "src/isthmus/rig/environments"
LAMBDA = {
    **{name: str(value) for name, value in default_environment().items()},
    "implementation_name": "cpython",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.13.0",
    "python_version": "3.13",
    "sys_platform": "linux",
}
"""The platform that is shipped to: markers are read for it, whatever this machine is."""


@dataclass(frozen=True)
class Area:
    """One environment: the project whose ``uv.lock`` holds it, and the options of ``uv export``.

    ``requirements`` names the file in the repository that an environment is installed from, where it is
    not the lock itself: a layer leaves out some of what the lock would bring.
    """

    name: str
    project: str
    options: tuple[str, ...] = ()
    shipped: bool = False
    requirements: str = ""


LAYER = ("--no-dev", "--no-emit-project")
AREAS = (
    Area("dev", ".", ("--no-emit-project",)),
    Area("localcloud", "localcloud", ("--no-emit-project",)),
    Area("checkov", "checks/checkov"),
    Area("toolkit", "checks/toolkit"),
    Area("core-layer", ".", (*LAYER, "--extra=lambda"), True, "layers/core/requirements.txt"),
    Area("engine-layer", ".", (*LAYER, "--extra=engine"), True, "layers/onnx_runtime/requirements.txt"),
    Area("images-layer", ".", (*LAYER, "--extra=images"), True, "layers/images/requirements.txt"),
    Area(
        "quantization-layer",
        ".",
        (*LAYER, "--extra=quantization"),
        True,
        "layers/quantization/requirements.txt",
    ),
    Area("edge", ".", (*LAYER, "--extra=lambda"), True, "edge_lambda/requirements.txt"),
)


def areas(root: Path) -> list[Area]:
    """Return every environment, those in which rigs train (one folder each) included."""
    rigs = sorted((root / RIGS).glob("*/uv.lock"))
    return [*AREAS, *(_rig(path) for path in rigs)]


def _rig(lock: Path) -> Area:
    """Return a rig's environment. NVIDIA's libraries, gigabytes under NVIDIA's own licences, are nothing that this
    repository passes on: the rig's owner takes them from PyPI."""
    names = [package["name"] for package in tomllib.loads(lock.read_text())["package"]]
    proprietary = any(name.startswith("nvidia-") for name in names)
    name = lock.parent.name
    return Area(f"rig-{name}", f"{RIGS}/{name}", shipped=not proprietary)


def chosen(root: Path) -> list[Area]:
    """Return the environments named in ``AREAS``, separated by spaces; all when it is not set."""
    names = os.environ.get("AREAS", "").split()
    known = {area.name: area for area in areas(root)}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise CheckError(f"AREAS names {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


def requirements(root: Path, area: Area) -> str:
    """Return an area's requirements, each with version and hashes."""
    if area.requirements:
        return (root / area.requirements).read_text()
    return export(root, area, "requirements.txt", "--no-header", "--no-annotate")


def export(root: Path, area: Area, style: str, *options: str) -> str:
    """Return ``uv export`` of an area: ``requirements.txt`` or ``cyclonedx1.5``."""
    where = ["--project", str(root / area.project), f"--format={style}"]
    return uv(root, ["export", "--quiet", "--frozen", *where, *area.options, *options])


def uv(root: Path, arguments: Sequence[str]) -> str:
    """Run the pinned uv and return what it prints.

    Raises:
        CheckError: uv is not there, or it fails; the message holds its own.
    """
    program = os.environ.get("ISTHMUS_UV") or str(root / ".tools/bin/uv")
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise CheckError(f"uv is needed at {program}: run `make setup`") from error
    if done.returncode:
        raise CheckError(f"uv {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout
