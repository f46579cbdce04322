"""The search finds what it is for: raw data of every form, planted in what a rig might send."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from tests.e2e.capture import http, search

RANDOM = np.random.default_rng(3)
SAMPLES = RANDOM.integers(0, 17, (40, 64)) + 0.0625
LINES = [",".join(f"{value:.4f}" for value in sample).encode() for sample in SAMPLES]
WANTED = search.needles(SAMPLES, LINES)
NOISE = RANDOM.integers(0, 256, 20_000, dtype=np.uint8).tobytes()


def archived(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes", NOISE)
        archive.writestr("weights", data)
    return buffer.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "base64": lambda data: base64.b64encode(b"x" + data),
    "base64 in lines": base64.encodebytes,
    "deflated": zlib.compress,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "an archive": archived,
    "gzip in base64": lambda data: base64.b64encode(gzip.compress(data)),
}


def forms(at: int) -> dict[str, bytes]:
    numbers = {
        f"{name} {kind}": values[at].astype(kind).tobytes()
        for name, values in search.scaled(SAMPLES).items()
        for kind in search.TYPES
    }
    whole = np.rint(SAMPLES[at]).astype(np.int8).tobytes()
    return {"text": LINES[at], "int8": whole, **numbers}


@pytest.mark.parametrize("packed", PACKED)
def test_a_leak_of_any_form_is_found_and_named(packed: str) -> None:
    for name, leak in forms(5).items():
        found = search.leaks(NOISE + PACKED[packed](leak) + NOISE, WANTED)
        assert name in found, f"{name} {packed}"


def test_what_holds_none_is_said_to_hold_none() -> None:
    assert search.leaks(NOISE + gzip.compress(NOISE), WANTED) == {}


def test_windows_that_chance_could_write_are_left_out_and_counted() -> None:
    flat = np.zeros((2, 64))
    flat[1, :16] = np.arange(16)
    wanted = search.needles(flat + 0.0625, [b"0.0625," * 64, LINES[0][: 7 * 64]])
    assert wanted.ignored > 0
    assert search.leaks(bytes(1000) + b"0.0625," * 64, wanted) == {}


def test_requests_are_read_with_every_framing_of_their_bodies() -> None:
    chunked = b"4\r\nabcd\r\n2;chunk-signature=00\r\nef\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"
    data = (
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
        b"PUT /b HTTP/1.1\r\nContent-Length: 3\r\n\r\n123"
        b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked
        + b"PUT /d HTTP/1.1\r\nContent-Encoding: aws-chunked\r\nContent-Length: %d\r\n\r\n" % len(chunked) + chunked
        + b"POST /e HTTP/1.1\r\nContent-Length: 2\r\n\r\nok"
    )  # fmt: skip
    read = [(request.method, request.target, request.body) for request in http.requests(data)]
    expected = [b"", b"123", b"abcdef", b"abcdef", b"ok"]
    assert [body for _, _, body in read] == expected
    assert [target for _, target, _ in read] == ["/a", "/b", "/c", "/d", "/e"]
