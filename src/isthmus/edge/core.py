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
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.edge.model_store import InService, ModelStore, find_artifact
from isthmus.edge.server import EdgeServer
from isthmus.edge.trust import NO_PAPERS, Papers
from isthmus.errors import EnvironmentProblem, IsthmusError, ProofFailed
from isthmus.inference.bundle import Bundle
from isthmus.inference.lambda_handler import read_public_key
from isthmus.inference.proof import prove
from isthmus.inference.served import ServedModel
from isthmus.inference.service import ModelService, served
from isthmus.model.units import MIB

if TYPE_CHECKING:
    from isthmus.edge.cloud import Cloud
    from isthmus.edge.result_settings import ResultSettings
    from isthmus.edge.results import Results
    from isthmus.edge.split_settings import SplitSettings
    from isthmus.edge.splitting import SplitEngine

MAX_REQUEST_BYTES = 64 * MIB
STATUS_SECONDS = 10.0
"""How often the status of a split model is written at most, while requests come."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EdgeSettings:
    """What the edge core is told by its environment; without ``port`` it only answers events."""

    artifact: Path
    store: Path
    public_key_der: bytes
    port: int | None
    threads: int
    fail_when_refused: bool = False
    split: SplitSettings | None = None
    results: ResultSettings | None = None
    papers: Papers = NO_PAPERS

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> EdgeSettings:
        """Read ``ISTHMUS_MODEL_ARTIFACT``, ``ISTHMUS_EDGE_STORE``, ``ISTHMUS_PUBLIC_KEY``,
        ``ISTHMUS_EDGE_PORT`` (none: no server), ``ISTHMUS_EDGE_THREADS`` (default: all cores) and
        ``ISTHMUS_EDGE_ON_REFUSAL``: ``serve`` the previous model (default), or ``fail``, so that
        Greengrass sees the component break and rolls its deployment back. ``ISTHMUS_EDGE_KEYS`` (an array of signed
        key documents, the oldest first) and ``ISTHMUS_EDGE_RELEASE`` (a signed release document): see ``Trust``.
        ``ISTHMUS_EDGE_SLICES`` and what belongs to it: see ``SplitSettings``; ``ISTHMUS_EDGE_OUTBOX``: see
        ``ResultSettings``.

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
            split=_split(environment),
            results=_results(environment),
            papers=_papers(environment),
        )


class EdgeCore:
    """A proven model in service on this device."""

    def __init__(
        self, settings: EdgeSettings, cloud: Cloud | None = None, results: Results | None = None
    ) -> None:
        """Bring the model into service; ``cloud`` is asked for the rest of a split model, where the settings name one;
        ``results`` keeps what is answered.

        Raises:
            MissingFile, IsthmusError: see ``ModelStore.update``.
            ProofFailed: the new artifact was refused, and the settings say to fail then.
        """
        self._settings = settings
        self._candidate: ServedModel | None = None
        self._cloud, self._results = cloud, results
        self.split: SplitEngine | None = None
        self._split_refused = ""
        self._reporting, self._reported_at = threading.Lock(), -math.inf
        store = ModelStore(settings.store, settings.public_key_der, settings.papers)
        # Into an inbox each deployment puts a file of the same name.
        place = "" if settings.artifact.is_dir() else str(settings.artifact)
        self.in_service = store.update(find_artifact(settings.artifact), self._prove, place)
        models = [self._with_slices(self._served(self.in_service.bundle), self.in_service.bundle)]
        serve = ModelService if results is None else results.service
        self.service = serve(
            models, max_request_bytes=MAX_REQUEST_BYTES, max_response_bytes=MAX_REQUEST_BYTES
        )
        self.server: EdgeServer | None = None
        self._try_to_write_status()
        if self.in_service.is_failure and settings.fail_when_refused:
            raise ProofFailed(f"the deployed model was refused: {self.in_service.refused}")

    def start(self) -> None:
        """Begin to serve on loopback, where a port is set, and to keep results, where they are wanted."""
        if self._results is not None:
            self._results.start(self._report)
        if self._settings.port is not None:
            self.server = EdgeServer(self.service, self._settings.port, max_request_bytes=MAX_REQUEST_BYTES)
            self.server.start()

    def close(self) -> None:
        """End the server, if there is one."""
        if self.server is not None:
            self.server.close()
        if self._results is not None:
            self._results.close()
        if self.split is not None or self._results is not None:
            self._try_to_write_status()

    def write_status(self) -> None:
        """Write ``status.json``; of a split model also where requests were answered, and how the link is; of results,
        how many wait, and what became of the others."""
        split = self.split.status() if self.split is not None else None
        if self._split_refused:
            split = {"refused": self._split_refused}
        results = self._results.status() if self._results is not None else None
        write_status(self._settings.store, self.in_service, split, results)

    def _prove(self, bundle: Bundle) -> None:
        self._candidate = served(bundle, threads=self._settings.threads)
        self._candidate.engine.load()
        prove(bundle, self._candidate)

    def _with_slices(self, model: ServedModel, bundle: Bundle) -> ServedModel:
        """Return the model as it is, or, where there are slices of it and a cloud, one that uses them.

        Slices that cannot be used leave the whole in service: a newer model may have come before its slices.
        """
        split, cloud = self._settings.split, self._cloud
        if split is None or cloud is None or not split.cloud:
            return model
        from isthmus.edge.split_settings import split_engine

        key, threads = self._settings.public_key_der, self._settings.threads
        try:
            self.split = split_engine(split, bundle, model.engine, key, cloud, threads=threads)
        except IsthmusError as error:
            self._split_refused = f"{type(error).__name__}: {error}"
            logger.warning("slices are not used: %s", error)
            return model
        self.split.on_answer = self._report
        return msgspec.structs.replace(model, engine=self.split)

    def _report(self) -> None:
        now = time.monotonic()
        with self._reporting:
            if now - self._reported_at < STATUS_SECONDS:
                return
            self._reported_at = now
        self._try_to_write_status()

    def _try_to_write_status(self) -> None:
        try:
            self.write_status()
        except OSError as error:
            # A full disk is no reason to answer nothing.
            logger.warning("the status cannot be written: %s", error)

    def _served(self, bundle: Bundle) -> ServedModel:
        # The session that was proven is the one that serves: a second one would double the memory.
        candidate, self._candidate = self._candidate, None
        if candidate is not None and candidate.bundle_sha256 == bundle.sha256:
            return candidate
        return served(bundle, threads=self._settings.threads)


def write_status(
    store: Path,
    in_service: InService,
    split: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
) -> None:
    """Write ``status.json``: what serves, and why a newer artifact does not; for the device's reports."""
    status: dict[str, Any] = {
        "model": in_service.bundle.manifest.model,
        "release": in_service.bundle.manifest.release,
        "bundle": in_service.bundle.sha256,
        "artifact": in_service.artifact_sha256,
        "refused": in_service.refused,
        "warnings": list(in_service.warnings),
        **({"split": split} if split is not None else {}),
        **({"results": results} if results is not None else {}),
    }
    partial = store / ".status.json"
    partial.write_text(json.dumps(status))
    os.replace(partial, store / "status.json")


def _split(environment: Mapping[str, str]) -> SplitSettings | None:
    if not environment.get("ISTHMUS_EDGE_SLICES"):
        return None
    from isthmus.edge.split_settings import SplitSettings  # a device that starts has no use for it otherwise

    return SplitSettings.from_env(environment)


def _results(environment: Mapping[str, str]) -> ResultSettings | None:
    if not environment.get("ISTHMUS_EDGE_OUTBOX"):
        return None
    from isthmus.edge.result_settings import ResultSettings

    return ResultSettings.from_env(environment)


def _papers(environment: Mapping[str, str]) -> Papers:
    try:
        keys = msgspec.json.decode(environment.get("ISTHMUS_EDGE_KEYS") or "[]", type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise EnvironmentProblem(
            f"ISTHMUS_EDGE_KEYS must be a JSON array of key documents: {error}"
        ) from error
    return Papers([bytes(key) for key in keys], environment.get("ISTHMUS_EDGE_RELEASE", "").encode())


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise EnvironmentProblem(f"{name} must be set for the edge core")
    return value


def _number(name: str, text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
        raise EnvironmentProblem(f"{name} must be a number from {low} to {high}, not {text!r}")
    return int(text)
