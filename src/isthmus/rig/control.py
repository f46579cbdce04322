"""Telling the agent of a folder what to do, from another process of the same machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Literal

from isthmus.errors import EnvironmentProblem, Refused
from isthmus.ports import Clock
from isthmus.rig.identity import running_agent

Order = Literal["drain", "stop"]
SIGNALS = {"drain": signal.SIGTERM, "stop": signal.SIGUSR1}
"""What ``signals.obey_signals`` obeys."""
LOOK_SECONDS = 0.2


def order(folder: Path, what: Order) -> int:
    """Tell the agent that works in ``folder`` to drain or to stop; return its process id.

    Raises:
        Refused: no agent works there.
        EnvironmentProblem: it does not say which process it is, or it is another user's.
    """
    process = running_agent(folder)
    if process is None:
        raise Refused(f"no agent works in {folder}; name the folder of one with --folder")
    if not process:
        raise EnvironmentProblem(f"the agent in {folder} is of an earlier version: end it with kill -TERM")
    try:
        os.kill(process, SIGNALS[what])
    except ProcessLookupError:
        pass  # it left between the two looks, which is what was asked for
    except PermissionError as error:
        raise EnvironmentProblem(
            f"the agent in {folder} (process {process}) is another user's: run this as that user, or with sudo"
        ) from error
    return process


def wait_until_left(folder: Path, clock: Clock, seconds: float) -> bool:
    """Wait until no agent holds the folder any more; return whether that came within ``seconds``."""
    waited = 0.0
    while running_agent(folder) is not None:
        if waited >= seconds:
            return False
        clock.sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS
    return True
