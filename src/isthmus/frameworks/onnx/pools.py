"""Global averages in a slice are summed in the order in which the whole sums them.

When a model is loaded, onnxruntime lays images out in blocks of channels (``core/optimizer/nchwc_transformer.cc``). A
global average goes along when what it reads is in blocks, and also when nothing of the graph makes what it reads: the
input of a slice. In blocks it is summed in another order, which showed as 3e-6 of the outputs' range in text
detection (PP-OCRv4). So where the whole does not lay one out in blocks, a slice puts a copy before it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.frameworks.onnx.read import load_onnx, optimise

if TYPE_CHECKING:
    import onnx

KIND = "GlobalAveragePool"
BLOCKED = "com.microsoft.nchwc"
SUFFIX = "_nchwc"


def blocked_pools(path: Path, dimensions: Mapping[str, int]) -> frozenset[str]:
    """Return the outputs of the global averages that onnxruntime lays out in blocks on this machine; it names such a
    node by its output.

    Raises:
        InvalidModel: onnxruntime refuses the model.
    """
    onnx = load_onnx()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "loaded.onnx"
        optimise(path, file, dimensions, level="ORT_ENABLE_ALL")
        nodes = onnx.load(str(file), load_external_data=False).graph.node
    found = (node for node in nodes if node.op_type == KIND and node.domain == BLOCKED)
    return frozenset(node.name.removesuffix(SUFFIX) for node in found)


def reads_input(nodes: Sequence[onnx.NodeProto], inputs: Set[str]) -> bool:
    """Whether a global average reads an input of a slice."""
    return any(node.op_type == KIND and node.input[0] in inputs for node in nodes)


def kept_apart(nodes: Sequence[onnx.NodeProto], inputs: Set[str], blocked: Set[str]) -> list[onnx.NodeProto]:
    """Return a slice's nodes with a copy before each global average of an input that the whole does not lay out in
    blocks. A Concat of one is a copy that no optimiser removes."""
    onnx_ = load_onnx()
    found: list[onnx.NodeProto] = []
    for node in nodes:
        if node.op_type == KIND and node.input[0] in inputs and node.output[0] not in blocked:
            copied = f"{node.name}/copied"
            found.append(onnx_.helper.make_node("Concat", [node.input[0]], [copied], name=copied, axis=0))
            changed = onnx_.NodeProto()
            changed.CopyFrom(node)
            changed.input[0] = copied
            node = changed
        found.append(node)
    return found
