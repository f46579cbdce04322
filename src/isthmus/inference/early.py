"""A model's session, begun before the modules that will serve it are imported (docs/adr/0032).

A cold start is the import of onnxruntime, which holds the interpreter's lock, and then the opening of a session, which
does not. So what a function imports of its own is imported while the session opens; and while onnxruntime is imported,
another thread checks that the model is the one that was staged: nothing is opened that was not verified.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from isthmus.inference.runtime import begin_loading, serving_session, threads_for_memory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnxruntime import InferenceSession

DEFAULT_MODEL_DIR = "/opt/isthmus/model"
MANIFEST_FILE, MODEL_FILE = "manifest.json", "model.onnx"
MAX_MANIFEST_BYTES = 2**20

_begun: EarlySession | None = None


class EarlySession:
    """Checks and opens one bundle's model in a thread of its own, and keeps any failure to itself: who asks for the
    session finds none then, does all of it again, and says what is wrong."""

    def __init__(self, folder: str, bundle_sha256: str, threads: int) -> None:
        self.path, self.threads = os.path.join(folder, MODEL_FILE), threads
        self._manifest = os.path.join(folder, MANIFEST_FILE)
        self._bundle_sha256 = bundle_sha256
        self._digest = ""
        self._session: InferenceSession | None = None
        self._is_checked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="early session", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._check()
            self._is_checked.set()
            if self._digest:
                self._session = serving_session(self.path, self.threads)
        except Exception:
            self._session = None
        finally:
            self._is_checked.set()

    def _check(self) -> None:
        """Set the model's digest if the bundle's manifest is the one that was named, and names this model."""
        import hashlib  # beside the import of onnxruntime, which needs none of these
        import json
        import mmap

        with open(self._manifest, "rb") as file:
            raw = file.read(MAX_MANIFEST_BYTES + 1)
        if len(raw) > MAX_MANIFEST_BYTES or hashlib.sha256(raw).hexdigest() != self._bundle_sha256:
            return
        (named,) = (entry for entry in json.loads(raw)["files"] if entry["path"] == MODEL_FILE)
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            # At once: to take the interpreter's lock back between pieces would stop the import again and again.
            digest = hashlib.sha256(mapped).hexdigest()
        if digest == named["sha256"]:
            self._digest = digest

    def digest(self) -> str:
        """Return the model's SHA-256 as found on the disk; empty where it is not the staged bundle's."""
        self._is_checked.wait()
        return self._digest

    def session(self) -> InferenceSession | None:
        """Wait for the session; None where it could not be opened."""
        self._thread.join()
        return self._session


def begin(environment: Mapping[str, str]) -> None:
    """Begin with what the environment names, and return when onnxruntime is imported, or cannot be.

    Only a bundle that a layer brought and that is named by its digest is opened early.
    """
    importing = begin_loading()
    memory, digest = (
        environment.get(name, "") for name in ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "ISTHMUS_BUNDLE_SHA256")
    )
    if environment.get("ISTHMUS_BUNDLE") or not digest or not memory.isdecimal():
        return
    folder = environment.get("ISTHMUS_MODEL_DIR") or DEFAULT_MODEL_DIR
    begin_session(folder, digest, threads_for_memory(int(memory)))
    # Two imports at once would take turns: this one goes on when the session, which needs no turn, is being opened.
    importing.join()


def begin_session(folder: str, bundle_sha256: str, threads: int) -> None:
    """Check and open the model of the bundle in a folder, if its manifest has that digest."""
    global _begun
    _begun = EarlySession(folder, bundle_sha256, threads)


def take_session(path: Path, threads: int) -> InferenceSession | None:
    """Return the session that was begun for this model and so many threads, once; None: there is none."""
    global _begun
    begun = _begun
    if begun is None or (begun.path, begun.threads) != (str(path), threads):
        return None
    _begun = None
    return begun.session()


def known_digest(path: Path) -> str:
    """Return the SHA-256 of a file that this process has just read and found as its manifest says, or nothing."""
    return _begun.digest() if _begun is not None and _begun.path == str(path) else ""
