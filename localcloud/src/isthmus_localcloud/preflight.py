"""What must hold before a local cloud starts. Each refusal names the need, the finding and the remedy."""

import os
import shutil
import socket
from pathlib import Path

from .errors import PreflightError

MIN_FREE_VARIABLE = "ISTHMUS_LOCALCLOUD_MIN_FREE_BYTES"
DEFAULT_MIN_FREE_BYTES = 1024**3
HOST = "127.0.0.1"


def check_disk(folder: Path) -> None:
    """Raises PreflightError when the state folder's file system has too little room."""
    needed = int(os.environ.get(MIN_FREE_VARIABLE) or DEFAULT_MIN_FREE_BYTES)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PreflightError(
            f"the local cloud needs {needed:,} bytes free for {folder}, but only {free:,} are: "
            f"free some space, or choose another folder with --state"
        )


def choose_port(port: int) -> int:
    """The port itself, or a free one for 0. Raises PreflightError when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PreflightError(
                f"the local cloud needs port {port} on {HOST}, but it cannot be bound ({error.strerror}): "
                f"end what uses it, or choose another with --port (0 takes any free one)"
            ) from error
        chosen: int = probe.getsockname()[1]
    return chosen
