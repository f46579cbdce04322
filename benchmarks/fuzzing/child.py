"""Fuzzes one surface in a process of its own, held to the memory of the function that serves a model.

``python -m benchmarks.fuzzing.child SURFACE EXAMPLES SEED`` prints one line of JSON. An allocation
over the limit fails (``RLIMIT_DATA``, which counts private memory: setrlimit(2)), and that is found as
the failure of a request; a crash ends this process, and whoever started it sees that.
"""

from __future__ import annotations

import collections
import io
import json
import logging
import re
import resource
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.fuzzing import models
from benchmarks.fuzzing.requests import events, mutate, once_in, request

LIMIT_BYTES = 1769 * 1024 * 1024
"""``ServingMemoryMb`` of template.yaml, by default."""
MAX_EDGE_BYTES = 64 * 1024
ANSWER_LIMIT_BYTES = 6 * 1024 * 1024
SOCKET_SECONDS = 20


class Tally:
    """Counts requests by status; ``check`` raises AssertionError for what must never be answered."""

    def __init__(self) -> None:
        self.statuses: collections.Counter[str] = collections.Counter()

    @property
    def requests(self) -> int:
        """How many were answered."""
        return sum(self.statuses.values())

    def check(self, status: object, body: bytes, *, is_json: bool) -> None:
        """Count an answer. Raises AssertionError unless it is a 2xx, or a 4xx with one sentence."""
        self.statuses[str(status)] += 1
        if not isinstance(status, int) or not 200 <= status < 500:
            raise AssertionError(f"status {status}: {body[:500]!r}")
        if status >= 400 and body:
            sentence = json.loads(body)["error"]
            if not isinstance(sentence, str) or not 0 < len(sentence) < 20_000:
                raise AssertionError(f"status {status} without a sentence: {body[:500]!r}")
        elif is_json and body:
            json.loads(body)


def fuzz(surface: str, examples: int, start: int) -> dict[str, Any]:
    """Send so many requests; return what was found."""
    logging.disable(logging.CRITICAL)
    tally = Tally()
    failure = ""
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-fuzz-") as folder,
        SURFACES[surface](Path(folder), tally) as run,
    ):
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
        chosen = settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=True,
            print_blob=False,
        )
        try:
            chosen(seed(start)(run))()
        except BaseException as error:  # whatever it was, it is the finding
            failure = "".join(traceback.format_exception(error, limit=-6))[-6000:]
    peak = _peak_bytes()
    return {
        "surface": surface,
        "requests": tally.requests,
        "statuses": dict(tally.statuses.most_common()),
        "peak_mb": round(peak / 2**20),
        "over_limit": peak > LIMIT_BYTES,
        "failure": failure,
    }


def _peak_bytes() -> int:
    """Return the most memory that this process held, as proc(5) counts it.

    ``getrusage`` would count what the process held that started this one: its peak outlives an exec.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0]) * 1024


@contextmanager
def _handler(folder: Path, tally: Tally) -> Any:
    """Events, to the function that serves a model."""
    from isthmus.inference.lambda_handler import answer

    service = models.service(folder)

    @given(event=events())
    def run(event: Any) -> None:
        _check_proxy(tally, answer(event, service))

    yield run


@contextmanager
def _router(folder: Path, tally: Tally) -> Any:
    """Events, to the function behind the API, which passes them on to a model's."""
    from isthmus.adapters.local.blobs import DirectoryBlobStore
    from isthmus.adapters.local.presign import MemoryPresigner
    from isthmus.adapters.local.records import MemoryRecords
    from isthmus.adapters.system import SystemClock
    from isthmus.errors import UnknownModel
    from isthmus.inference.lambda_handler import answer
    from isthmus.model import layout
    from isthmus.ports import Invocation
    from isthmus.workflows.hand_over import HandOver
    from isthmus.workflows.route_inference import route_inference

    service, records = models.service(folder), MemoryRecords()
    records.put({"pk": layout.CHAMPIONS, "sk": "pictures", "model": "pictures"})
    hand_over = HandOver(MemoryPresigner(DirectoryBlobStore(folder)), SystemClock())
    served = {layout.function_name("s", model) for model in service.models}

    class Served:
        """The models' functions, without Lambda between."""

        def invoke(self, function: str, qualifier: str, event: Any) -> Invocation:
            if function not in served or qualifier != "live":
                raise UnknownModel(f"there is no {function}")
            return Invocation(json.dumps(answer(event, service)).encode(), "1")

    ports: Any = {"stack": "s", "functions": Served(), "records": records, "hand_over": hand_over}

    @given(event=events())
    def run(event: Any) -> None:
        _check_proxy(tally, route_inference(event, **ports))

    yield run


def _check_proxy(tally: Tally, answered: dict[str, Any]) -> None:
    import base64

    size = len(json.dumps(answered).encode())
    if size > ANSWER_LIMIT_BYTES:
        raise AssertionError(f"the answer is {size} bytes, more than Lambda returns")
    packed = answered.get("isBase64Encoded", False)
    body = base64.b64decode(answered["body"], validate=True) if packed else answered["body"].encode()
    tally.check(answered["statusCode"], body, is_json=not packed)


@contextmanager
def _edge(folder: Path, tally: Tally) -> Any:
    """Bytes on a connection, to the server of a core device."""
    from isthmus.edge.server import EdgeServer

    service = models.service(folder)
    broken: list[str] = []

    class Watched(EdgeServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A handler that fails leaves its client without an answer: that counts."""
            error = sys.exception()
            if not isinstance(error, (ConnectionError, TimeoutError)):
                broken.append("".join(traceback.format_exception(error, limit=-3)))

    server = Watched(service, 0, max_request_bytes=MAX_EDGE_BYTES)
    server.start()

    @given(data=lines())
    def run(data: bytes) -> None:
        answered = _talk(server.port, data)
        if broken:
            raise AssertionError(broken.pop())
        _check_http(tally, answered, data)

    yield run
    server.close()


def _talk(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=SOCKET_SECONDS) as connection:
        with suppress(OSError):  # refused before it was all sent: the answer can still be read
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        pieces = []
        with suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                pieces.append(piece)
    return b"".join(pieces)


def _check_http(tally: Tally, answered: bytes, sent: bytes) -> None:
    """Check every answer on a connection."""
    if not answered:
        if sent.strip():
            tally.statuses["closed"] += 1
        return
    stream = io.BytesIO(answered)
    while line := stream.readline():
        version, status, *_ = line.decode("latin-1").split()
        if version != "HTTP/1.1":
            raise AssertionError(f"no answer of HTTP: {line!r}")
        headers = {}
        while (text := stream.readline()) not in (b"\r\n", b""):
            name, _, value = text.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if status == "100":
            continue
        rest = answered[stream.tell() :]
        # The answer to HEAD tells a length and has no body: the next answer follows, or nothing.
        bare = b"HEAD" in sent and (not rest or rest.startswith(b"HTTP/1.1 "))
        body = b"" if bare else stream.read(int(headers["content-length"]))
        tally.check(int(status), body, is_json=headers.get("content-type") == "application/json")


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Return one or two requests as they are on a wire, right or not."""
    return b"".join(_on_the_wire(draw) for _ in range(1 + once_in(draw, 4)))


ODD_LENGTHS = st.sampled_from(["-1", "0", "1_0", str(2**64), "9" * 5000, "٣", "", "+1", " 1 "])
ODD_VERSIONS = st.sampled_from(["HTTP/1.0", "HTTP/9.9", "HTTP", "", "http/1.1"])
ODD_HEADERS = st.sampled_from(
    [
        {"Transfer-Encoding": "chunked"},
        {"Connection": "close"},
        {"Host": ""},
        {"X": "y" * 70_000},
        {f"X-{number}": "1" for number in range(120)},
        {"Expect": "100-continue"},
    ]
)


def _on_the_wire(draw: st.DrawFn) -> bytes:
    asked = request(draw)
    query = "?" + "&".join(f"{name}={value}" for name, value in asked.query.items()) if asked.query else ""
    body = asked.body[: 2 * MAX_EDGE_BYTES]
    said = draw(ODD_LENGTHS) if once_in(draw, 12) else str(len(body))
    headers = {"Host": "localhost", "Content-Length": said, **asked.headers}
    if once_in(draw, 16):
        headers |= draw(ODD_HEADERS)
    version = draw(ODD_VERSIONS) if once_in(draw, 20) else "HTTP/1.1"
    head = f"{asked.method} {asked.path}{query} {version}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    data = head.encode(errors="surrogatepass") + body
    return mutate(draw, data) if once_in(draw, 6) else data


SURFACES: dict[str, Callable[[Path, Tally], Any]] = {"handler": _handler, "router": _router, "edge": _edge}


def main() -> None:
    """Fuzz, and print what was found."""
    surface, examples, start = sys.argv[1:]
    print(json.dumps(fuzz(surface, int(examples), int(start))))


if __name__ == "__main__":
    main()
