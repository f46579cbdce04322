"""What an edge core that has a model in service can begin before its own modules are imported (docs/adr/0032)."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping

from isthmus.inference import early
from isthmus.inference.runtime import begin_loading


def begin(environment: Mapping[str, str]) -> threading.Thread:
    """Import onnxruntime in the thread that is returned, and beside it check and open the model that was committed.

    The store verifies its signature all the same, and takes the session only of the bundle that it then serves.
    Whatever is missing or cannot be read is the store's to say.
    """
    importing = begin_loading()
    try:
        store = environment["ISTHMUS_EDGE_STORE"]
        committed = os.path.basename(os.readlink(os.path.join(store, "committed")))
        with open(os.path.join(store, "trust.json"), "rb") as file:
            trust = json.loads(file.read())
        threads = environment.get("ISTHMUS_EDGE_THREADS") or len(os.sched_getaffinity(0))
        if trust["artifact"] == committed and trust["bundle"]:
            early.begin_session(os.path.join(store, "models", committed), trust["bundle"], int(threads))
            importing.join()  # two imports at once would take turns
    except (OSError, LookupError, TypeError, ValueError):
        pass
    return importing
