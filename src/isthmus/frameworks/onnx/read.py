"""From an ONNX file to the graph that runs: optimised as a bundle's model is, every tensor with its shape."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import EnvironmentProblem, InvalidModel
from isthmus.frameworks.onnx import external, runtime

if TYPE_CHECKING:
    import onnx

MAX_FILE_BYTES = 2**31 - 1
"""A protocol buffer's limit; larger weights lie in files of their own beside the model."""
BATCHES = (1, 2)
"""Shapes at two batch sizes say what of a tensor is for each sample, and what is fixed."""
DTYPES = {
    "bool": "bool",
    "uint8": "uint8",
    "int8": "int8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float": "float32",
    "double": "float64",
}
"""onnxruntime's names of element types to ONNX's."""
ELEMENT_BYTES = {"bool": 1, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8} | {
    f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)
}


@dataclass(frozen=True)
class Shape:
    """Of one tensor at batches of 1 and of 2. ``seen``: the axes whose sizes were not inferred, but seen in a run:
    other values may make others."""

    dtype: str
    one: tuple[int, ...]
    two: tuple[int, ...]
    seen: frozenset[int] = frozenset()


def shapes_at(shape: Shape, batch: int) -> tuple[int, ...]:
    """Return the shape for a batch: what differs between one sample and two grows evenly."""
    return tuple(a + (b - a) * (batch - 1) for a, b in zip(shape.one, shape.two, strict=True))


@dataclass(frozen=True)
class Graph:
    """``model``: the optimised one, without its larger weights' values. ``shapes``: of every tensor but weights.
    ``digest``: of the file read, and of those that hold weights beside it."""

    name: str
    digest: str
    model: onnx.ModelProto
    shapes: Mapping[str, Shape]
    open_batch: bool


def read(path: Path, dimensions: Mapping[str, int] | None = None) -> Graph:
    """Read, check and optimise a model (onnxruntime's EXTENDED level), and infer all shapes.

    ``dimensions``: sizes of named open dimensions other than the batch, such as ``{"sequence": 128}``.
    The batch is the first dimension of the inputs where it is open; else a run is one sample.

    Raises:
        InvalidModel: unreadable, too large, malformed, cyclic, or with a dimension of unknown size.
        EnvironmentProblem: onnx or onnxruntime is not installed.
    """
    onnx = load_onnx()
    digest = check(path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "optimised.onnx"
        optimise(path, file, dimensions or {})
        model = onnx.load(str(file), load_external_data=False)
        tidy(model)
        sizes = {batch: _shapes(model, Path(folder) / f"{batch}.onnx", batch) for batch in BATCHES}
    one, two = (sizes[batch] for batch in BATCHES)
    shapes = {name: Shape(dtype, shape, two[name][1], seen) for name, (dtype, shape, seen) in one.items()}
    return Graph(path.stem, digest, model, shapes, batch_dimension(model) is not None)


def load_onnx() -> Any:
    """Import onnx.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise EnvironmentProblem(
            "profiles need onnx; install it with: pip install 'isthmus[engine,planner]'"
        ) from error
    return onnx


def check(path: Path) -> str:
    """Check a file by ONNX's own rules; return the model's SHA-256 (hex), as ``external.digest_of``.

    Raises:
        InvalidModel: not readable, over 2 GiB, or not a valid ONNX model; a cycle is one reason.
    """
    onnx = load_onnx()
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InvalidModel(
                f"{path.name} has {size} bytes; at most {MAX_FILE_BYTES} are read: keep its weights as external data"
            )
        path.open("rb").close()
    except OSError as error:
        raise InvalidModel(f"{path.name} cannot be read: {error.strerror}") from error
    try:
        onnx.checker.check_model(str(path))
        return external.digest_of(path, onnx)
    except Exception as error:  # protobuf's and onnx's errors have no common base
        raise InvalidModel(f"{path.name} is not a valid ONNX model: {_sentence(error)}") from error


def optimise(
    path: Path, out: Path, dimensions: Mapping[str, int], level: str = "ORT_ENABLE_EXTENDED"
) -> None:
    """Write the graph that runs to ``out``, its larger weights to ``out``'s name with ``.weights`` added.

    Raises:
        InvalidModel: onnxruntime refuses the model.
    """
    chosen = runtime.options(level=level)
    for name, size in dimensions.items():
        chosen.add_free_dimension_override_by_name(name, size)
    chosen.optimized_model_filepath = str(out)
    # A model of over 2 GiB could not be written in one file.
    prefix = "session.optimized_model_external_initializers"
    chosen.add_session_config_entry(f"{prefix}_file_name", f"{out.name}.weights")
    chosen.add_session_config_entry(f"{prefix}_min_size_in_bytes", "1024")
    chosen.add_session_config_entry("session.disable_prepacking", "1")
    runtime.session(path, chosen, path.name)


def tidy(model: onnx.ModelProto) -> None:
    """Give each node without a name that of its output: what is timed is told by it. Weights that the inputs list
    too, so that a caller might replace them (IR versions before 4 had to), are weights."""
    held = {entry.name for entry in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in held]
    if len(inputs) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
    for node in model.graph.node:
        if not node.name:
            node.name = next(name for name in node.output if name)


def batch_dimension(model: onnx.ModelProto) -> str | None:
    """Return the name of the open first dimension of the inputs (may be empty), or None: it is fixed."""
    for entry in model.graph.input:
        dimensions = entry.type.tensor_type.shape.dim
        if dimensions and not dimensions[0].HasField("dim_value"):
            return str(dimensions[0].dim_param)
    return None


def _shapes(
    model: onnx.ModelProto, file: Path, batch: int
) -> dict[str, tuple[str, tuple[int, ...], frozenset[int]]]:
    """Return dtype and shape of every tensor for a batch, as onnxruntime infers them, or else sees them in a run,
    and the axes that it saw.

    It knows the shapes of its own fused operators, which onnx does not. ``file`` is written, beside the
    optimised model's weights.
    """
    onnx = load_onnx()
    pinned = onnx.ModelProto()
    pinned.CopyFrom(model)
    _pin_batch(pinned, batch)
    given = {entry.name for entry in pinned.graph.output}
    made = [name for node in pinned.graph.node for name in node.output if name and name not in given]
    pinned.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    onnx.save(pinned, str(file))
    chosen = runtime.options(level="ORT_DISABLE_ALL")
    chosen.add_session_config_entry("session.disable_prepacking", "1")
    session = runtime.session(file, chosen, model.graph.name or "the model")
    entries = (*session.get_inputs(), *session.get_outputs())
    shapes = {entry.name: tuple(entry.shape) for entry in entries}
    seen = {
        name: frozenset(axis for axis, size in enumerate(shape) if not isinstance(size, int))
        for name, shape in shapes.items()
    }
    if any(seen.values()):
        shapes |= _seen(session)
    return {entry.name: (_dtype(entry), shapes[entry.name], seen[entry.name]) for entry in entries}


def _seen(session: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all outputs in a run: where they depend on values, inference does not know them."""
    names = [entry.name for entry in session.get_outputs()]
    arrays = runtime.run(session, runtime.random_feeds(session))
    return {name: tuple(array.shape) for name, array in zip(names, arrays, strict=True)}


def _pin_batch(model: onnx.ModelProto, batch: int) -> None:
    name = batch_dimension(model)
    for entry in model.graph.input:
        for axis, dimension in enumerate(entry.type.tensor_type.shape.dim):
            if dimension.HasField("dim_value"):
                continue
            if dimension.dim_param != name or (not name and axis):
                raise InvalidModel(
                    f"input {entry.name} leaves dimension {dimension.dim_param or axis} open; say its size: "
                    f"--dimension {dimension.dim_param or 'NAME'}=SIZE"
                )
            dimension.dim_value = batch
    for entry in model.graph.output:
        entry.ClearField("type")


def _dtype(entry: Any) -> str:
    kind = entry.type.removeprefix("tensor(").removesuffix(")")
    if kind not in DTYPES:
        raise InvalidModel(f"{entry.name} is a {entry.type}; profiles know {', '.join(DTYPES)}")
    return DTYPES[kind]


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
