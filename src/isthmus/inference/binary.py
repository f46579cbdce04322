"""The binary tensor data extension: a JSON object, then each tensor's bytes, in one body.

Source: triton-inference-server/server, ``docs/protocol/extension_binary_data.md``. Little-endian,
row-major, nothing between the elements; an element of BYTES is its length in four bytes, then itself.
What a request claims is checked against what it brought before any of it is read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from isthmus.errors import InvalidModel, InvalidRequest
from isthmus.inference.datatypes import NUMPY
from isthmus.inference.http import HttpRequest
from isthmus.inference.narrow import CAST, widen
from isthmus.inference.tensors import InputTensor, check_form
from isthmus.model.bundle import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTENSION = "binary_tensor_data"
"""Its name in the server's metadata."""

HEADER = "inference-header-content-length"
"""How many bytes of the body are the JSON object; without it all are."""

SIZE = "binary_data_size"
CRC32 = "isthmus_crc32"
"""Of a tensor's bytes, among its parameters: TCP's checksum of 16 bits misses what proxies and memory do."""
LENGTH = struct.Struct("<I")


def split_body(request: HttpRequest) -> tuple[memoryview, memoryview]:
    """Return a body's JSON object and the bytes after it, neither of them copied.

    Raises:
        InvalidRequest: the header is no number, or more than the body has.
    """
    body = memoryview(request.body)
    said = request.header(HEADER)
    if not said:
        return body, body[len(body) :]
    if not (said.isascii() and said.isdecimal() and len(said) < 20):
        raise InvalidRequest(f"{HEADER} must be a number of bytes, not {said[:100]!r}")
    if int(said) > len(body):
        raise InvalidRequest(f"{HEADER} is {said}, but the body has {len(body)} bytes")
    return body[: int(said)], body[int(said) :]


def share_out(inputs: Sequence[InputTensor], rest: memoryview) -> list[memoryview | None]:
    """Return each input's bytes, in the order of the inputs; None for those whose data is JSON.

    Raises:
        InvalidRequest: the sizes that the inputs give do not add up to the bytes that came.
    """
    sizes = [_size(tensor) for tensor in inputs]
    total = sum(size or 0 for size in sizes)
    if total != len(rest):
        raise InvalidRequest(
            f"the inputs' {SIZE} add up to {total}, but {len(rest)} bytes follow the JSON object; "
            f"{HEADER} says where it ends"
        )
    pieces: list[memoryview | None] = []
    start = 0
    for size in sizes:
        pieces.append(None if size is None else rest[start : start + size])
        start += size or 0
    return pieces


def read_binary(tensor: InputTensor, piece: memoryview, spec: TensorSpec, *, allow_nan: bool) -> NDArray[Any]:
    """Return the array that a tensor's bytes are: a view of them, read-only; BYTES become ``str`` objects.

    Raises:
        InvalidRequest: names what was needed and what there was.
    """
    import numpy as np

    check_form(tensor, spec)
    if CRC32 in tensor.parameters and tensor.parameters[CRC32] != crc32(piece):
        raise InvalidRequest(
            f"the bytes of input {spec.name!r} are not those that were sent: their CRC-32 differs"
        )
    count = math.prod(tensor.shape)
    if spec.datatype == "BYTES":
        return _read_strings(piece, count, spec.name).reshape(tensor.shape)
    if CAST in tensor.parameters:
        return _checked(widen(tensor, piece), spec, allow_nan=allow_nan)
    dtype = np.dtype(NUMPY[spec.datatype]).newbyteorder("<")
    if len(piece) != count * dtype.itemsize:
        raise InvalidRequest(
            f"input {spec.name!r} of shape {tensor.shape} needs {count * dtype.itemsize} bytes "
            f"of {spec.datatype}, not {len(piece)}"
        )
    if spec.datatype == "BOOL" and count and np.frombuffer(piece, np.uint8).max() > 1:
        raise InvalidRequest(
            f"input {spec.name!r} holds a byte that is neither 0 nor 1, which BOOL cannot be"
        )
    return _checked(np.frombuffer(piece, dtype).reshape(tensor.shape), spec, allow_nan=allow_nan)


def _checked(array: NDArray[Any], spec: TensorSpec, *, allow_nan: bool) -> NDArray[Any]:
    import numpy as np

    if array.dtype.kind == "f" and not allow_nan and not np.isfinite(array).all():
        raise InvalidRequest(
            f"input {spec.name!r} holds NaN or infinity; this model takes finite numbers only"
        )
    return array


def crc32(piece: bytes | memoryview) -> int:
    """Return the CRC-32 of a tensor's bytes, as zlib counts it."""
    import zlib

    return zlib.crc32(piece)


def write_binary(name: str, array: NDArray[Any]) -> bytes | memoryview:
    """Return an output's bytes.

    Raises:
        InvalidModel: a string of it is not text.
    """
    import numpy as np

    if array.dtype.kind != "O":
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return memoryview(np.ascontiguousarray(little).reshape(-1).view(np.uint8))
    try:
        texts = [text.encode() for text in array.ravel().tolist()]
    except UnicodeEncodeError as error:
        raise InvalidModel(f"output {name!r} holds a string that UTF-8 cannot carry") from error
    return b"".join(part for text in texts for part in (LENGTH.pack(len(text)), text))


def _size(tensor: InputTensor) -> int | None:
    size = tensor.parameters.get(SIZE)
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
        raise InvalidRequest(
            f"{SIZE} of input {tensor.name[:100]!r} must be a number of bytes, not {size!r}"[:300]
        )
    return size


def _read_strings(piece: memoryview, count: int, name: str) -> NDArray[Any]:
    """Return ``[count]`` of ``str``: ONNX strings are UTF-8 (onnx.proto, ``TensorProto.string_data``)."""
    import numpy as np

    # Each has at least its length: what claims more cannot be here, and is not allocated.
    if count * LENGTH.size > len(piece):
        raise InvalidRequest(f"input {name!r} needs {count} strings, but has {len(piece)} bytes for them")
    texts = np.empty(count, dtype=object)
    at = 0
    for index in range(count):
        start = at + LENGTH.size
        at = start + (LENGTH.unpack_from(piece, at)[0] if start <= len(piece) else 0)
        if max(start, at) > len(piece):
            raise InvalidRequest(f"input {name!r} ends within string {index} of {count}")
        try:
            texts[index] = str(piece[start:at], "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"string {index} of input {name!r} is not UTF-8") from error
    if at != len(piece):
        raise InvalidRequest(f"input {name!r} has {len(piece) - at} bytes more than its {count} strings")
    return texts
