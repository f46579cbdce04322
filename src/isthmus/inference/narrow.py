"""Inputs whose 32-bit floats come in fewer bits: what crosses a slow link between two slices.

No part of the protocol. Such an input says FP32 and has ``isthmus_cast`` among its parameters: ``float16``; or
``int8``, which is affine, with a least value and a scale for each of ``isthmus_channels`` (of axis 1, or one for all),
eight bytes each before the values (``transport/casts.py`` writes it). A server that does not know this refuses the
input by its size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from isthmus.errors import InvalidRequest
from isthmus.inference.tensors import InputTensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CAST, CHANNELS = "isthmus_cast", "isthmus_channels"
PAIR_BYTES = 8


def widen(tensor: InputTensor, piece: memoryview) -> NDArray[Any]:
    """Return the float32 array that an input's bytes stand for.

    Raises:
        InvalidRequest: its parameters are not these, or its bytes not so many.
    """
    cast, channels = tensor.parameters.get(CAST), tensor.parameters.get(CHANNELS, 0)
    count, rank = math.prod(tensor.shape), len(tensor.shape)
    if tensor.datatype != "FP32" or not rank or cast not in ("float16", "int8"):
        raise InvalidRequest(
            f"{CAST} of input {tensor.name[:100]!r} must be float16 or int8, of FP32, not {cast!r}"[:300]
        )
    right = [0] if cast == "float16" else sorted({1, tensor.shape[1] if rank > 1 else 1})
    if type(channels) is not int or channels not in right:
        raise InvalidRequest(f"{CHANNELS} of input {tensor.name[:100]!r} must be one of {right}"[:300])
    needed = 2 * count if cast == "float16" else count + channels * PAIR_BYTES
    if len(piece) != needed:
        raise InvalidRequest(
            f"input {tensor.name[:100]!r} of shape {tensor.shape} as {cast} needs {needed} bytes, not {len(piece)}"
        )
    return widened(cast, tensor.shape, channels, piece)


def widened(
    cast: object, shape: Sequence[int], channels: int, piece: memoryview | NDArray[Any]
) -> NDArray[Any]:
    """Return the float32 array of this shape that bytes stand for, of which there must be as many as it needs."""
    import numpy as np

    if cast == "float16":
        return np.frombuffer(piece, "<f2").astype(np.float32).reshape(shape)
    pairs = np.frombuffer(piece[: channels * PAIR_BYTES], "<f4").reshape(channels, 2)
    each = (1, channels, *([1] * (len(shape) - 2))) if channels > 1 else (1,) * len(shape)
    levels = np.frombuffer(piece[channels * PAIR_BYTES :], np.uint8).reshape(shape)
    found: NDArray[Any] = levels.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        found *= pairs[:, 1].reshape(each)
        found += pairs[:, 0].reshape(each)
    return found
