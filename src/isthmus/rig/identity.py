"""Which agent this is: an id that its folder keeps, and the folder to itself."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.errors import EnvironmentProblem
from isthmus.rig.disks import named

LOCK = "agent.lock"


def agent_id(folder: Path) -> str:
    """Return the id of the agent that works in ``folder``: the same after each of its deaths.

    Raises:
        EnvironmentProblem: the folder is another user's.
    """
    file = folder / "agent"
    with of_this_user(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            temporary = file.with_suffix(".new")
            temporary.write_text(uuid.uuid4().hex, encoding="ascii")
            os.replace(temporary, file)
        return file.read_text(encoding="ascii")


@contextmanager
def of_this_user(path: Path) -> Iterator[None]:
    """Say whose a file is, or what its disk lacks, where the work in it fails for that.

    Raises:
        EnvironmentProblem: it is another user's, or its disk is read-only or full.
    """
    try:
        yield
    except PermissionError as error:
        raise EnvironmentProblem(f"{path} is another user's: run this as that user, or with sudo") from error
    except OSError as error:
        if lacking := named(error, path):
            raise lacking from error
        raise


@contextmanager
def sole_agent(folder: Path) -> Iterator[None]:
    """Hold the folder: a second agent in it would end the first one's attempt as its own lost one.

    The lock is the kernel's (flock) and ends with its process, however that ends.

    Raises:
        EnvironmentProblem: another agent holds it, or it is another user's.
    """
    with of_this_user(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = (folder / LOCK).open("a+b")
    with held as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EnvironmentProblem(
                f"another agent works in {folder}; end it first, or give this one a --folder of its own"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def running_agent(folder: Path) -> int | None:
    """Return the process id of the agent that holds the folder, or None when none does.

    0: an agent of an earlier version, which wrote none.

    Raises:
        EnvironmentProblem: the folder is another user's.
    """
    try:
        with of_this_user(folder / LOCK):
            file = (folder / LOCK).open("rb")
    except FileNotFoundError:
        return None
    with file:
        try:
            # Shared: two that look at once do not see each other as an agent.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            written = file.read(32)
            return int(written) if written.isdigit() else 0
    return None
