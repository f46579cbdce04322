"""A bucket that takes objects, in memory, each of whose requests takes as long as it is told: S3 from afar.

It answers what ``S3BlobStore`` asks for: PutObject (with If-None-Match), GetObject, HeadObject, DeleteObject and
ListObjectsV2. A request takes half of its time on its way there and half on its way back, as on a line with that round
trip; several at once do not wait for each other. A process of its own, so that no side's threads wait for its.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

BUCKET = "relay"
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Store:
    """``url``: the endpoint. ``counts``: how many requests of each kind came since the last time."""

    url: str
    _pipe: Any

    def counts(self) -> Counter[str]:
        """Return how many requests of each kind came since the last call."""
        self._pipe.send("counts")
        found: Counter[str] = self._pipe.recv()
        return found


@contextlib.contextmanager
def paced_store(request_seconds: float) -> Iterator[Store]:
    """Serve an empty bucket named ``relay`` until the end of the block."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_run, args=(theirs, request_seconds), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Store(f"http://127.0.0.1:{ours.recv()}", ours)
    finally:
        process.terminate()
        process.join()


def _run(pipe: Any, request_seconds: float) -> None:
    asyncio.run(_Bucket(pipe, request_seconds / 2).serve())


class _Bucket:
    def __init__(self, pipe: Any, half_seconds: float) -> None:
        self._pipe = pipe
        self._half_seconds = half_seconds
        self._objects: dict[str, bytes] = {}
        self._counts: Counter[str] = Counter()

    async def serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=2**26)
        self._pipe.send(server.sockets[0].getsockname()[1])
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._tell)
        async with server:
            await server.serve_forever()

    def _tell(self) -> None:
        self._pipe.recv()
        self._pipe.send(self._counts)
        self._counts = Counter()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                came = loop.time()
                verb, target, _ = head[0].split(" ")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in head[1:])
                }
                if "100-continue" in headers.get("expect", ""):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await asyncio.sleep(came + self._half_seconds - loop.time())
                status, more, answer = self._answer(verb, target, headers, _plain(body, headers))
                done = loop.time()
                await asyncio.sleep(done + self._half_seconds - loop.time())
                length = more.pop("Content-Length", str(len(answer)))
                lines = [
                    f"HTTP/1.1 {status} X",
                    f"Content-Length: {length}",
                    *(f"{k}: {v}" for k, v in more.items()),
                ]
                writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if verb == "HEAD" else answer))
        writer.close()

    def _answer(
        self, verb: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        url = urlsplit(target)
        key = unquote(url.path).removeprefix(f"/{BUCKET}").strip("/")
        if not key:
            self._counts["LIST"] += 1
            return (
                200,
                {"Content-Type": "application/xml"},
                self._list(parse_qs(url.query).get("prefix", [""])[0]),
            )
        self._counts[verb] += 1
        if verb == "PUT":
            if headers.get("if-none-match") == "*" and key in self._objects:
                return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
            self._objects[key] = body
            return 200, {"ETag": '"x"'}, b""
        if verb == "DELETE":
            self._objects.pop(key, None)
            return 204, {}, b""
        if key not in self._objects:
            return 404, {"Content-Type": "application/xml"}, b"<Error><Code>NoSuchKey</Code></Error>"
        found = self._objects[key]
        return 200, {"ETag": '"x"', "Content-Length": str(len(found))}, found

    def _list(self, prefix: str) -> bytes:
        entries = "".join(
            f"<Contents><Key>{quote(key)}</Key><Size>{len(data)}</Size></Contents>"
            for key, data in sorted(self._objects.items())
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


def _plain(body: bytes, headers: dict[str, str]) -> bytes:
    """Return a body without the framing of ``aws-chunked``, in which botocore sends checksums after it."""
    if "aws-chunked" not in headers.get("content-encoding", ""):
        return body
    plain = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size.split(b";")[0], 16)
        plain += rest[:count]
        body = rest[count + 2 :] if count else b""
    return plain
