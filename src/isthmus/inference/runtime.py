"""onnxruntime, imported late and told to keep to itself."""

from __future__ import annotations

import gc
import os
import sys
import threading
from typing import Any

CAPI = "onnxruntime/capi"
LIBRARY = "onnxruntime_pybind11_state."


def load_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off.

    Since 1.3x its Linux wheels write a device id below ``~/.cache/Microsoft`` and report to Microsoft
    over HTTPS. The variable is read when the library is imported; ``disable_telemetry_events`` comes
    too late (docs/adr/0012). Import it nowhere else first.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def begin_loading() -> None:
    """Let threads import onnxruntime while this one goes on; whoever needs it first waits for them.

    Its library is mapped and relocated by a thread of its own, which holds no lock of the interpreter meanwhile. For a
    function that starts while somebody waits, and does nothing else with numpy (docs/adr/0032).
    """
    # No product of matrices is left to numpy's BLAS here; its threads only take time to start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Hardly anything that an import makes is garbage, and the collector would look through it a dozen times.
    gc.disable()
    for work in (_map_library, load_onnxruntime):
        threading.Thread(target=work, name=work.__name__, daemon=True).start()


def end_loading() -> None:
    """Wait for what ``begin_loading`` began; what there is now stays, and the collector leaves it alone."""
    load_onnxruntime()
    gc.freeze()
    gc.enable()


def _map_library() -> None:
    import ctypes

    folder = next((found for entry in sys.path if os.path.isdir(found := os.path.join(entry, CAPI))), "")
    for name in os.listdir(folder) if folder else ():
        if name.startswith(LIBRARY) and name.endswith(".so"):
            ctypes.CDLL(os.path.join(folder, name))
