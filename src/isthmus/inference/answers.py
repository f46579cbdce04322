"""An answer read back from API Gateway's proxy form: its outputs as arrays, JSON or binary alike."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.errors import InvalidDocument
from isthmus.inference.binary import HEADER, SIZE
from isthmus.inference.datatypes import NUMPY

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Output(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class _Answer(msgspec.Struct, frozen=True):
    outputs: list[_Output]


def read_answer(proxy: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the outputs of an inference by name; strings as objects.

    Raises:
        InvalidDocument: it is no answer to an inference request.
    """
    try:
        text = proxy.get("body") or ""
        body = base64.b64decode(text, validate=True) if proxy.get("isBase64Encoded") else str(text).encode()
        headers = {str(name).lower(): str(value) for name, value in (proxy.get("headers") or {}).items()}
        length = int(headers.get(HEADER, len(body)))
        answer = msgspec.json.decode(body[:length], type=_Answer)
        rest, arrays = memoryview(body)[length:], {}
        for output in answer.outputs:
            size = int(output.parameters.get(SIZE, 0)) if output.data is None else 0
            arrays[output.name] = _array(output, rest[:size])
            rest = rest[size:]
    except (ValueError, KeyError, TypeError) as error:  # msgspec's own errors are ValueErrors
        raise InvalidDocument(f"the answer cannot be read: {error}") from error
    return arrays


def _array(output: _Output, piece: memoryview) -> NDArray[Any]:
    import numpy as np

    dtype = np.dtype(NUMPY[output.datatype])  # type: ignore[index]
    if output.data is not None:
        return np.array(output.data, dtype=dtype).reshape(output.shape)
    if dtype.kind == "O":
        # Length and bytes, one after the other: to compare, the bytes do.
        return np.array([bytes(piece)], dtype=object)
    return np.frombuffer(piece, dtype.newbyteorder("<")).reshape(output.shape)
