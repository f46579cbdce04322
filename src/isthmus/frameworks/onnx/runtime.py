"""onnxruntime for profiles: without telemetry, on the CPU, its refusals as one sentence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import EnvironmentProblem, InvalidModel

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

ERRORS_ONLY = 3
"""onnxruntime's log severity."""
SEED = 7


def load() -> Any:
    """Import onnxruntime.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read at import (docs/adr/0012)
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentProblem(
            "profiles need onnxruntime; install it with: pip install 'isthmus[engine,planner]'"
        ) from error
    return onnxruntime


def options(*, threads: int = 1, level: str = "ORT_ENABLE_ALL") -> SessionOptions:
    """Return session options: ``threads`` within an operator, operators one after the other."""
    onnxruntime = load()

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = ERRORS_ONLY
    chosen.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return chosen


def session(model: Path | bytes, chosen: SessionOptions, name: str = "the model") -> InferenceSession:
    """Open a model on the CPU.

    Raises:
        InvalidModel: onnxruntime refuses it; ``name`` stands in the sentence.
    """
    onnxruntime = load()

    try:
        source = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(source, chosen, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        if isinstance(error, MemoryError):
            raise
        raise InvalidModel(f"onnxruntime cannot load {name}: {error}") from error


def run(session: InferenceSession, feeds: Mapping[str, Any]) -> list[Any]:
    """Run a model once; return its outputs.

    Raises:
        InvalidModel: onnxruntime refuses the inputs, or fails.
    """
    try:
        outputs: list[Any] = session.run(None, dict(feeds))
    except Exception as error:  # onnxruntime's errors have no common base
        raise InvalidModel(f"onnxruntime cannot run the model: {error}") from error
    return outputs


def random_feeds(session: InferenceSession) -> dict[str, Any]:
    """Return inputs of a session's fixed shapes: normal, or whole numbers of 0 and 1, which index any table."""
    import numpy as np

    random = np.random.default_rng(SEED)
    feeds: dict[str, Any] = {}
    for entry in session.get_inputs():
        if entry.type in ("tensor(float)", "tensor(double)", "tensor(float16)"):
            dtype = {"tensor(float)": "float32", "tensor(double)": "float64"}.get(entry.type, "float16")
            feeds[entry.name] = random.standard_normal(entry.shape).astype(dtype)
        elif entry.type == "tensor(bool)":
            feeds[entry.name] = np.ones(entry.shape, bool)
        elif entry.type.startswith(("tensor(int", "tensor(uint")):
            dtype = entry.type.removeprefix("tensor(").removesuffix(")")
            feeds[entry.name] = random.integers(0, 2, entry.shape).astype(dtype)
        else:
            raise InvalidModel(f"{entry.name} is a {entry.type}, for which no input can be made up")
    return feeds
