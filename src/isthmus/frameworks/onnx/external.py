"""Which files an ONNX model's weights lie in beside it, and the digest of all together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


def digest_of(path: Path, onnx_: Any) -> str:
    """Return the SHA-256 (hex) of a model: of its file, or, where weights lie in files of their own, of the digests of
    all of them with their names, so that other weights are another model. ``onnx_``: the library.

    Raises:
        OSError: one cannot be read.
    """
    own = _sha256(path)
    model = onnx_.load(str(path), load_external_data=False)
    helper = onnx_.external_data_helper
    tensors = (tensor for tensor in _tensors(model) if helper.uses_external_data(tensor))
    names = sorted({helper.ExternalDataInfo(tensor).location for tensor in tensors})
    if not names:
        return own
    listed = [own, *(f"{_sha256(path.parent / name)} {name}" for name in names)]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Any) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _tensors_of_graph(graph)
