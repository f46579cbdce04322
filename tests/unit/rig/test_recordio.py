"""RecordIO as dmlc-core reads it: a reader that joins parts gets each file back."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from isthmus.rig.recordio import MAGIC, PIECE_BYTES, parts


def stream(path: Path) -> bytes:
    with path.open("rb") as file:
        data = path.read_bytes()
        return b"".join(
            part.head + data[part.start : part.stop] + part.padding
            for part in parts(file.fileno(), len(data))
        )


def records(data: bytes) -> list[bytes]:
    """Read as ``RecordIOReader::NextRecord`` of dmlc-core does."""
    found, record, at = [], b"", 0
    while at < len(data):
        assert data[at : at + 4] == MAGIC
        (word,) = struct.unpack("<I", data[at + 4 : at + 8])
        flag, length = word >> 29, word & (1 << 29) - 1
        record += data[at + 8 : at + 8 + length]
        at += 8 + -(-length // 4) * 4
        if flag in (0, 3):
            found.append(record)
            record = b""
        else:
            record += MAGIC
    assert not record
    return found


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1",
        b"1234",
        b"12345",
        MAGIC,
        MAGIC + b"tail",
        b"head" + MAGIC,
        b"head" + MAGIC + MAGIC + b"tails",
        b"odd" + MAGIC + b"x",
        b"\0" * (PIECE_BYTES - 4) + MAGIC + MAGIC + b"\1" * 7,
    ],
)
def test_a_file_is_one_record_and_no_head_stands_within_its_data(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    made = stream(path)
    assert len(made) % 4 == 0
    assert records(made + made) == [data, data]
    heads = [at for at in range(0, len(made), 4) if made[at : at + 4] == MAGIC]
    with path.open("rb") as file:
        assert len(heads) == len(list(parts(file.fileno(), len(data))))


def test_a_record_is_written_as_mxnet_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"record_0!")
    assert stream(path) == bytes.fromhex("0a23d7ce 09000000") + b"record_0!" + b"\0\0\0"
