"""onnxruntime, imported late and told to keep to itself."""

from __future__ import annotations

import gc
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from onnxruntime import InferenceSession, SessionOptions


def load_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off.

    Since 1.3x its Linux wheels write a device id below ``~/.cache/Microsoft`` and report to Microsoft
    over HTTPS. The variable is read when the library is imported; ``disable_telemetry_events`` comes
    too late (docs/adr/0012). Import it nowhere else first.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


MEMORY_MB_PER_VCPU = 1769
"""Lambda gives one vCPU per 1,769 MB (Lambda Developer Guide, "Configure Lambda function memory")."""
ERRORS_ONLY = 3
"""onnxruntime's log severity: warnings of an optimiser are no news to who sends a request."""

SPIN_MICROSECONDS = 600
"""How long a thread that has nothing to do keeps its processor, in case there is more in a moment. At onnxruntime's
default it keeps it from what is imported while a session opens; at less than this it sleeps between two requests."""


def threads_for_memory(memory_mb: int) -> int:
    """Return how many threads a Lambda function of that size has processors for, at least one."""
    return max(1, round(memory_mb / MEMORY_MB_PER_VCPU))


def begin_loading() -> threading.Thread:
    """Let the thread that is returned import onnxruntime; whoever needs it first waits for it.

    For a function that starts while somebody waits, and does nothing else with numpy (docs/adr/0032).
    """
    # No product of matrices is left to numpy's BLAS here; its threads only take time to start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Hardly anything that an import makes is garbage, and the collector would look through it a dozen times.
    gc.disable()
    thread = threading.Thread(target=load_onnxruntime, name="load onnxruntime", daemon=True)
    thread.start()
    return thread


def end_loading() -> None:
    """Wait for what ``begin_loading`` began; what there is now stays, and the collector leaves it alone."""
    load_onnxruntime()
    gc.freeze()
    gc.enable()


def give_back_memory() -> None:
    """Return to the system what opening a model has left unused: glibc keeps it otherwise, here some 20 MB for good.

    ``malloc_trim(3)``; where there is none, nothing is done.
    """
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def session_options(*, threads: int) -> SessionOptions:
    """Return options for ``threads`` threads within an operator, operators one after the other."""
    options = load_onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS))
    return options


def serving_session(path: Path | str, threads: int) -> InferenceSession:
    """Open a model to serve it; onnxruntime's refusals pass through.

    The bundle carries the optimised graph; what is left to do here is cheap, and fits this machine.
    """
    onnxruntime, options = load_onnxruntime(), session_options(threads=threads)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
