"""Search captured bytes for raw data in every form that a program may have given them.

Each window of ``VALUES`` neighbouring values of a sample is looked for as text, as numbers of each type and byte order,
as they are, as integers, and normalised; plain, in base64, and in what was compressed. A window whose bytes take fewer
than ``DISTINCT`` values could stand anywhere by chance, and is left out and counted.
"""

from __future__ import annotations

import base64
import bz2
import functools
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

VALUES = 16
DISTINCT = 6
PREFIX = 8
"""Bytes by which a window is found, before all of it is compared."""
MAX_INFLATED_BYTES = 64 << 20
BASE64 = re.compile(rb"(?:[A-Za-z0-9+/_-]{24,}\r?\n)*[A-Za-z0-9+/_-]{24,}={0,2}")
STARTS = (
    b"\x1f\x8b\x08",
    b"\x78\x01",
    b"\x78\x5e",
    b"\x78\x9c",
    b"\x78\xda",
    b"PK\x03\x04",
    b"BZh",
    b"\xfd7zXZ\x00",
)
TYPES = ("<f4", ">f4", "<f2", ">f2", "<f8", ">f8")


@dataclass
class Needles:
    """What is looked for: forms by name, each an array of windows (windows, bytes), uint8."""

    forms: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    ignored: int = 0
    """Windows of so little entropy that chance could write them."""

    def add(self, name: str, windows: NDArray[np.uint8], least: int = DISTINCT) -> None:
        """Look for windows, uint8 (windows, bytes), that have ``least`` different bytes."""
        distinct = np.array([len(np.unique(window)) for window in windows])
        self.ignored += int(np.sum(distinct < least))
        self.forms[name] = np.unique(windows[distinct >= least], axis=0)

    @functools.cached_property
    def prefixes(self) -> NDArray[np.uint64]:
        """How a window of any form begins: asked for when all forms are there."""
        return np.unique(np.concatenate([_prefixes(windows) for windows in self.forms.values()]))

    @functools.cached_property
    def whole(self) -> dict[str, tuple[int, set[bytes]]]:
        """Of each form: how long its windows are, and they themselves."""
        return {
            name: (windows.shape[1], {window.tobytes() for window in windows})
            for name, windows in self.forms.items()
        }


def needles(samples: NDArray[np.float64], lines: list[bytes]) -> Needles:
    """Return every form of samples, float64 (samples, values); ``lines``: the same as they lie in their file."""
    found = Needles()
    width = min(len(line) for line in lines)
    text = np.array([np.frombuffer(line[:width], np.uint8) for line in lines])
    found.add("text", _windows(text, 3 * VALUES), least=DISTINCT + 3)
    for name, values in scaled(samples).items():
        for kind in TYPES:
            found.add(f"{name} {kind}", _as_bytes(values.astype(kind)))
    whole = np.rint(samples)
    for name, integers in {
        "": whole,
        " less their middle": whole - 8,
        " of 127": np.rint(samples / 16 * 127),
    }.items():
        found.add(f"int8{name}", _as_bytes(integers.astype(np.int8)))
    return found


def scaled(samples: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return samples as they are and in the usual normalised forms."""
    return {
        "as they are": samples,
        "over 16": samples / 16,
        "over 255": samples / 255,
        "over their maximum": samples / samples.max(),
        "from -1 to 1": samples / 8 - 1,
        "standardised": (samples - samples.mean()) / samples.std(),
    }


def _as_bytes(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    return _windows(raw, VALUES * values.itemsize)


def _windows(raw: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Cut each row (rows, bytes) into neighbouring windows of ``size`` bytes; a rest is left."""
    size = min(size, raw.shape[1])
    number = raw.shape[1] // size
    return np.ascontiguousarray(raw[:, : number * size]).reshape(-1, size)


def leaks(data: bytes, wanted: Needles) -> dict[str, int]:
    """Return how many windows of each form stand in the data, or in what is packed in them: of forms that do."""
    found: dict[str, int] = {}
    for layer in layers(data):
        places = np.flatnonzero(np.isin(_codes(layer), wanted.prefixes)).tolist()
        if not places:
            continue
        for name, (size, windows) in wanted.whole.items():
            if number := len(windows.intersection(layer[place : place + size] for place in places)):
                found[name] = found.get(name, 0) + number
    return found


def _codes(data: bytes) -> NDArray[np.uint64]:
    """Return the eight bytes at every place of the data, as a number."""
    if len(data) < PREFIX:
        return np.empty(0, np.uint64)
    words = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), PREFIX)
    return np.ascontiguousarray(words).view(np.uint64).ravel()


def _prefixes(windows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(windows[:, :PREFIX]).view(np.uint64).ravel()


def layers(data: bytes, depth: int = 3) -> Iterator[bytes]:
    """Yield the data, and what is packed in them: base64 decoded, streams inflated."""
    yield data
    if not depth:
        return
    for inner in (*_decoded(data), *_inflated(data)):
        if len(inner) >= VALUES:
            yield from layers(inner, depth - 1)


def _decoded(data: bytes) -> Iterator[bytes]:
    for match in BASE64.finditer(data):
        text = match.group().rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"), b"\r\n")
        for skip in range(4):  # it may begin in the middle of a longer run of such letters
            part = text[skip:]
            part = part[: len(part) - len(part) % 4]
            if part:
                yield base64.b64decode(part)


def _inflated(data: bytes) -> Iterator[bytes]:
    for start in STARTS:
        place = data.find(start)
        while place >= 0:
            yield from _unpacked(data[place:], start)
            place = data.find(start, place + 1)


def _unpacked(data: bytes, start: bytes) -> Iterator[bytes]:
    if start == b"PK\x03\x04":
        yield from _members(data)
        return
    makers = {
        b"\x1f\x8b\x08": lambda: zlib.decompressobj(31),
        b"BZh": bz2.BZ2Decompressor,
        STARTS[-1]: lzma.LZMADecompressor,
    }
    unpacker = makers.get(start, zlib.decompressobj)()
    out = io.BytesIO()
    try:
        for offset in range(0, len(data), 65_536):
            out.write(unpacker.decompress(data[offset : offset + 65_536]))
            if unpacker.eof or out.tell() > MAX_INFLATED_BYTES:
                break
    except (zlib.error, OSError, EOFError, lzma.LZMAError, gzip.BadGzipFile):
        pass  # by chance there are such two letters anywhere
    if out.tell():
        yield out.getvalue()


def _members(data: bytes) -> Iterator[bytes]:
    """Yield the first member of an archive that begins here: its header says where its stream is (APPNOTE, 4.3.7)."""
    method, name, extra = (int.from_bytes(data[at : at + 2], "little") for at in (8, 26, 28))
    if method == zipfile.ZIP_DEFLATED:
        unpacker = zlib.decompressobj(-15)
        try:
            inner = unpacker.decompress(data[30 + name + extra :], MAX_INFLATED_BYTES)
        except zlib.error:
            return
        if inner:
            yield inner
