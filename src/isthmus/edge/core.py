"""The edge core: settings, the model in service, and the server in front of it.

How the model gets here. Greengrass imports a Lambda function's deployment package without its
layers, so the model is a generic component of its own, which the Lambda component depends on
(HARD: a new model restarts the Lambda). Recipe variables like ``{component:artifacts:path}`` reach
the lifecycle scripts of generic components always, but a Lambda component's environment only where
the nucleus is configured with ``interpolateComponentConfiguration``. So ``ISTHMUS_MODEL_ARTIFACT``
is a plain path, and either of two suits:

- the file itself in the nucleus's own layout,
  ``<root>/packages/artifacts/<component>/<version>/bundle.zip`` (``Unarchive: NONE``);
- an inbox folder into which the model component's ``install`` script, run at each start of the
  nucleus, moves the file: ``cp {artifacts:path}/bundle.zip INBOX/.new && mv INBOX/.new INBOX/model.zip``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isthmus.edge.model_store import InService, ModelStore, find_artifact
from isthmus.edge.server import EdgeServer
from isthmus.errors import EnvironmentProblem, ProofFailed
from isthmus.inference.bundle import Bundle
from isthmus.inference.lambda_handler import read_public_key
from isthmus.inference.proof import prove
from isthmus.inference.served import ServedModel
from isthmus.inference.service import ModelService, served
from isthmus.model.units import MIB

MAX_REQUEST_BYTES = 64 * MIB


@dataclass(frozen=True)
class EdgeSettings:
    """What the edge core is told by its environment; without ``port`` it only answers events."""

    artifact: Path
    store: Path
    public_key_der: bytes
    port: int | None
    threads: int
    fail_when_refused: bool = False

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> EdgeSettings:
        """Read ``ISTHMUS_MODEL_ARTIFACT``, ``ISTHMUS_EDGE_STORE``, ``ISTHMUS_PUBLIC_KEY``,
        ``ISTHMUS_EDGE_PORT`` (none: no server), ``ISTHMUS_EDGE_THREADS`` (default: all cores) and
        ``ISTHMUS_EDGE_ON_REFUSAL``: ``serve`` the previous model (default), or ``fail``, so that
        Greengrass sees the component break and rolls its deployment back.

        Raises:
            EnvironmentProblem: one is missing or cannot be read.
        """
        port = environment.get("ISTHMUS_EDGE_PORT")
        threads = environment.get("ISTHMUS_EDGE_THREADS")
        on_refusal = environment.get("ISTHMUS_EDGE_ON_REFUSAL", "serve")
        if on_refusal not in ("serve", "fail"):
            raise EnvironmentProblem(f"ISTHMUS_EDGE_ON_REFUSAL must be serve or fail, not {on_refusal!r}")
        return cls(
            artifact=Path(_required(environment, "ISTHMUS_MODEL_ARTIFACT")),
            store=Path(_required(environment, "ISTHMUS_EDGE_STORE")),
            public_key_der=read_public_key(environment),
            port=None if port is None else _number("ISTHMUS_EDGE_PORT", port, 0, 65535),
            threads=len(os.sched_getaffinity(0))
            if threads is None
            else _number("ISTHMUS_EDGE_THREADS", threads, 1, 1024),
            fail_when_refused=on_refusal == "fail",
        )


class EdgeCore:
    """A proven model in service on this device."""

    def __init__(self, settings: EdgeSettings) -> None:
        """Bring the model into service.

        Raises:
            MissingFile, IsthmusError: see ``ModelStore.update``.
            ProofFailed: the new artifact was refused, and the settings say to fail then.
        """
        self._settings = settings
        self._candidate: ServedModel | None = None
        store = ModelStore(settings.store, settings.public_key_der)
        self.in_service = store.update(find_artifact(settings.artifact), self._prove)
        self.service = ModelService(
            [self._served(self.in_service.bundle)],
            max_request_bytes=MAX_REQUEST_BYTES,
            max_response_bytes=MAX_REQUEST_BYTES,
        )
        self.server: EdgeServer | None = None
        write_status(settings.store, self.in_service)
        if self.in_service.refused and settings.fail_when_refused:
            raise ProofFailed(f"the deployed model was refused: {self.in_service.refused}")

    def start(self) -> None:
        """Begin to serve on loopback, where a port is set."""
        if self._settings.port is not None:
            self.server = EdgeServer(self.service, self._settings.port, max_request_bytes=MAX_REQUEST_BYTES)
            self.server.start()

    def close(self) -> None:
        """End the server, if there is one."""
        if self.server is not None:
            self.server.close()

    def _prove(self, bundle: Bundle) -> None:
        self._candidate = served(bundle, threads=self._settings.threads)
        self._candidate.engine.load()
        prove(bundle, self._candidate)

    def _served(self, bundle: Bundle) -> ServedModel:
        # The session that was proven is the one that serves: a second one would double the memory.
        candidate, self._candidate = self._candidate, None
        if candidate is not None and candidate.bundle_sha256 == bundle.sha256:
            return candidate
        return served(bundle, threads=self._settings.threads)


def write_status(store: Path, in_service: InService) -> None:
    """Write ``status.json``: what serves, and why a newer artifact does not; for the device's reports."""
    status = {
        "model": in_service.bundle.manifest.model,
        "release": in_service.bundle.manifest.release,
        "bundle": in_service.bundle.sha256,
        "artifact": in_service.artifact_sha256,
        "refused": in_service.refused,
    }
    partial = store / ".status.json"
    partial.write_text(json.dumps(status))
    os.replace(partial, store / "status.json")


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise EnvironmentProblem(f"{name} must be set for the edge core")
    return value


def _number(name: str, text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
        raise EnvironmentProblem(f"{name} must be a number from {low} to {high}, not {text!r}")
    return int(text)
