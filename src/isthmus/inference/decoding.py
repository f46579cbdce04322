"""Raw bytes to arrays: csv, idx and npy, each with one clear sentence when the bytes do not fit."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from isthmus.errors import InvalidInput
from isthmus.model.processing import Decode
from isthmus.model.units import GIB, format_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_RAW_BYTES = 2 * GIB
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Type codes of the IDX file format (http://yann.lecun.com/exdb/mnist)."""


def decode_raw(data: bytes, decode: Decode, path: str, *, max_bytes: int = MAX_RAW_BYTES) -> NDArray[Any]:
    """Return the array ``[N, ...]`` of ``decode.dtype`` that ``data`` holds.

    csv gives ``[N, columns]``. A ``path`` that ends in ``.gz`` is decompressed first, up to
    ``max_bytes``; ``path`` also names the file in errors.

    Raises:
        InvalidInput: not of that format, truncated, too large, or out of the dtype's range.
    """
    if path.endswith(".gz"):
        data = _gunzip(data, path, max_bytes)
    match decode.format:
        case "csv":
            array = _read_csv(data, decode, path)
        case "idx":
            array = _read_idx(data, path)
        case "npy":
            array = read_npy(data, path)
    if array.ndim == 0:
        raise InvalidInput(f"{path} holds a single number; an array [N, ...] is needed")
    return convert_dtype(array, decode.dtype, path)


def convert_dtype(array: NDArray[Any], dtype: str, what: str) -> NDArray[Any]:
    """Convert to ``dtype``; integers must keep their value (fractions are cut, as numpy does).

    Raises:
        InvalidInput: a value is outside the range of an integer ``dtype``, or NaN.
    """
    import numpy as np

    target = np.dtype(dtype)
    if target.kind in "iu" and array.size and not np.can_cast(array.dtype, target):
        limits = np.iinfo(target)
        low, high = array.min(), array.max()
        if not (limits.min <= low and high <= limits.max):
            raise InvalidInput(f"{what} holds values from {low} to {high}, which {target} cannot hold")
    return array.astype(target, copy=False)


def read_npy(data: bytes, path: str) -> NDArray[Any]:
    """Return the array of an npy file (NEP 1) in the dtype that it was saved in.

    The size that its header claims is checked before numpy would allocate it.

    Raises:
        InvalidInput: not npy, truncated, or of something else than numbers.
    """
    import numpy as np
    from numpy.lib import format as npy

    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
    except (ValueError, SyntaxError, TypeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not an npy file: {error}") from error
    if dtype.kind not in "biuf":
        raise InvalidInput(f"{path} holds {dtype}; an array of numbers is needed")
    start = stream.tell()
    needed = start + math.prod(shape) * dtype.itemsize
    if len(data) != needed:
        raise InvalidInput(f"{path} is an npy file of {list(shape)} {dtype}: {needed} bytes, not {len(data)}")
    flat = np.frombuffer(data, dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")


def _gunzip(data: bytes, path: str, max_bytes: int) -> bytes:
    import gzip
    import zlib

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            plain = stream.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path} is not a whole gzip file: {error}") from error
    if len(plain) > max_bytes:
        raise InvalidInput(f"{path} decompresses to more than {format_bytes(max_bytes)}, which is the limit")
    return plain


def _read_csv(data: bytes, decode: Decode, path: str) -> NDArray[Any]:
    import numpy as np

    columns = None if decode.columns is None else range(*decode.columns)
    if columns is not None and (columns.start < 0 or not columns):
        raise InvalidInput(f"columns {list(decode.columns or ())} is not a half-open range of columns")
    if not data.strip():
        raise InvalidInput(f"{path} is empty; rows of numbers are needed")
    try:
        return np.loadtxt(
            io.StringIO(data.decode("utf-8")),
            delimiter=",",
            dtype=decode.dtype,
            usecols=columns,
            ndmin=2,
            comments=None,
        )
    except (ValueError, OverflowError, IndexError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not a table of {decode.dtype} numbers: {error}") from error


def _read_idx(data: bytes, path: str) -> NDArray[Any]:
    import numpy as np

    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_TYPES:
        raise InvalidInput(f"{path} is not an IDX file: it begins with {data[:4].hex() or 'nothing'}")
    start = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4))
    dtype = np.dtype(IDX_TYPES[data[2]])
    needed = start + math.prod(shape) * dtype.itemsize
    if len(data) != needed:
        raise InvalidInput(
            f"{path} is an IDX file of {list(shape)} {dtype.name}: {needed} bytes, not {len(data)}"
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape)
