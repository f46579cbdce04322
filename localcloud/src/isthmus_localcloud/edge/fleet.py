"""The supervisor's side of core devices: their processes and their links."""

import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import control
from ..engine import free_environment
from ..errors import EdgeError, LocalcloudError, NotRunningError
from ..preflight import choose_port
from ..processes import Program, kill_group, launch
from ..state import StateFolder, read_json, write_json
from .identity import Identity
from .registration import register

NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
START_SECONDS = 30.0
STOP_SECONDS = 25.0
POLL_SECONDS = 0.05


@dataclass
class Running:
    device: subprocess.Popen[bytes] | None = None
    link: subprocess.Popen[bytes] | None = None


class Fleet:
    """One command at a time per local cloud; invocations run beside each other."""

    def __init__(self, state: StateFolder, endpoint_url: str, region: str) -> None:
        self._state, self._endpoint_url, self._region = state, endpoint_url, region
        self._running: dict[str, Running] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Devices whose process runs."""
        return sorted(name for name, found in self._running.items() if alive(found.device))

    def command(self, request: dict[str, Any]) -> dict[str, Any]:
        """Raises EdgeError for what cannot be done."""
        name, action = str(request["name"]), request["action"]
        if not NAME.fullmatch(name):
            raise EdgeError(f"{name!r} cannot be a thing's name: it has to match {NAME.pattern}")
        if action in ("invoke", "publish"):
            return self._local(name, {**request, "op": action})
        with self._lock:
            match action:
                case "start":
                    return self._start(name, request.get("group"), request.get("role"), request.get("config"))
                case "stop":
                    return self._stop(name)
                case "cut" | "mend":
                    return self._set_link(name, cut=action == "cut")
                case "status":
                    return self.status(name)
        raise EdgeError(f"unknown command {action!r}")

    def _root(self, name: str) -> Path:
        return self._state.edge_dir / name.replace(":", "_")

    def _saved(self, name: str) -> dict[str, Any]:
        saved = read_json(self._root(name) / "device.json")
        if saved is None:
            raise EdgeError(f"there is no core device {name}: make one with 'edge start {name}'")
        return saved

    def _start(self, name: str, group: str | None, role: str | None, config: str | None) -> dict[str, Any]:
        running = self._running.setdefault(name, Running())
        if alive(running.device):
            return {**self.status(name), "already_running": True}
        root = self._root(name)
        root.mkdir(parents=True, exist_ok=True)
        saved = read_json(root / "device.json") or {
            "name": name,
            "account": "000000000000",
            "region": self._region,
            "link_port": 0,
            "cut": False,
        }
        saved["config"] = config or saved.get("config")
        if saved["config"] and (thing := Identity.read(Path(saved["config"])).thing) != name:
            raise EdgeError(f"{saved['config']} is of the core device {thing}, not of {name}")
        # Whoever has a certificate was made known by who gave it one.
        if not saved["cut"] and not saved["config"]:
            register(self._endpoint_url, saved["region"], name, group or saved.get("group"))
        if not alive(running.link):
            saved["link_port"] = choose_port(saved["link_port"])
        saved |= {
            "group": group or saved.get("group"),
            "role": role or saved.get("role"),
            "cloud_port": int(self._endpoint_url.rpartition(":")[2]),
        }
        write_json(root / "device.json", saved)
        if not saved["cut"] and not alive(running.link):
            running.link = self._launch(root, "link", [str(saved["link_port"]), str(saved["cloud_port"])])
        (root / "device.sock").unlink(missing_ok=True)
        running.device = self._launch(root, "device", [str(root)])
        self._await_socket(name, root, running.device)
        return self.status(name) if saved["cut"] else self._await_connection(name)

    def _launch(self, root: Path, module: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        (root / "logs").mkdir(exist_ok=True)
        command = [sys.executable, "-m", f"isthmus_localcloud.edge.{module}", *arguments]
        with (root / "logs" / ("greengrass.log" if module == "device" else f"{module}.log")).open(
            "ab"
        ) as log:
            return launch(Program(command, free_environment(), str(root), root / "tmp"), log, isolate=False)

    def _await_socket(self, name: str, root: Path, device: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not (root / "device.sock").exists():
            if not alive(device) or time.monotonic() > deadline:
                raise EdgeError(f"the core device {name} did not start: see {root / 'logs/greengrass.log'}")
            time.sleep(POLL_SECONDS)

    def _await_connection(self, name: str) -> dict[str, Any]:
        """Until the device has reported once, so that the cloud knows the core device when the command
        returns."""
        deadline = time.monotonic() + START_SECONDS
        while not (found := self.status(name)).get("connected"):
            if time.monotonic() > deadline:
                raise EdgeError(f"the core device {name} does not reach the cloud: see {found['root']}/logs")
            time.sleep(POLL_SECONDS)
        return found

    def _stop(self, name: str) -> dict[str, Any]:
        self._saved(name)
        running = self._running.get(name, Running())
        if running.device is not None and alive(running.device):
            running.device.terminate()
            try:
                running.device.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                kill_group(running.device)
                running.device.wait()
        end(running.link)
        return {"name": name, "running": False}

    def _set_link(self, name: str, cut: bool) -> dict[str, Any]:
        saved = self._saved(name)
        running = self._running.setdefault(name, Running())
        saved["cut"] = cut
        write_json(self._root(name) / "device.json", saved)
        if cut:
            end(running.link)
        elif not alive(running.link):
            ports = [str(saved["link_port"]), str(saved["cloud_port"])]
            running.link = self._launch(self._root(name), "link", ports)
        return {"name": name, "link": "cut" if cut else "up"}

    def _local(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return control.ask(self._root(name) / "device.sock", request)
        except NotRunningError as error:
            raise EdgeError(
                f"the core device {name} is not running: start it with 'edge start {name}'"
            ) from error

    def status(self, name: str) -> dict[str, Any]:
        saved = self._saved(name)
        running = self._running.get(name, Running())
        about = {
            "name": name,
            "root": str(self._root(name)),
            "group": saved.get("group"),
            "running": alive(running.device),
            "link": "cut" if saved["cut"] else "up",
        }
        if not about["running"]:
            return about
        try:
            return {**about, **self._local(name, {"op": "status"})}
        except LocalcloudError as error:
            return {**about, "problem": str(error)}


def alive(process: subprocess.Popen[bytes] | None) -> bool:
    return process is not None and process.poll() is None


def end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None and alive(process):
        kill_group(process)
        process.wait()
