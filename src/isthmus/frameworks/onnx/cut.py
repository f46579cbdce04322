"""A range of a network's operators as a model of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase
from isthmus.frameworks.onnx.bodies import reads
from isthmus.frameworks.onnx.fuse import groups
from isthmus.frameworks.onnx.read import Graph, load_onnx, name_nodes, optimise, read, shapes_at

if TYPE_CHECKING:
    import onnx


class Cutter:
    """A model, read once, to cut slices from.

    Raises:
        InvalidModel: as :func:`isthmus.frameworks.onnx.read.read`.
    """

    def __init__(self, path: Path, dimensions: Mapping[str, int] | None = None) -> None:
        onnx = load_onnx()
        self.graph: Graph = read(path, dimensions)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "optimised.onnx"
            optimise(path, file, dimensions or {})
            self.model = onnx.load(str(file))
        name_nodes(self.model)
        self.groups = groups(self.graph.model.graph)

    def slice(self, start: int, end: int, batch: int) -> onnx.ModelProto:
        """Return the operators ``[start, end)`` of the profile as a model for ``batch`` samples: its inputs are
        what it reads of others, its outputs what others, or the caller, read of it.

        Raises:
            InvalidCase: an empty range, or one beyond the operators.
        """
        if not 0 <= start < end <= len(self.groups):
            raise InvalidCase(f"needs a range within [0, {len(self.groups)}); it is [{start}, {end})")
        source = self.model.graph
        nodes = [source.node[v] for group in self.groups[start:end] for v in sorted(group.nodes)]
        made = {name for node in nodes for name in node.output if name}
        read_names = list(dict.fromkeys(name for node in nodes for name in reads(node)))
        weights = [entry for entry in source.initializer if entry.name in set(read_names)]
        held = {entry.name for entry in weights}
        inputs = [name for name in read_names if name not in made and name not in held]
        outputs = self._wanted(start, end, made)
        helper = load_onnx().helper
        graph = helper.make_graph(
            nodes,
            f"{source.name}[{start},{end})",
            [self._info(name, batch) for name in inputs],
            [self._info(name, batch) for name in outputs],
            weights,
        )
        model: onnx.ModelProto = helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )
        return model

    def _wanted(self, start: int, end: int, made: set[str]) -> list[str]:
        graph = self.graph.model.graph
        outside = [group for i, group in enumerate(self.groups) if not start <= i < end]
        asked = {name for group in outside for v in group.nodes for name in reads(graph.node[v])}
        asked |= {entry.name for entry in graph.output}
        return sorted(made & asked)

    def _info(self, name: str, batch: int) -> onnx.ValueInfoProto:
        onnx_ = load_onnx()
        shape = self.graph.shapes[name]
        kind = {"float32": "FLOAT", "float64": "DOUBLE"}.get(shape.dtype, shape.dtype.upper())
        element = getattr(onnx_.TensorProto, kind)
        info: onnx.ValueInfoProto = onnx_.helper.make_tensor_value_info(
            name, element, shapes_at(shape, batch)
        )
        return info
