"""What an ONNX file takes and gives, and its offline-optimised form: with onnxruntime alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import InvalidModel
from isthmus.inference.datatypes import from_onnxruntime
from isthmus.inference.opset import read_opset
from isthmus.inference.runtime import load_onnxruntime, session_options
from isthmus.model.bundle import TensorSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions


def describe_onnx(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], int]:
    """Return inputs, outputs (a dynamic dimension is -1) and the default operator set's version.

    Raises:
        InvalidModel: not an ONNX model, not loadable, or with a tensor that cannot be served.
    """
    onnxruntime = load_onnxruntime()

    opset = read_opset(path)
    options = session_options(threads=1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = open_session(path, options)
    inputs = tuple(_spec(node) for node in session.get_inputs())
    return inputs, tuple(_spec(node) for node in session.get_outputs()), opset


def optimise(path: Path, out: Path) -> None:
    """Write the model with its graph optimised (EXTENDED level, CPU) to ``out``.

    It halves the creation of a session and changes nothing when warm. EXTENDED, not ALL: layout
    changes fit the machine that made them only.

    Raises:
        InvalidModel: onnxruntime cannot load the model.
    """
    onnxruntime = load_onnxruntime()

    options = session_options(threads=1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out)
    open_session(path, options)
    if not out.is_file():
        raise InvalidModel(f"onnxruntime wrote no optimised form of {path.name}")


def open_session(path: Path, options: SessionOptions) -> InferenceSession:
    """Load a model on the CPU.

    Raises:
        InvalidModel: onnxruntime refuses it.
    """
    onnxruntime = load_onnxruntime()
    with refusals_of(path):
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextmanager
def refusals_of(path: Path) -> Iterator[None]:
    """Raise InvalidModel where onnxruntime refuses to load ``path``."""
    load_onnxruntime()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    refusals: tuple[type[Exception], ...] = (
        state.Fail,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.InvalidArgument,
    )
    refusals += (state.NotImplemented, state.NoSuchFile, state.RuntimeException)
    try:
        yield
    except refusals as error:
        raise InvalidModel(f"onnxruntime cannot load {path.name}: {error}") from error


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return TensorSpec(name=node.name, datatype=from_onnxruntime(node.type, node.name), shape=shape)
