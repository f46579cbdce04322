"""What a device runs as one: a convolution with the addition and the activation that follow it.

onnxruntime's EXTENDED level has fused the rest. Additions join convolutions only when a machine lays images out
in blocks of channels, at the time when the model is loaded; a cut between the two would undo that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.frameworks.onnx.bodies import reads

if TYPE_CHECKING:
    import onnx

CONVS = frozenset({"Conv", "FusedConv"})
AFTER = frozenset({"Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid"})


@dataclass(frozen=True)
class Group:
    """Nodes that run as one, by index; the first gives it its kind, and ``at`` where it stands in the order."""

    nodes: tuple[int, ...]

    @property
    def at(self) -> int:
        """Where all of its inputs are there: its last node's place."""
        return self.nodes[-1]


def groups(graph: onnx.GraphProto) -> list[Group]:
    """Return the groups in a topological order; each node is in one."""
    readers = _readers(graph)
    outputs = {entry.name for entry in graph.output}
    made_by = {name: v for v, node in enumerate(graph.node) for name in node.output}
    taken: set[int] = set()
    found = []
    for v, node in enumerate(graph.node):
        if v in taken:
            continue
        members = [v]
        if node.op_type in CONVS:
            members += _followers(graph, v, readers, outputs, made_by)
        taken.update(members)
        found.append(Group(tuple(members)))
    return sorted(found, key=lambda group: group.at)


def _readers(graph: onnx.GraphProto) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for v, node in enumerate(graph.node):
        for name in reads(node):
            found.setdefault(name, []).append(v)
    return found


def _followers(
    graph: onnx.GraphProto,
    v: int,
    readers: Mapping[str, Sequence[int]],
    outputs: set[str],
    made_by: Mapping[str, int],
) -> list[int]:
    """Return the addition that the convolution ``v`` takes in, and the activation after it.

    Of two convolutions that are added, the later one does so: the other's output is there by then.
    """

    def only_reader(u: int) -> int | None:
        name = graph.node[u].output[0]
        after = readers.get(name, ())
        return after[0] if len(after) == 1 and name not in outputs else None

    found: list[int] = []
    last = v
    nxt = only_reader(last)
    if nxt is not None and graph.node[nxt].op_type == "Add" and graph.node[v].op_type == "Conv":
        others = [made_by.get(name, -1) for name in graph.node[nxt].input]
        if max(others) == v and min(others) != v:
            found.append(nxt)
            last = nxt
            nxt = only_reader(last)
    if nxt is not None and graph.node[nxt].op_type in AFTER:
        found.append(nxt)
    return found
