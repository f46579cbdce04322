"""Components with a recipe of their own: lifecycle scripts run by the shell."""

import subprocess
from collections.abc import Mapping
from typing import Any

from ..processes import Program, kill_group, launch
from .resolver import Item
from .store import manifest_of
from .variables import Device, environment, interpolate

INSTALL_TIMEOUT_SECONDS = 120.0
SHUTDOWN_TIMEOUT_SECONDS = 15.0
MAX_ATTEMPTS = 3


class ScriptFailed(Exception):
    """A lifecycle script did not end well; the text names the step and its exit code."""


class GenericComponent:
    """States as Greengrass names them: INSTALLED, STARTING, RUNNING, FINISHED, ERRORED, BROKEN."""

    def __init__(self, item: Item, plan: Mapping[str, Item], device: Device) -> None:
        self.item, self._plan, self._device = item, plan, device
        self.state, self.reason = "NEW", ""
        self._process: subprocess.Popen[bytes] | None = None
        self._attempts = 0
        manifest = manifest_of(item.recipe)[1]
        self._lifecycle: dict[str, Any] = manifest.get("Lifecycle") or item.recipe.get("Lifecycle") or {}
        self._lifecycle = {key.lower(): value for key, value in self._lifecycle.items()}

    def _script(self, step: str) -> tuple[str, float, dict[str, str]] | None:
        """Text, timeout in seconds and variables of a step, or None when there is none."""
        entry = self._lifecycle.get(step)
        if not entry:
            return None
        entry = {"script": entry} if isinstance(entry, str) else {k.lower(): v for k, v in entry.items()}
        setenv = {**self._lifecycle.get("setenv", {}), **entry.get("setenv", {})}
        values = {key: self._fill(str(value)) for key, value in setenv.items()}
        return (
            self._fill(entry.get("script", "")),
            float(entry.get("timeout", INSTALL_TIMEOUT_SECONDS)),
            values,
        )

    def _fill(self, text: str) -> str:
        return interpolate(text, self.item, self._plan, self._device)

    def _launch(self, script: str, setenv: Mapping[str, str]) -> subprocess.Popen[bytes]:
        work = self._device.folder.work(self.item.name)
        work.mkdir(parents=True, exist_ok=True)
        env = {**environment(self._device), **setenv}
        root = self._device.folder.root / "tmp" / f"root-{self.item.name}"
        with self._device.folder.log(self.item.name).open("ab") as log:
            return launch(Program(["/bin/sh", "-c", script], env, str(work), root), log)

    def _finish(self, step: str) -> None:
        """Run a step to its end. Raises ScriptFailed."""
        found = self._script(step)
        if found is None:
            return
        script, timeout, setenv = found
        process = self._launch(script, setenv)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            kill_group(process)
            process.wait()
            raise ScriptFailed(f"{step} of {self.item.name} did not end within {timeout:.0f} s") from error
        if code != 0:
            raise ScriptFailed(f"{step} of {self.item.name} {self.item.version} ended with exit code {code}")

    def install(self) -> None:
        """Raises ScriptFailed; runs once per deployment of this version."""
        try:
            self._finish("install")
        except ScriptFailed as error:
            self.state, self.reason = "BROKEN", str(error)
            raise
        self.state = "INSTALLED"

    def start(self) -> None:
        """``startup`` ends before the component counts as running; ``run`` goes on."""
        self._attempts += 1
        self.state = "STARTING"
        try:
            if "startup" in self._lifecycle:
                self._finish("startup")
                self.state = "RUNNING"
                return
        except ScriptFailed as error:
            self.state, self.reason = "ERRORED", str(error)
            return
        if (found := self._script("run")) is None:
            self.state = "FINISHED"
            return
        self._process = self._launch(found[0], found[2])
        self.state = "RUNNING"

    def check(self) -> None:
        """Notice the end of ``run``; three failures break the component."""
        if (
            self.state == "RUNNING"
            and self._process is not None
            and (code := self._process.poll()) is not None
        ):
            self.state = "FINISHED" if code == 0 else "ERRORED"
            self.reason = "" if code == 0 else f"run of {self.item.name} ended with exit code {code}"
        if self.state == "ERRORED":
            if self._attempts >= MAX_ATTEMPTS:
                self.state = "BROKEN"
            else:
                self.start()

    def stop(self) -> None:
        if self.state == "RUNNING" and "shutdown" in self._lifecycle:
            try:
                self._finish("shutdown")
            except ScriptFailed as error:
                self.reason = str(error)
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(SHUTDOWN_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                kill_group(self._process)
                self._process.wait()
        if self.state != "BROKEN":
            self.state = "INSTALLED"

    def invoke(self, payload: bytes) -> dict[str, Any]:
        raise ScriptFailed(f"{self.item.name} is no Lambda component, so it takes no events")

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None
