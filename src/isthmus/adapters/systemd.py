"""Services of this machine, as systemd keeps them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from isthmus.errors import EnvironmentProblem

SYSTEM_UNITS = Path("/etc/systemd/system")
TIMEOUT_SECONDS = 60


class Systemd:
    """The machine's service manager or, with ``own``, the caller's own one.

    ``units``: the folder of unit files, where it is not the manager's usual one.
    """

    def __init__(self, *, own: bool, units: Path | None = None, systemctl: str = "systemctl") -> None:
        usual = Path.home() / ".config" / "systemd" / "user" if own else SYSTEM_UNITS
        self._units = units or usual
        self._command = (systemctl, "--user") if own else (systemctl,)

    def install(self, name: str, text: str) -> Path:
        """Write a unit, have it started now and at each boot, and return its file; may be repeated.

        Its manager alone can read it: settings may hold a proxy's password.

        Raises:
            EnvironmentProblem: there is no systemd, the caller may not write there, or it refuses the unit.
        """
        if shutil.which(self._command[0]) is None:
            raise EnvironmentProblem(
                "this machine has no systemctl; keep `isthmus rig run` running with the service manager that it has"
            )
        path = self._units / name
        try:
            self._units.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{name}.{os.getpid()}")
            fresh.unlink(missing_ok=True)
            with open(
                os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(text)
            os.replace(fresh, path)
        except OSError as error:
            raise EnvironmentProblem(
                f"{path} cannot be written ({error.strerror}): run this with sudo, or with --own for a service of "
                "your own"
            ) from error
        self._call("daemon-reload")
        self._call("enable", name)
        self._call("restart", name)
        return path

    def _call(self, *words: str) -> None:
        command = [*self._command, *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnvironmentProblem(f"{' '.join(command)} failed: {error}") from error
        if done.returncode:
            told = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
            raise EnvironmentProblem(f"{' '.join(command)} failed: {told}")
