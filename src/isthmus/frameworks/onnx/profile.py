"""From an ONNX file to a :class:`~isthmus.model.network.NetworkProfile`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import InvalidModel
from isthmus.frameworks.onnx.bodies import reads
from isthmus.frameworks.onnx.fuse import Group, groups
from isthmus.frameworks.onnx.kinds import Node, Work, weigh
from isthmus.frameworks.onnx.read import ELEMENT_BYTES, Graph, Shape, load_onnx, read
from isthmus.model.network import NetworkProfile, Operator, Parameter, Tensor

if TYPE_CHECKING:
    import onnx

SHARED_BYTES = 4096
"""Smaller weights, such as a constant that an exporter wrote once for all layers, are copied to each device that
needs them: they bind no operators together."""
CONVENTIONAL = ("", "ai.onnx", "com.microsoft")
NARROW = {"float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}
"""Element types that not every device computes with, and the feature that it then needs."""


def profile(
    path: Path, dimensions: Mapping[str, int] | None = None, *, source: str = "onnx"
) -> NetworkProfile:
    """Read a model and return what the planner needs of it; nothing of it is run.

    The operators are those of the graph that runs: optimised, and grouped as devices fuse them. ``dimensions``
    are sizes of named open dimensions other than the batch.

    Raises:
        InvalidModel: unreadable, too large, malformed, cyclic, without operators, or with a dimension of
            unknown size.
        EnvironmentProblem: onnx or onnxruntime is not installed.
    """
    return from_graph(read(path, dimensions), source)


def from_graph(graph: Graph, source: str = "onnx") -> NetworkProfile:
    """Return the profile of a graph that was read.

    Raises:
        InvalidModel: it has no operators.
    """
    proto = graph.model.graph
    if not proto.node:
        raise InvalidModel(
            f"{graph.name} has no operators left once it is optimised; there is nothing to plan"
        )
    parameters = {entry.name: entry for entry in proto.initializer}
    kept = groups(proto)
    operators = tuple(_operator(graph, group, parameters) for group in kept)
    flowing = {name for entry in operators for name in (*entry.inputs, *entry.outputs)}
    inputs = tuple(entry.name for entry in proto.input)
    tensors = tuple(
        _tensor(name, shape, graph.open_batch)
        for name, shape in graph.shapes.items()
        if name in flowing or name in inputs
    )
    outputs = tuple(entry.name for entry in proto.output)
    return NetworkProfile(
        name=graph.name,
        digest=graph.digest,
        inputs=inputs,
        outputs=outputs,
        operators=operators,
        tensors=tensors,
        source=source,
    )


def node_of(graph: Graph, v: int, parameters: Mapping[str, onnx.TensorProto]) -> Node:
    """Return node ``v`` with its shapes for one sample."""
    onnx = load_onnx()
    node = graph.model.graph.node[v]

    def dims(name: str) -> tuple[int, ...]:
        if name in parameters:
            return tuple(parameters[name].dims)
        return graph.shapes[name].one if name in graph.shapes else ()

    return Node(
        kind=node.op_type,
        inputs=tuple(dims(name) for name in node.input),
        weights=tuple(name in parameters for name in node.input),
        outputs=tuple(dims(name) for name in node.output if name),
        attributes={entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute},
    )


def _operator(graph: Graph, group: Group, parameters: Mapping[str, onnx.TensorProto]) -> Operator:
    nodes = [graph.model.graph.node[v] for v in group.nodes]
    works = [_weigh(node_of(graph, v, parameters), nodes[i].domain) for i, v in enumerate(group.nodes)]
    inside = {name for node in nodes[:-1] for name in node.output}
    known = (parameters.keys() | graph.shapes.keys()) - inside
    read_names = tuple(dict.fromkeys(name for node in nodes for name in reads(node) if name in known))
    inputs = tuple(name for name in read_names if name not in parameters)
    outputs = tuple(name for name in nodes[-1].output if name and name in graph.shapes)
    name = nodes[0].name
    moved = sum(_bytes(graph.shapes[name], 1) for name in (*inputs, *outputs) if name in graph.shapes)
    return Operator(
        name=name,
        kind=nodes[0].op_type,
        rate_class=works[0].rate_class,
        inputs=inputs,
        outputs=outputs,
        flops=sum(work.flops for work in works),
        moved_bytes=float(moved),
        parameters=tuple(_parameter(parameters[key], name) for key in read_names if key in parameters),
        features=_features(graph, (*inputs, *outputs)),
        sizes={key: float(value) for key, value in works[0].sizes.items()},
        batch_axis=works[0].batch_axis,
    )


def _weigh(node: Node, domain: str) -> Work:
    return weigh(node) if domain in CONVENTIONAL else Work(f"other/{domain}.{node.kind}")


def _parameter(entry: onnx.TensorProto, operator: str) -> Parameter:
    onnx = load_onnx()
    element = onnx.helper.tensor_dtype_to_np_dtype(entry.data_type).itemsize
    size = math.ceil(math.prod(entry.dims) * element)
    name = entry.name if size >= SHARED_BYTES else f"{operator}/{entry.name}"
    return Parameter(name=name, size_bytes=size)


def _features(graph: Graph, names: tuple[str, ...]) -> tuple[str, ...]:
    dtypes = {graph.shapes[name].dtype for name in names if name in graph.shapes}
    return tuple(sorted({NARROW[dtype] for dtype in dtypes if dtype in NARROW}))


def _bytes(shape: Shape, batch: int) -> int:
    return math.prod(shape.one if batch == 1 else shape.two) * ELEMENT_BYTES[shape.dtype]


def _tensor(name: str, shape: Shape, open_batch: bool) -> Tensor:
    """Split its size by what it grows by from one sample to two."""
    one, two = _bytes(shape, 1), _bytes(shape, 2)
    growth = max(0, two - one) if open_batch else one
    batched = open_batch and shape.one[:1] == (1,) and shape.two[:1] == (2,)
    return Tensor(
        name=name,
        dtype=shape.dtype,
        shape=shape.one[1:] if batched else shape.one,
        sample_bytes=growth,
        fixed_bytes=one - growth,
    )
