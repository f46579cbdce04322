"""Which sizes of operators a machine is measured at: powers of two and of four, whatever networks there are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Sizes = dict[str, int]


@dataclass(frozen=True)
class Grid:
    """All combinations of ``axes``, but those whose product of sizes is outside of ``[least, most]``; at both
    ends a measurement would take long, or show the call alone. ``fixed``: sizes that a model needs beside.
    """

    axes: Mapping[str, Sequence[int]]
    least: float = 0.0
    most: float = math.inf
    same: tuple[str, str] | None = None
    """Two axes whose sizes are at most a factor of four apart."""

    def points(self) -> Iterator[Sizes]:
        """Yield the sizes of each micro-benchmark."""
        for values in itertools.product(*self.axes.values()):
            sizes = dict(zip(self.axes, values, strict=True))
            if not self.least <= math.prod(values) <= self.most:
                continue
            if self.same and not 0.25 <= sizes[self.same[0]] / sizes[self.same[1]] <= 4:
                continue
            yield sizes


SIDES = (7, 14, 28, 56, 112)
PIXELS = tuple(side**2 for side in SIDES)
CHANNELS = (16, 32, 64, 256, 1024)
WIDE = (16, 64, 256, 512)
ELEMENTS = tuple(4**power for power in range(5, 12))
POINTWISE = Grid({"in": CHANNELS, "out": CHANNELS, "pixels": PIXELS}, 1e5, 6e7)
DENSE = Grid({"in": WIDE, "out": WIDE, "pixels": PIXELS}, 1e5, 2.7e7, ("in", "out"))
STRIDED = Grid({"in": WIDE, "out": WIDE, "pixels": PIXELS[:4]}, 1e5, 1.4e7, ("in", "out"))
DEPTHWISE = Grid({"out": (16, 64, 256, 1024), "pixels": PIXELS}, 3e3, 2e6)
SHALLOW = Grid({"taps": (27, 75, 147), "out": (16, 32, 64), "pixels": PIXELS[2:]})
BY_ELEMENTS = Grid({"elements": ELEMENTS})

GRIDS: dict[str, Grid] = {
    "conv/1x1/1": POINTWISE,
    "conv/1x1/2": STRIDED,
    "conv/3x3/1": DENSE,
    "conv/3x3/2": STRIDED,
    "conv/depthwise/3x3/1": DEPTHWISE,
    "conv/depthwise/3x3/2": DEPTHWISE,
    "conv/depthwise/5x5/1": DEPTHWISE,
    "conv/depthwise/5x5/2": DEPTHWISE,
    "conv/shallow/1": SHALLOW,
    "conv/shallow/2": SHALLOW,
    "matmul/weights": Grid(
        {"rows": (1, 8, 32, 128, 512), "in": (64, 256, 1024, 4096), "out": (64, 256, 1024, 4096)}, 1e4, 3e8
    ),
    "matmul/batched": Grid(
        {"products": (1, 8, 32), "rows": (16, 64, 256), "in": (16, 64, 256), "out": (16, 64, 256)}, 3e4, 4e7
    ),
    "softmax": Grid({"rows": (16, 128, 1024, 4096), "columns": (16, 64, 256, 1024)}, most=2e6),
    "norm": Grid({"rows": (1, 16, 128, 1024), "columns": (64, 256, 1024)}),
    "norm/skip": Grid({"rows": (1, 16, 128, 1024), "columns": (64, 256, 1024)}),
    "transpose/runs": Grid({"elements": ELEMENTS[1:], "run": (16, 64, 128)}),
    "transpose/elements": Grid({"elements": ELEMENTS[1:], "run": (16, 64, 128)}),
    "pool": Grid({"channels": (16, 64, 256), "pixels": PIXELS, "taps": (4, 9)}, most=2e6),
    "pool/global": Grid({"channels": (64, 256, 1024, 2048), "pixels": PIXELS[:3]}),
    "gather": Grid({"rows": (1, 32, 128, 1024), "columns": (64, 256, 1024)}),
} | dict.fromkeys(
    ("unary", "unary/gelu", "unary/costly", "binary", "binary/broadcast", "copy", "reduce"), BY_ELEMENTS
)

FIXED: dict[str, Sizes] = {"conv/shallow/1": {"in": 3}, "conv/shallow/2": {"in": 3}}
"""Sizes that a micro-benchmark needs, and that its class's time does not depend on."""
