"""Slices of a model as files that load by themselves, one after the other in the order of its operators."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.errors import InvalidModel
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.frameworks.onnx.read import ELEMENT_BYTES, MAX_FILE_BYTES, shapes_at
from isthmus.model.units import format_bytes


@dataclass(frozen=True)
class Part:
    """Operators ``[start, end)`` as the ONNX file at ``path``; ``first`` and ``last`` are names of operators."""

    start: int
    end: int
    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    first: str
    last: str


def write_parts(cutter: Cutter, ranges: Sequence[tuple[int, int]], paths: Sequence[Path]) -> Iterator[Part]:
    """Write each range of the profile's operators to its file, for any batch where the model takes any.

    One at a time, and only that one lies in memory beside the model.

    Raises:
        InvalidCase: a range is empty, or beyond the operators.
        InvalidModel: a slice is larger than an ONNX file can be.
    """
    for (start, end), path in zip(ranges, paths, strict=True):
        model = cutter.slice(start, end, None)
        size = model.ByteSize()
        if size > MAX_FILE_BYTES:
            raise InvalidModel(
                f"operators [{start},{end}) are {format_bytes(size)}, and an ONNX file has at most "
                f"{format_bytes(MAX_FILE_BYTES)}: plan with more devices, or with less memory on each"
            )
        path.write_bytes(model.SerializeToString())
        yield Part(
            start,
            end,
            path,
            tuple(entry.name for entry in model.graph.input),
            tuple(entry.name for entry in model.graph.output),
            *names_of(cutter, start, end),
        )


def names_of(cutter: Cutter, start: int, end: int) -> tuple[str, str]:
    """Return the names of the first and the last operator of a range."""
    nodes = cutter.graph.model.graph.node
    return nodes[cutter.groups[start].nodes[0]].name, nodes[cutter.groups[end - 1].nodes[0]].name


def sample_bytes(cutter: Cutter, tensor: str) -> int:
    """Return the bytes of a tensor for one sample."""
    shape = cutter.graph.shapes[tensor]
    return math.prod(shape.one) * ELEMENT_BYTES[shape.dtype]


def made_up_inputs(cutter: Cutter, batch: int, seed: int) -> dict[str, Any]:
    """Return inputs of ``batch`` samples (of one where the model's batch is fixed): normal, or whole numbers of 0 and
    1, which index any table."""
    import numpy as np

    random = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for entry in cutter.graph.model.graph.input:
        shape = cutter.graph.shapes[entry.name]
        sizes = shapes_at(shape, batch) if cutter.graph.open_batch else shape.one
        if shape.dtype.startswith("float"):
            found[entry.name] = random.standard_normal(sizes).astype(shape.dtype)
        elif shape.dtype == "bool":
            found[entry.name] = np.ones(sizes, bool)
        else:
            found[entry.name] = random.integers(0, 2, sizes).astype(shape.dtype)
    return found
