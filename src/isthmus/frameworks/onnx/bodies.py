"""What a node reads: its inputs, and what the graphs within it (of an If, a Loop, a Scan) read from around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of all that a node reads, weights too; one may come more than once."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        bodies = [attribute.g] if attribute.HasField("g") else attribute.graphs
        for body in bodies:
            yield from _captured(body)


def _captured(body: onnx.GraphProto) -> Iterator[str]:
    """Yield what a body reads and does not make; what it hands on as it is counts."""
    made = {entry.name for entry in (*body.input, *body.initializer)}
    for node in body.node:
        yield from (name for name in reads(node) if name not in made)
        made.update(node.output)
    yield from (entry.name for entry in body.output if entry.name not in made)
