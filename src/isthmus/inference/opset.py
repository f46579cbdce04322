"""The opset of an ONNX file, read from its protobuf without the ``onnx`` package.

Encoding: https://protobuf.dev/programming-guides/encoding. Fields: ``ModelProto.opset_import`` is 8,
``OperatorSetIdProto.domain`` 1 and ``.version`` 2 (onnx.proto). Other fields, the graph and its
weights among them, are skipped by seeking, so a large model costs a few reads.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from isthmus.errors import InvalidModel

OPSET_IMPORT, DOMAIN, VERSION = 8, 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_ENTRY_BYTES = 1024


def read_opset(path: Path) -> int:
    """Return the version of the default operator set (domain ``ai.onnx``) that the model imports.

    Raises:
        InvalidModel: not a protobuf message, or it imports no default operator set.
    """
    with path.open("rb") as stream:
        for field, value in _fields(stream, path.stat().st_size, keep=OPSET_IMPORT):
            entry = dict(_fields(io.BytesIO(value), len(value))) if isinstance(value, bytes) else {}
            if field == OPSET_IMPORT and entry.get(DOMAIN, b"") in (b"", b"ai.onnx"):
                version = entry.get(VERSION)
                if isinstance(version, int):
                    return version
    raise InvalidModel(f"{path.name} imports no default ONNX operator set; it is not an ONNX model")


def _fields(stream: BinaryIO, size: int, keep: int | None = None) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of one message; of length-delimited ones only ``keep`` (None: all) is read."""
    while (at := stream.tell()) < size:
        field, wire = divmod(_varint(stream), 8)
        if wire == VARINT:
            yield field, _varint(stream)
        elif wire in (FIXED64, FIXED32):
            stream.seek(8 if wire == FIXED64 else 4, io.SEEK_CUR)
        elif wire == BYTES:
            length = _varint(stream)
            if length > size - stream.tell():
                raise InvalidModel(f"ONNX field {field} at byte {at} is longer than its message")
            if keep is None or (field == keep and length <= MAX_ENTRY_BYTES):
                yield field, stream.read(length)
            else:
                stream.seek(length, io.SEEK_CUR)
        else:
            raise InvalidModel(f"not an ONNX model: wire type {wire} at byte {at}")


def _varint(stream: BinaryIO) -> int:
    """Read one base-128 varint: at most ten bytes, least significant group first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise InvalidModel("not an ONNX model: it ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise InvalidModel("not an ONNX model: a number is longer than ten bytes")
