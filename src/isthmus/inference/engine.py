"""The one engine that serves: onnxruntime on the CPU, its session made at the first request."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import InvalidModel, InvalidRequest
from isthmus.inference.onnx_model import open_session, session_options
from isthmus.inference.runtime import load_onnxruntime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MEMORY_MB_PER_VCPU = 1769
"""Lambda gives one vCPU per 1,769 MB (Lambda Developer Guide, "Configure Lambda function memory")."""


def threads_for_memory(memory_mb: int) -> int:
    """Return how many threads a Lambda function of that size has processors for, at least one."""
    return max(1, round(memory_mb / MEMORY_MB_PER_VCPU))


class OnnxEngine:
    """``ports.Engine`` on onnxruntime; safe to share between threads."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._path = path
        self._threads = threads
        self._lock = threading.Lock()
        self._session: InferenceSession | None = None

    def load(self) -> InferenceSession:
        """Return the session, made once.

        Raises:
            InvalidModel: onnxruntime refuses the model.
        """
        with self._lock:
            if self._session is None:
                onnxruntime = load_onnxruntime()

                options = session_options(threads=self._threads)
                # The bundle carries the optimised graph; what is left to do here is cheap.
                options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
                self._session = open_session(self._path, options)
            return self._session

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model: named arrays in, all of its outputs by name.

        Raises:
            InvalidRequest: onnxruntime refuses the values, for example an index out of range.
            InvalidModel: the model cannot be loaded, or fails.
        """
        session = self.load()
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        names = [output.name for output in session.get_outputs()]
        try:
            return dict(zip(names, session.run(names, dict(inputs)), strict=True))
        except (state.InvalidArgument, ValueError) as error:
            raise InvalidRequest(f"the model refuses these inputs: {error}") from error
        except (state.Fail, state.RuntimeException, state.NotImplemented) as error:
            raise InvalidModel(f"the model fails on these inputs: {error}") from error
