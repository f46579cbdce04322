"""The stand-in core device's process: follows its deployments and keeps its components running.

``python -m isthmus_localcloud.edge.device ROOT`` with ROOT/device.json written by ``edge start``.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ..errors import PreflightError
from ..state import StateFolder
from .cloud import Cloud, Refused, Unreachable
from .identity import Identity
from .local_api import LocalApi
from .manager import Manager, NotStarted
from .resolver import CannotResolve, Item, resolve
from .store import BadArtifact, DeviceFolder, install_files
from .variables import Device

LOG = logging.getLogger(__name__)
POLL_SECONDS = 0.3
PR_SET_PDEATHSIG = 1


class CoreDevice:
    """One loop: report and ask, apply what is new, look after the components."""

    def __init__(self, device: Device, state: StateFolder) -> None:
        self.device = device
        self.cloud = Cloud(
            device.link_port, device.account, device.region, device.name, device.role, device.identity
        )
        self.manager = Manager(device, state)
        self.stopping = threading.Event()
        self.connected = False
        self.reports: dict[str, dict[str, Any]] = {}
        self._refused: list[str] = []

    def run(self) -> None:
        self.device.folder.make()
        api = LocalApi(self)
        api.start()
        self.manager.restore()
        while not self.stopping.wait(POLL_SECONDS):
            self.manager.check()
            self._follow_cloud()
        self.manager.stop()
        api.stop()

    def _follow_cloud(self) -> None:
        try:
            wanted = self.cloud.poll(self.report())
            self.connected = True
            ids = sorted(deployment["id"] for deployment in wanted)
            if ids not in (sorted(self.manager.deployments), self._refused):
                self._deploy(wanted, ids)
        except Unreachable as error:
            if self.connected:
                LOG.warning("the cloud is out of reach: %s", error)
            self.connected = False
        except Refused as error:
            LOG.warning("the cloud refused a request: %s", error)

    def _deploy(self, wanted: list[dict[str, Any]], ids: list[str]) -> None:
        """Raises Unreachable when the link goes while fetching: the next round begins again."""
        self._mark(ids, "IN_PROGRESS")
        self.cloud.poll(self.report())
        before, before_ids = list(self.manager.plan.values()), list(self.manager.deployments)
        try:
            if self.device.has_credentials:
                self.device.credentials.update(self.cloud.credentials())
            items = resolve(wanted, self.cloud.versions)
            for item in items:
                install_files(self.device.folder, item, self.cloud)
        except (CannotResolve, BadArtifact, Refused, OSError, ValueError) as error:
            self._fail(ids, error)
            return
        self.manager.note_nucleus(wanted)
        try:
            self.manager.apply(items, ids)
        except NotStarted as error:
            self._fail(ids, error)
            self._roll_back(before, before_ids)
            return
        self._refused = []
        self._mark(ids, "COMPLETED")
        LOG.info("deployment %s completed", ids)

    def _roll_back(self, items: list[Item], ids: list[str]) -> None:
        """To the plan before, as failureHandlingPolicy ROLLBACK, the default, asks."""
        broken = self.manager.states()
        if not items:
            return
        try:
            self.manager.apply(items, ids)
        except NotStarted as error:
            LOG.error("rolling back failed: %s (after %s)", error, broken)

    def _mark(self, ids: list[str], status: str, reason: str = "") -> None:
        for identity in ids:
            self.reports[identity] = {"status": status, "reason": reason or status}

    def _fail(self, ids: list[str], error: Exception) -> None:
        LOG.error("deployment %s failed: %s", ids, error)
        self._refused = ids
        new = [identity for identity in ids if identity not in self.manager.deployments] or ids
        for identity in new:
            self.reports[identity] = {
                "status": "FAILED",
                "reason": str(error),
                "error_stack": ["DEPLOYMENT_FAILURE", ERROR_CODES.get(type(error), "COMPONENT_UPDATE_ERROR")],
                "error_types": ["COMPONENT_ERROR" if isinstance(error, NotStarted) else "REQUEST_ERROR"],
            }

    def report(self) -> dict[str, Any]:
        states = self.manager.states()
        broken = any(entry["lifecycleState"] == "BROKEN" for entry in states)
        status = "UNHEALTHY" if broken else "HEALTHY"
        return {"status": status, "components": states, "deployments": self.reports}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Local commands. Raises KeyError or ValueError with a sentence."""
        payload = json.dumps(request.get("payload")).encode()
        match request["op"]:
            case "status":
                return {"connected": self.connected, "installed": self.manager.deployments, **self.report()}
            case "invoke":
                return self.manager.find(request["component"]).invoke(payload)
            case "publish":
                return {"delivered": self.manager.publish(request["topic"], payload)}
        raise ValueError(f"unknown command {request['op']}")


ERROR_CODES = {
    CannotResolve: "COMPONENT_VERSION_REQUIREMENTS_NOT_MET",
    BadArtifact: "ARTIFACT_CHECKSUM_MISMATCH",
    Refused: "ARTIFACT_DOWNLOAD_ERROR",
    NotStarted: "COMPONENT_BROKEN",
    PreflightError: "COMPONENT_BROKEN",
}


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    root = Path(sys.argv[1])
    saved = json.loads((root / "device.json").read_text())
    state = StateFolder.of_this_process()
    device = Device(
        name=saved["name"],
        folder=DeviceFolder(root),
        account=saved["account"],
        region=saved["region"],
        link_port=saved["link_port"],
        role=saved.get("role"),
        identity=Identity.read(Path(saved["config"])) if saved.get("config") else None,
    )
    core = CoreDevice(device, state)
    signal.signal(signal.SIGTERM, lambda *_: core.stopping.set())
    LOG.info("core device %s starts, pid %d", device.name, os.getpid())
    began = time.monotonic()
    core.run()
    LOG.info("core device %s ends after %.0f s", device.name, time.monotonic() - began)


if __name__ == "__main__":
    main()
