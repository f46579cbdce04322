"""Tensors between JSON and numpy, both ways, without a Python loop over their elements.

``data`` may be flat (row-major) or nested, as the protocol allows. JSON has no NaN or infinity; as
in protobuf's JSON mapping the strings "NaN", "Infinity" and "-Infinity" stand for them.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from isthmus.errors import InvalidRequest
from isthmus.inference.datatypes import NUMPY, from_numpy
from isthmus.model.bundle import Datatype, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

NonFinite = Literal["NaN", "Infinity", "-Infinity"]
Shape = Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]], msgspec.Meta(max_length=32)]
"""As a request gives it: bounded, so that the number of elements can be said in any sentence."""
_NESTED = re.compile(rb"[ \n\r\t]*\[[ \n\r\t]*\[")


class InputTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One input as sent: with ``data``, or with ``binary_data_size`` among its parameters.

    ``data`` is parsed once the datatype is known to fit.
    """

    name: str
    shape: Shape
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] = {}


class OutputTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One output as sent: ``data`` is flat, row-major, or follows the JSON as bytes, as its parameters say."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


def read_tensor(tensor: InputTensor, spec: TensorSpec, *, allow_nan: bool) -> NDArray[Any]:
    """Return the array that a request's tensor holds, in the datatype and shape of ``spec``.

    Raises:
        InvalidRequest: names what was needed and what there was.
    """
    import numpy as np

    check_form(tensor, spec)
    if tensor.data is msgspec.UNSET:
        raise InvalidRequest(
            f"input {spec.name!r} needs data, or binary_data_size among its parameters and its bytes in the body"
        )
    depth = len(tensor.shape) if _is_nested(tensor.data) else 1
    values, has_names = _parse(tensor, tensor.data, spec.datatype, depth)
    if has_names and not allow_nan:
        raise InvalidRequest(
            f"input {spec.name!r} holds NaN or infinity; this model takes finite numbers only"
        )
    array = _to_array(values, spec, has_names)
    shape = tuple(tensor.shape)
    if depth > 1 and array.shape != shape:
        raise InvalidRequest(
            f"input {spec.name!r} says shape {tensor.shape}, but its data is {list(array.shape)}"
        )
    if array.size != math.prod(shape):
        raise InvalidRequest(
            f"input {spec.name!r} of shape {tensor.shape} needs {math.prod(shape)} elements, not {array.size}"
        )
    if array.dtype.kind == "f" and not has_names and not np.isfinite(array).all():
        raise _too_far(spec)
    return array.reshape(shape)


def write_tensor(name: str, array: NDArray[Any]) -> OutputTensor:
    """Return an output for JSON.

    Raises:
        InvalidRequest: it holds NaN or infinity, which JSON cannot carry; bytes can.
        InvalidModel: it is of no known datatype.
    """
    import numpy as np

    if array.dtype.kind == "f" and not np.isfinite(array).all():
        at = int(np.flatnonzero(~np.isfinite(array.ravel()))[0])
        raise InvalidRequest(
            f"output {name!r} is {array.ravel()[at]} at element {at}, which JSON cannot carry: "
            "ask for it with binary_data, or send other numbers"
        )
    return OutputTensor(
        name=name, datatype=from_numpy(array.dtype), shape=list(array.shape), data=array.ravel().tolist()
    )


def array_of(tensor: OutputTensor) -> NDArray[Any]:
    """Return the array of an output that was read back: the client's side of ``write_tensor``."""
    import numpy as np

    return np.asarray(tensor.data, dtype=NUMPY[tensor.datatype]).reshape(tensor.shape)


def check_form(tensor: InputTensor, spec: TensorSpec) -> None:
    """Check the datatype and the shape that a request gives, before any of its data is looked at.

    Raises:
        InvalidRequest
    """
    if tensor.datatype != spec.datatype:
        raise InvalidRequest(f"input {spec.name!r} must be {spec.datatype}, not {tensor.datatype[:100]}")
    shape, needed = tensor.shape, spec.shape
    fits = len(shape) == len(needed) and all(
        want in (-1, size) for want, size in zip(needed, shape, strict=True)
    )
    if not fits:
        raise InvalidRequest(
            f"input {spec.name!r} must have shape {list(needed)} (-1: any size from 1 on), not {shape}"
        )


def _is_nested(data: msgspec.Raw) -> bool:
    return _NESTED.match(memoryview(data)) is not None


def _parse(tensor: InputTensor, data: msgspec.Raw, datatype: Datatype, depth: int) -> tuple[Any, bool]:
    """Return the parsed lists, and whether non-finite numbers were named in them."""
    try:
        return _decoder(datatype, depth).decode(data), False
    except msgspec.DecodeError as error:
        if not datatype.startswith("FP"):
            raise _unfit(tensor, error) from error
    try:
        return _decoder(datatype, depth, non_finite=True).decode(data), True
    except msgspec.DecodeError as error:
        raise _unfit(tensor, error) from error


def _unfit(tensor: InputTensor, error: Exception) -> InvalidRequest:
    return InvalidRequest(
        f"the data of input {tensor.name!r} is not {tensor.datatype}, "
        f"flat or nested as shape {tensor.shape} says: {error}"
    )


@cache
def _decoder(datatype: Datatype, depth: int, *, non_finite: bool = False) -> msgspec.json.Decoder[Any]:
    element: Any = {"BOOL": bool, "BYTES": str}.get(datatype, float if datatype.startswith("FP") else int)
    if non_finite:
        element = float | NonFinite
    for _ in range(depth):
        element = list[element]
    return msgspec.json.Decoder(element)


def _to_array(values: Any, spec: TensorSpec, has_names: bool) -> NDArray[Any]:
    import numpy as np

    dtype = NUMPY[spec.datatype]
    try:
        with np.errstate(over="ignore"):
            if has_names:
                # numpy reads the three names as the numbers that they stand for.
                named = np.array(values, dtype=object).astype(np.float64)
                array = named.astype(dtype)
                if (np.isfinite(named) != np.isfinite(array)).any():
                    raise _too_far(spec)
                return array
            return np.array(values, dtype=dtype)
    except OverflowError as error:
        raise _too_far(spec) from error
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"input {spec.name!r} is ragged: its nested lists differ in length") from error


def _too_far(spec: TensorSpec) -> InvalidRequest:
    return InvalidRequest(f"input {spec.name!r} holds a number that {spec.datatype} cannot hold")
