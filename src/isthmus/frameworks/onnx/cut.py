"""A range of a network's operators as a model of its own."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase
from isthmus.frameworks.onnx import pools
from isthmus.frameworks.onnx.bodies import reads
from isthmus.frameworks.onnx.fuse import groups
from isthmus.frameworks.onnx.read import Graph, Shape, load_onnx, optimise, read, shapes_at, tidy

if TYPE_CHECKING:
    import onnx


BATCH = "batch"
"""The name of a slice's open first dimension."""


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
        tidy(self.model)
        self.groups = groups(self.graph.model.graph)
        self._path, self._dimensions = path, dimensions or {}

    def slice(self, start: int, end: int, batch: int | None) -> onnx.ModelProto:
        """Return the operators ``[start, end)`` of the profile as a model for ``batch`` samples: its inputs are
        what it reads of others, its outputs what others, or the caller, read of it. None: for any batch, where
        the model takes any.

        Weights that other slices read too are copied to each. The last slice holds what the model gives without
        computing it.

        Raises:
            InvalidCase: an empty range, or one beyond the operators.
        """
        if not 0 <= start < end <= len(self.groups):
            raise InvalidCase(f"needs a range within [0, {len(self.groups)}); it is [{start}, {end})")
        source = self.model.graph
        nodes = [source.node[v] for group in self.groups[start:end] for v in sorted(group.nodes)]
        made = {name for node in nodes for name in node.output if name}
        read_names = list(dict.fromkeys(name for node in nodes for name in reads(node)))
        given = self._constant_outputs() if end == len(self.groups) else []
        needed = {*read_names, *given}
        weights = [entry for entry in source.initializer if entry.name in needed]
        held = {entry.name for entry in weights}
        inputs = [name for name in read_names if name not in made and name not in held]
        outputs = [*self._wanted(start, end, made), *given]
        if pools.reads_input(nodes, set(inputs)):
            nodes = pools.kept_apart(nodes, set(inputs), self._blocked_pools)
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

    @functools.cached_property
    def _blocked_pools(self) -> frozenset[str]:
        return pools.blocked_pools(self._path, self._dimensions)

    def _wanted(self, start: int, end: int, made: set[str]) -> list[str]:
        """Return the model's own outputs first, in its order."""
        graph = self.graph.model.graph
        outside = [group for i, group in enumerate(self.groups) if not start <= i < end]
        asked = {name for group in outside for v in group.nodes for name in reads(graph.node[v])}
        results = [entry.name for entry in graph.output if entry.name in made]
        return [*results, *sorted((made & asked).difference(results))]

    def _constant_outputs(self) -> list[str]:
        held = {entry.name for entry in self.model.graph.initializer}
        return [entry.name for entry in self.model.graph.output if entry.name in held]

    def _info(self, name: str, batch: int | None) -> onnx.ValueInfoProto:
        onnx_ = load_onnx()
        shape = self.graph.shapes[name]
        kind = {"float32": "FLOAT", "float64": "DOUBLE"}.get(shape.dtype, shape.dtype.upper())
        element = getattr(onnx_.TensorProto, kind)
        sizes = self._open(shape) if batch is None else shapes_at(shape, batch)
        info: onnx.ValueInfoProto = onnx_.helper.make_tensor_value_info(name, element, sizes)
        return info

    def _open(self, shape: Shape) -> list[int | str | None]:
        """Return the sizes, with those left open that the batch, or values, decide."""
        found: list[int | str | None] = []
        for axis, (one, two) in enumerate(zip(shape.one, shape.two, strict=True)):
            batched = self.graph.open_batch and one != two
            first = batched and (axis, one, two) == (0, 1, 2)
            found.append(BATCH if first else None if batched or axis in shape.seen else one)
        return found
