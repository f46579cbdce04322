"""The version before this one, deployed as its users have it: what an upgrade starts from.

``previous/`` holds the sources of the last release as they were released (template, functions, layers,
state machines, package): an upgrade is tested from what is out there, not from today's code with a
change in it.
"""

from __future__ import annotations

import dataclasses
import tarfile
from pathlib import Path

from demo.stamp import ROOT
from demo.system import System, run

ARCHIVE = next((Path(__file__).parent / "previous").glob("isthmus-*.tar.xz"))


def unpack(folder: Path) -> Path:
    """Unpack and build the previous version; return its project folder."""
    project = folder / ARCHIVE.name.removesuffix(".tar.xz")
    if not project.exists():
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        (project / ".tools").symlink_to(ROOT / ".tools")
    return project


def build(system: System, project: Path) -> None:
    """``sam build`` in the previous version's own folder."""
    run(
        [system.bin / "sam", "build", "--config-env", "local"],
        system.env,
        cwd=project,
        log=system.folder / "logs/sam-build.log",
    )


def beside(system: System, folder: Path, suffix: str) -> System:
    """Return a second system in the same cloud: another stack, another rig, the same endpoint.

    Its ``close`` ends its agent and leaves the cloud to the system that started it.
    """
    other = dataclasses.replace(
        system, folder=folder, stack=f"{system.stack}{suffix}", edge_port=0, _agent=None, _rig_keys={}
    )
    other.cloud = system.cloud
    aws = {name: value for name, value in system.env.items() if name.startswith("AWS_")}
    other.env |= aws
    other.endpoint_url = ""
    return other


def speak(system: System, project: Path | None) -> None:
    """Make the system's commands, its agent among them, those of a project (None: this version's)."""
    system.env.pop("PYTHONPATH", None)
    # The previous version's agent builds every environment that it knows, and takes no names.
    system.prepare = System.prepare if project is None else ()
    if project is not None:
        system.env["PYTHONPATH"] = str(project / "src")
