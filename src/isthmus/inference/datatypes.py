"""Tensor element types by their three names: Open Inference Protocol, numpy, onnxruntime."""

from __future__ import annotations

import functools

from isthmus.errors import InvalidModel
from isthmus.model.bundle import Datatype

NUMPY: dict[Datatype, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
_ONNX = {"float16": "FP16", "float": "FP32", "double": "FP64", "string": "BYTES"}
_FROM_NUMPY = {dtype: name for name, dtype in NUMPY.items()}


@functools.cache
def from_numpy(dtype: object) -> Datatype:
    """Return the protocol's name of a numpy dtype.

    Raises:
        InvalidModel: the protocol has no such type (complex, dates, structures).
    """
    try:
        return _FROM_NUMPY[str(dtype)]
    except KeyError as error:
        raise InvalidModel(f"{dtype} has no name in the Open Inference Protocol") from error


def from_onnxruntime(kind: str, name: str) -> Datatype:
    """Return the protocol's name of a type as onnxruntime writes it, for example ``tensor(float)``.

    Raises:
        InvalidModel: not a tensor, or of a type that cannot be sent (bfloat16, float8, int4, …).
    """
    inner = kind.removeprefix("tensor(").removesuffix(")")
    datatype = _ONNX.get(inner, inner.upper())
    if not kind.startswith("tensor(") or datatype not in NUMPY:
        raise InvalidModel(f"{name} is a {kind}; only tensors of {', '.join(NUMPY)} can be served")
    return datatype
