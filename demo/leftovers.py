"""Ends a rig's agent that outlived the run which started it: a session of its own is not ended with it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

END_SECONDS = 10.0


def end_agents(folder: Path) -> int:
    """SIGKILL every agent that works in ``folder``, and wait for its end; return how many there were.

    An agent loses nothing by it: that is what its journal and its warden are for.
    """
    handles = list(_agents(folder))
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    for handle in handles:
        # A handle becomes readable when its process has ended (pidfd_open(2)).
        select.select([handle], [], [], END_SECONDS)
        os.close(handle)
    return len(handles)


def _agents(folder: Path) -> Iterator[int]:
    """Yield a handle of each: by its own command line, since a recorded id may be another process's by now."""
    for process in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        # Gone meanwhile, or another user's.
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(process)
            if _works_in(process, folder):
                yield handle
            else:
                os.close(handle)


def _works_in(process: int, folder: Path) -> bool:
    words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    pairs = list(pairwise(words))
    return ("rig", "run") in pairs and ("--folder", str(folder)) in pairs
