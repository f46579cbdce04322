"""Arrays as bytes and back: as they are, or 32-bit floats in fewer bits.

int8 is affine: eight bits between an array's, or each of its channels', least and greatest value, so
``x = least + q * scale`` with ``scale = (greatest - least) / 255`` (B. Jacob et al., "Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, equation 1, with the zero point as a
number instead of an integer). It is off by at most half a scale, and exact for the least value, which is zero
after a ReLU. What a cast cannot carry (NaN, infinity, over 65,504 as float16) goes as it is.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec

from isthmus.errors import InvalidFrame, InvalidInput, InvalidModel
from isthmus.inference.datatypes import NUMPY, from_numpy
from isthmus.inference.narrow import PAIR_BYTES, widened
from isthmus.model.bundle import Datatype
from isthmus.model.sliced import Cast
from isthmus.transport.ports import Tensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIGNED_BYTES = 64
"""Where each array begins, so that an engine can use it in place."""
MAX_TENSORS = 1024
CHANNEL_ELEMENTS = 64
"""A channel that has fewer does not repay a scale of its own, which is eight bytes."""
KNOWN_TABLES = 256
"""Messages of one cut have one table each time: it is read once."""
_LEVELS = 255


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """An array in a message's table. ``channels``: pairs (least, scale) before the bytes of an int8 array."""

    name: Annotated[str, msgspec.Meta(max_length=512)]
    datatype: Datatype
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, le=2**40)], ...], msgspec.Meta(max_length=32)]
    cast: Cast = ""
    channels: Annotated[int, msgspec.Meta(ge=0, le=2**24)] = 0

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes on the wire, without what fills up to the next."""
        if not self.cast:
            return math.prod(self.shape) * _ITEM_BYTES[self.datatype]
        item = 1 if self.cast == "int8" else 2
        return math.prod(self.shape) * item + self.channels * PAIR_BYTES


_ITEM_BYTES: dict[str, int] = {
    "BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "UINT32": 4, "INT32": 4,
    "FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8, "BYTES": 0,
}  # fmt: skip
Entries = Annotated[list[Entry], msgspec.Meta(max_length=MAX_TENSORS)]
_datatypes: dict[Any, Datatype] = {}  # to name a numpy type takes longer than to send a small array
_known: dict[tuple[str, Any, tuple[int, ...]], bytes] = {}
_tables = msgspec.msgpack.Decoder(Entries)
_encoder = msgspec.msgpack.Encoder()


class Packed(NamedTuple):
    """A message: its table as bytes, its pieces in order, and their size in all."""

    table: bytes
    pieces: list[memoryview]
    size_bytes: int


class Table:
    """The arrays of a message, and where each lies in its payload."""

    def __init__(self, entries: list[Entry]) -> None:
        self._plain: list[tuple[str, tuple[int, ...], str, int]] = []
        self._cast: list[tuple[Entry, int]] = []
        self._names = [entry.name for entry in entries]
        self.size_bytes = 0
        for entry in entries:
            self.size_bytes += -self.size_bytes % ALIGNED_BYTES
            if entry.cast:
                self._cast.append((entry, self.size_bytes))
            else:
                self._plain.append((entry.name, entry.shape, NUMPY[entry.datatype], self.size_bytes))
            self.size_bytes += entry.size_bytes

    def read(self, payload: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the arrays of a payload (``[size_bytes]`` uint8): views of it where there was no cast."""
        import numpy as np

        arrays: dict[str, NDArray[Any]] = {
            name: np.ndarray(shape, dtype, payload, at) for name, shape, dtype, at in self._plain
        }
        if not self._cast:
            return arrays
        for entry, at in self._cast:
            arrays[entry.name] = unpack_one(entry, payload[at : at + entry.size_bytes])
        return {name: arrays[name] for name in self._names}


def pack(tensors: Tensors, cast: Cast) -> Packed:
    """Return a message of arrays; what needs no cast is not copied.

    Raises:
        InvalidInput: an array is of a type that cannot be sent, or there are too many.
    """
    if len(tensors) > MAX_TENSORS:
        raise InvalidInput(f"a message has at most {MAX_TENSORS} arrays, not {len(tensors)}")
    if not cast and (known := _pack_known(tensors)) is not None:
        return known
    entries, pieces, size = [], [], 0
    for name, array in tensors.items():
        entry, parts = pack_one(name, array, cast)
        if -size % ALIGNED_BYTES:
            pieces.append(_PADDING[: -size % ALIGNED_BYTES])
            size += -size % ALIGNED_BYTES
        entries.append(entry)
        pieces += parts
        size += entry.size_bytes
    packed = Packed(_encoder.encode(entries), pieces, size)
    if not cast and len(tensors) == 1 and pieces:
        _remember(tensors, packed)
    return packed


def _pack_known(tensors: Tensors) -> Packed | None:
    """Return a message of one array of a name, type and shape that were sent before."""
    if len(tensors) != 1:
        return None
    for name, array in tensors.items():
        table = _known.get((name, array.dtype, array.shape))
        if table is not None and array.flags.c_contiguous and array.ndim:
            return Packed(table, [memoryview(array).cast("B")], array.nbytes)
    return None


def _remember(tensors: Tensors, packed: Packed) -> None:
    if len(_known) >= KNOWN_TABLES:
        _known.clear()
    for name, array in tensors.items():
        if array.dtype.byteorder != ">":
            _known[name, array.dtype, array.shape] = packed.table


_PADDING = memoryview(bytes(ALIGNED_BYTES))


@functools.lru_cache(maxsize=KNOWN_TABLES)
def read_table(table: bytes, size_bytes: int) -> Table:
    """Return a table, once it is found to need exactly ``size_bytes``.

    Raises:
        InvalidFrame: it is no table, or one of another size; nothing was allocated for it.
    """
    try:
        entries = _tables.decode(table)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFrame(f"a frame's table of arrays cannot be read: {error}") from error
    for entry in entries:
        check(entry)
    found = Table(entries)
    if found.size_bytes != size_bytes:
        raise InvalidFrame(f"a frame's table needs {found.size_bytes} bytes, but it brings {size_bytes}")
    return found


def unpack(table: Table, payload: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a message, as ``Table.read`` does."""
    return table.read(payload)


def check(entry: Entry) -> None:
    """Raises InvalidFrame if an entry is none that is ever written."""
    if entry.datatype == "BYTES" or (entry.cast and entry.datatype != "FP32"):
        raise InvalidFrame(
            f"a frame has {entry.name[:100]!r} as {entry.datatype} {entry.cast}, which is never sent"
        )
    right = (1, entry.shape[1] if len(entry.shape) > 1 else 1) if entry.cast == "int8" else (0,)
    if entry.channels not in right:
        raise InvalidFrame(
            f"a frame has {entry.channels} channels of {entry.name[:100]!r} {list(entry.shape)}"
        )


def pack_one(name: str, array: NDArray[Any], cast: Cast) -> tuple[Entry, list[memoryview]]:
    """Return an array's entry and its bytes, in pieces.

    Raises:
        InvalidInput: it is of a type that cannot be sent.
    """
    import numpy as np

    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    datatype = _datatypes.get(array.dtype) or _datatype(name, array.dtype)
    if cast and datatype == "FP32" and array.size and array.ndim:
        found = _halved(name, array) if cast == "float16" else _quantised(name, array)
        if found is not None:
            return found
    entry = Entry(name, datatype, array.shape)
    if array.size and array.flags.c_contiguous and array.ndim:
        return entry, [memoryview(array).cast("B")]
    return entry, [_bytes(np.ascontiguousarray(array))] if array.size else []


def _datatype(name: str, dtype: np.dtype[Any]) -> Datatype:
    try:
        found = from_numpy(dtype)
    except InvalidModel as error:
        raise InvalidInput(f"the array {name!r} cannot be sent: {error}") from error
    if found == "BYTES":
        raise InvalidInput(
            f"the array {name!r} holds objects; only numbers and booleans are sent between slices"
        )
    _datatypes[dtype] = found
    return found


def _bytes(array: NDArray[Any]) -> memoryview:
    return memoryview(array.reshape(-1).view("u1"))


def _halved(name: str, array: NDArray[Any]) -> tuple[Entry, list[memoryview]] | None:
    import numpy as np

    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(array, np.float16)
    if not np.isfinite(half).all():
        return None
    return Entry(name, "FP32", array.shape, "float16"), [_bytes(half)]


def _quantised(name: str, array: NDArray[Any]) -> tuple[Entry, list[memoryview]] | None:
    import numpy as np

    channels = array.shape[1] if array.ndim > 1 and array.size >= CHANNEL_ELEMENTS * array.shape[1] else 1
    rows = np.moveaxis(array, 1, 0).reshape(channels, -1) if channels > 1 else array.reshape(1, -1)
    least = rows.min(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = (rows.max(axis=1) - least) / np.float32(_LEVELS)
    if not np.isfinite(scale).all():
        return None
    each = np.where(scale > 0, scale, np.float32(1))
    shape = (1, channels, *([1] * (array.ndim - 2))) if channels > 1 else (1,) * array.ndim
    steps = (array - least.reshape(shape)) / each.reshape(shape)
    levels = np.rint(steps, out=steps).clip(0, _LEVELS, out=steps).astype(np.uint8, order="C")
    pairs = np.stack([least, scale], axis=1).astype("<f4")
    return Entry(name, "FP32", array.shape, "int8", channels), [_bytes(pairs), _bytes(levels)]


def unpack_one(entry: Entry, piece: NDArray[Any]) -> NDArray[Any]:
    """Return an array of its bytes (``[size]`` uint8): a view of them where there was no cast."""
    if entry.cast:
        return widened(entry.cast, entry.shape, entry.channels, piece)
    return piece.view(NUMPY[entry.datatype]).reshape(entry.shape)
