"""Running the steps of ``model/processing.py`` with numpy alone: before the network and after it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from isthmus.errors import InvalidInput
from isthmus.inference.decoding import convert_dtype, decode_raw
from isthmus.model.processing import (
    Affine,
    Cast,
    Normalize,
    PostStep,
    PreStep,
    Reshape,
    Softmax,
    TopK,
    Transpose,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decode_raw", "postprocess", "preprocess"]


def preprocess(array: NDArray[Any], steps: Iterable[PreStep]) -> NDArray[Any]:
    """Run the steps in order on ``[N, ...]``; the result is contiguous.

    Raises:
        InvalidInput: a step does not fit the shape or the values that reach it.
    """
    import numpy as np

    if array.ndim == 0:
        raise InvalidInput("pre-processing needs an array [N, ...], not a single number")
    given = array
    for step in steps:
        if isinstance(step, Affine | Normalize):
            # What was given is not ours to write to; each further step needs no memory of its own.
            ours = array.dtype == np.float32 and not np.may_share_memory(array, given)
            array = _run_in_place(array if ours else _floats(array), step)
        else:
            array = _run(array, step)
    return np.ascontiguousarray(array)


def postprocess(array: NDArray[Any], steps: Iterable[PostStep]) -> dict[str, NDArray[Any]]:
    """Run the steps in order on the model's first output ``[N, C]``; return named arrays.

    ``softmax`` alone gives ``probability`` (``[N, C]``); ``top_k`` gives ``class`` (int64),
    ``score`` and, when it has labels, ``label`` (str objects), each ``[N, k]``, best first.
    ``top_k`` ends the chain. No steps give no arrays.

    Raises:
        InvalidInput: a step does not fit the array that reaches it.
    """
    result: dict[str, NDArray[Any]] = {}
    for step in steps:
        if "class" in result:
            raise InvalidInput("top_k must be the last post-processing step")
        if isinstance(step, Softmax):
            array = softmax(array)
            result = {"probability": array}
        else:
            result = _top_k(array, step)
    return result


def softmax(array: NDArray[Any]) -> NDArray[Any]:
    """Return ``exp(x) / sum(exp(x))`` along the last axis, shifted by the maximum against overflow."""
    import numpy as np

    if array.ndim == 0 or array.dtype.kind != "f":
        raise InvalidInput(f"softmax needs floats [..., C], not {array.dtype} {list(array.shape)}")
    powers = np.exp(array - array.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _run(array: NDArray[Any], step: Reshape | Cast | Transpose) -> NDArray[Any]:
    import numpy as np

    match step:
        case Reshape(shape=shape):
            return _reshape(array, shape)
        case Cast(dtype="float32"):
            return array if array.dtype == np.float32 else _floats(array)
        case Cast(dtype=dtype):
            return convert_dtype(array, dtype, "the array to be cast")
        case Transpose(axes=axes):
            if sorted(axes) != list(range(array.ndim - 1)):
                raise InvalidInput(
                    f"transpose {list(axes)} does not fit samples of shape {list(array.shape[1:])}"
                )
            return array.transpose(0, *(axis + 1 for axis in axes))


def _reshape(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    had = math.prod(array.shape[1:])
    free = shape.count(-1)
    fixed = math.prod(size for size in shape if size != -1)
    fits = (free == 0 and fixed == had) or (free == 1 and fixed > 0 and had % fixed == 0)
    if not fits or any(size < -1 for size in shape):
        raise InvalidInput(
            f"a sample of shape {list(array.shape[1:])} ({had} elements) cannot take the shape {list(shape)}"
        )
    sizes = [size if size != -1 else had // fixed for size in shape]
    return array.reshape(array.shape[0], *sizes)


def _floats(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy in float32, in C order: after a transposition this is the one pass over all bytes."""
    import numpy as np

    floats = np.empty(array.shape, np.float32)
    np.copyto(floats, array, casting="unsafe")
    return floats


def _run_in_place(floats: NDArray[Any], step: Affine | Normalize) -> NDArray[Any]:
    import numpy as np

    if isinstance(step, Affine):
        floats *= np.float32(step.scale)
        if step.offset:
            floats += np.float32(step.offset)
        return floats
    channels = len(step.mean)
    if len(step.std) != channels or 0.0 in step.std:
        raise InvalidInput(
            f"normalize needs as many non-zero std as mean: {channels} mean, std {list(step.std)}"
        )
    if floats.ndim < 2 or floats.shape[1] != channels:
        raise InvalidInput(
            f"normalize has {channels} channels; the array is {list(floats.shape)} (channels: axis 1)"
        )
    sizes = (1, channels, *(1 for _ in floats.shape[2:]))
    mean, std = (np.asarray(values, np.float32).reshape(sizes) for values in (step.mean, step.std))
    floats -= mean
    floats /= std
    return floats


def _top_k(array: NDArray[Any], step: TopK) -> dict[str, NDArray[Any]]:
    import numpy as np

    if array.ndim != 2 or not 1 <= step.k <= array.shape[1]:
        raise InvalidInput(
            f"top_k of {step.k} needs [N, C] with C >= k >= 1; the array is {list(array.shape)}"
        )
    if step.labels and len(step.labels) != array.shape[1]:
        raise InvalidInput(f"top_k has {len(step.labels)} labels for {array.shape[1]} classes")
    # A stable sort: of equal scores the lower class comes first, on every machine.
    best = np.argsort(-array, axis=1, kind="stable")[:, : step.k].astype(np.int64)
    result = {"class": best, "score": np.take_along_axis(array, best, axis=1)}
    if step.labels:
        result["label"] = np.asarray(step.labels, dtype=object)[best]
    return result
