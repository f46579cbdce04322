"""A bucket of read-only files behind a link with latency: what downloads are measured on.

Three processes, so that neither side's threads wait for the other's. The bucket answers what a download asks of S3
(ListObjectsV2, HeadObject, GetObject with Range and If-Match) from a folder, by ``sendfile``; signatures are not
looked at. The link passes TCP on, each way after half the round-trip time, without a limit on bandwidth, and counts
the bytes that went to the client.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import socket
import socketserver
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

BUCKET = "data"
FOLDER = "datasets/data/"
"""Where the files of the dataset ``data`` lie."""
PAGE = 1000
PIECE_BYTES = 256 * 1024
WINDOW_BYTES = 8 * 1024 * 1024
"""What one connection may have under way: 500 MiB/s at 15 ms."""
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Paced:
    """``url``: the endpoint behind the link. ``passed``: bytes that reached the client so far."""

    url: str
    _passed: Synchronized[int]

    @property
    def passed(self) -> int:
        """Return the bytes that the link gave to clients so far."""
        return int(self._passed.value)


@contextlib.contextmanager
def paced_bucket(folder: Path, *, round_trip_seconds: float) -> Iterator[Paced]:
    """Serve the files below ``folder`` as the bucket ``data`` until the end of the block."""
    passed: Any = SPAWN.Value("q", 0)
    with (
        _running(_serve, str(folder)) as server,
        _running(_link, server, round_trip_seconds / 2, passed) as port,
    ):
        yield Paced(f"http://127.0.0.1:{port}", passed)


def roomy_folder(needed_bytes: int) -> str | None:
    """Return a memory file system with that much room, if there is one: then no disk decides."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free >= needed_bytes else None


def make_files(bucket: Path, manifest: Path, *, files: int, file_bytes: int) -> None:
    """Write random files of the dataset, named by their digests; the manifest lists the digests."""
    (bucket / FOLDER).mkdir(parents=True)
    digests = []
    for _ in range(files):
        data = os.urandom(file_bytes)
        digests.append(hashlib.sha256(data).hexdigest())
        (bucket / FOLDER / digests[-1]).write_bytes(data)
    manifest.write_text(json.dumps(digests))


def variables_for(bucket: Paced) -> dict[str, str]:
    """Return the environment of a process whose S3 is behind the link, and that calculates on one core."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return own | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": bucket.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


@contextlib.contextmanager
def _running(target: Any, *arguments: Any) -> Iterator[int]:
    """Run a server in a process of its own; yield its port."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield int(ours.recv())
    finally:
        process.terminate()
        process.join()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    root = Path()


class _Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def log_message(self, format: str, *arguments: object) -> None:
        return

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix(f"/{BUCKET}").strip("/")
        if key:
            self._object(key, with_body=True)
        else:
            self._list(parse_qs(url.query))

    def do_HEAD(self) -> None:
        self._object(unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}").strip("/"), with_body=False)

    def _object(self, key: str, *, with_body: bool) -> None:
        path = self.server.root / key
        if not path.is_file():
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")
            return
        facts = path.stat()
        etag = _etag(path)
        if self.headers.get("If-Match", etag) != etag:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>", "application/xml")
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        stop = min(int(asked[2]) + 1, facts.st_size) if asked and asked[2] else facts.st_size
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", etag)
        self.send_header("Last-Modified", formatdate(facts.st_mtime, usegmt=True))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{facts.st_size}")
        self.end_headers()
        if with_body:
            with path.open("rb") as file:
                while start < stop:
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, stop - start)

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        keys = sorted(
            path.relative_to(self.server.root).as_posix()
            for path in self.server.root.rglob("*")
            if path.is_file()
        )
        left = [key for key in keys if key.startswith(prefix) and key > after]
        page = left[:PAGE]
        more = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if len(left) > PAGE else ""
        entries = "".join(self._entry(key) for key in page)
        self._answer(
            200,
            (
                f"<ListBucketResult><Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><MaxKeys>{PAGE}</MaxKeys>"
                f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{str(bool(more)).lower()}</IsTruncated>"
                f"{more}{entries}</ListBucketResult>"
            ).encode(),
            "application/xml",
        )

    def _entry(self, key: str) -> str:
        path = self.server.root / key
        changed = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(path.stat().st_mtime))
        return (
            f"<Contents><Key>{quote(key)}</Key><LastModified>{changed}</LastModified><ETag>{_etag(path)}</ETag>"
            f"<Size>{path.stat().st_size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", kind)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(path: Path) -> str:
    facts = path.stat()
    return f'"{hashlib.md5(f"{path} {facts.st_size} {facts.st_mtime_ns}".encode(), usedforsecurity=False).hexdigest()}"'


def _serve(pipe: Any, folder: str) -> None:
    with _Server(("127.0.0.1", 0), _Bucket) as server:
        server.root = Path(folder)
        pipe.send(server.server_address[1])
        server.serve_forever(0.1)


def _link(pipe: Any, to_port: int, delay_seconds: float, passed: Synchronized[int]) -> None:
    async def run() -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        pipe.send(listener.getsockname()[1])
        loop, tasks = asyncio.get_running_loop(), set()
        while True:
            client, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(_join(client, to_port, delay_seconds, passed))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    asyncio.run(run())


async def _join(client: socket.socket, to_port: int, delay_seconds: float, passed: Synchronized[int]) -> None:
    server = socket.create_connection(("127.0.0.1", to_port))
    for end in (client, server):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The three-way handshake takes a round trip; the loopback's own takes none.
    await asyncio.sleep(2 * delay_seconds)
    with client, server:
        await asyncio.gather(
            _pass_on(client, server, delay_seconds, None),
            _pass_on(server, client, delay_seconds, passed),
            return_exceptions=True,
        )


async def _pass_on(
    source: socket.socket, target: socket.socket, delay_seconds: float, passed: Synchronized[int] | None
) -> None:
    """Hand on what ``source`` sends, each piece after the delay, in order."""
    loop, arrived, room = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    line: collections.deque[tuple[float, bytes]] = collections.deque()
    waiting = 0

    async def send() -> None:
        nonlocal waiting
        while True:
            while not line:
                arrived.clear()
                await arrived.wait()
            due, piece = line.popleft()
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            if not piece:
                target.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(target, piece)
            waiting -= len(piece)
            room.set()
            if passed is not None:
                passed.value += len(piece)

    sender = asyncio.create_task(send())
    try:
        while True:
            while waiting >= WINDOW_BYTES:
                room.clear()
                await room.wait()
            piece = await loop.sock_recv(source, PIECE_BYTES)
            waiting += len(piece)
            line.append((loop.time() + delay_seconds, piece))
            arrived.set()
            if not piece:
                break
    except OSError:
        line.append((loop.time() + delay_seconds, b""))
        arrived.set()
    await sender
