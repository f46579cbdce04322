"""The one engine that serves: onnxruntime on the CPU, its session made at the first request."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import InvalidModel, InvalidRequest
from isthmus.inference import early
from isthmus.inference.datatypes import NUMPY, from_onnxruntime
from isthmus.inference.onnx_model import refusals_of
from isthmus.inference.runtime import serving_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TRIED_SIZES = (1, 2, 3, 4, 8, 16)
"""Of axes that a request chooses, when a model that has not answered yet fails."""


class OnnxEngine:
    """``ports.Engine`` on onnxruntime; safe to share between threads."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._path = path
        self._threads = threads
        self._lock = threading.Lock()
        self._session: InferenceSession | None = None
        self._names: list[str] = []
        self._has_answered = False

    def load(self) -> InferenceSession:
        """Return the session, made once.

        Raises:
            InvalidModel: onnxruntime refuses the model.
        """
        if self._session is not None:
            return self._session
        with self._lock:
            if self._session is None:
                session = early.take_session(self._path, self._threads)
                if session is None:
                    with refusals_of(self._path):
                        session = serving_session(self._path, self._threads)
                self._names = [output.name for output in session.get_outputs()]
                self._session = session
            return self._session

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model: named arrays in, all of its outputs by name.

        Raises:
            InvalidRequest: onnxruntime refuses the values, for example an index out of range; or the model
                fails on these inputs, and has answered others.
            InvalidModel: the model cannot be loaded, or fails.
        """
        session = self.load()
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        try:
            found = dict(zip(self._names, session.run(self._names, dict(inputs)), strict=True))
        except (state.InvalidArgument, ValueError) as error:
            raise InvalidRequest(f"the model refuses these inputs: {error}") from error
        except (state.Fail, state.RuntimeException, state.NotImplemented, MemoryError) as error:
            if self._has_answered or self._answers_zeros(session):
                raise InvalidRequest(f"the model cannot run on these inputs: {error}") from error
            raise InvalidModel(f"the model fails on these inputs: {error}") from error
        self._has_answered = True
        return found

    def _answers_zeros(self, session: InferenceSession) -> bool:
        """Whether it is these inputs: the same model runs on zeros, with one of these sizes where a size is free."""
        import numpy as np

        for free in TRIED_SIZES:
            zeros = {}
            for spec in session.get_inputs():
                dtype = np.dtype(NUMPY[from_onnxruntime(spec.type, spec.name)])
                shape = [size if isinstance(size, int) else free for size in spec.shape]
                zeros[spec.name] = np.full(shape, "", dtype) if dtype.kind == "O" else np.zeros(shape, dtype)
            # Whatever it raises, nothing speaks for the model yet.
            with suppress(Exception):
                session.run(self._names, zeros)
                return True
        return False
