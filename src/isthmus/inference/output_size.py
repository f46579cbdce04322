"""How large a model's outputs will be, before they are computed: a small request may ask for gigabytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from isthmus.errors import PayloadTooLarge
from isthmus.inference.datatypes import NUMPY
from isthmus.model.bundle import TensorSpec
from isthmus.model.units import MIB, format_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_OUTPUT_BYTES = 256 * MIB
"""Of all outputs of a request together, as arrays: four times what can be handed over."""
_ITEM_BYTES = {"float16": 2, "float32": 4, "float64": 8, "bool": 1, "object": 8}


def check_size_of_outputs(arrays: Mapping[str, NDArray[Any]], outputs: Iterable[TensorSpec]) -> None:
    """Check what a batch will give: an output whose first axis is free has as many rows as the inputs.

    Other free axes count as one: they are the model's own to find out.

    Raises:
        PayloadTooLarge: more than ``MAX_OUTPUT_BYTES``.
    """
    rows = max((array.shape[0] for array in arrays.values() if array.ndim), default=1)
    total = 0
    for spec in outputs:
        free_rows = rows if spec.shape[:1] == (-1,) else 1
        item = NUMPY[spec.datatype]
        each = _ITEM_BYTES.get(item) or int(item.lstrip("uint")) // 8
        total += free_rows * math.prod(abs(size) for size in spec.shape) * each
    if total > MAX_OUTPUT_BYTES:
        raise PayloadTooLarge(
            f"the outputs for {rows:,} rows would be {format_bytes(total)}; at most "
            f"{format_bytes(MAX_OUTPUT_BYTES)} are computed: send smaller batches"
        )
