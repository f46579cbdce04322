"""What a core device asks the cloud for: the rest of a model, over the protocol, with the standard library's HTTP.

The edge function's package has no urllib3. The plan of a call is the client's own (``exchange.py``), so bodies over
Lambda's limit go through the bucket here too. Whether to ask at all is the balancer's to decide: a call is one attempt,
and no breaker holds it back. Each tensor goes and comes with its CRC-32.
"""

from __future__ import annotations

import functools
import http.client
import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from isthmus.client import calls, settings
from isthmus.client.exchange import Exchange, Limits, Lost, Outcome, Pause, Send
from isthmus.client.place import Breaker, Outgoing, Place
from isthmus.edge.cloud import CloudAnswer
from isthmus.edge.race import Errand
from isthmus.errors import InvalidAnswer, IsthmusError, Unavailable
from isthmus.inference.binary import CRC32, EXTENSION
from isthmus.inference.http import HttpResponse
from isthmus.inference.infer import SECONDS, TIMING
from isthmus.model.sliced import Cast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.edge.split_settings import SplitSettings

CONNECT_SECONDS = 5.0
PIECE_BYTES = 1 << 16
MOST_IDLE = 8
ATTEMPTS = 1


class CloudPart:
    """``edge.cloud.Cloud`` at an address. ``auth``: ``token``, ``aws`` (SigV4, by the credentials that boto3
    finds), or ``none``. Safe to share between threads.

    Raises:
        InvalidInput: an address that is none, or a token that would travel in the clear.
    """

    def __init__(self, address: str, token: str = "", auth: Literal["none", "aws", "token"] = "none") -> None:
        bearer = token if auth == "token" else None
        (place,) = settings.places(edge=None, api=address, stack=None, token=bearer)
        # What serves slices is isthmus: it takes bytes, and need not be asked.
        self._place = replace(
            place, authorize=None if auth == "none" else place.authorize, extensions=frozenset({EXTENSION})
        )
        self._idle: list[tuple[tuple[str, str], http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    def __call__(
        self,
        model: str,
        version: str | None,
        inputs: Mapping[str, NDArray[Any]],
        *,
        timeout_seconds: float,
        errand: Errand | None = None,
        cast: Cast = "",
    ) -> CloudAnswer:
        """As ``edge.cloud.Cloud``."""
        asked = {CRC32: True, TIMING: True}
        call = calls.infer(
            model, inputs, version=version, outputs=(), parameters=asked, binary=True, cast=cast
        )
        steps = Exchange(
            call, [self._for_one_call()], Limits(timeout_seconds, ATTEMPTS), time.monotonic
        ).steps()
        outcome: Outcome = None
        try:
            while True:
                outcome = self._do(steps.send(outcome), errand or Errand())
        except StopIteration as end:
            (sent, arrays), _ = end.value
        if any(CRC32 not in output.parameters for output in sent.outputs):
            raise InvalidAnswer("the cloud's answer has no CRC-32: it is not of this version of isthmus")
        seconds = sent.parameters.get(SECONDS)
        return CloudAnswer(arrays, float(seconds) if isinstance(seconds, (int, float)) else None)

    def latency(self, *, timeout_seconds: float) -> float:
        """As ``edge.cloud.Cloud``. Raises Unavailable."""
        ends = time.monotonic() + timeout_seconds
        # The first makes the connection, the second is measured.
        for _ in range(2):
            began = time.monotonic()
            step = Send(self._for_one_call(), "GET", "/v2/health/live", {}, b"", max(ends - began, 0.001))
            outcome = self._do(step, Errand())
            if not isinstance(outcome, HttpResponse) or outcome.status >= 500:
                raise Unavailable("the cloud does not say that it lives")
        return time.monotonic() - began

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _for_one_call(self) -> Place:
        return replace(self._place, breaker=Breaker())

    def _do(self, step: Send | Pause, errand: Errand) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            outgoing = step.place.outgoing(step.method, step.path, step.headers, step.body)
            return self._send(outgoing, time.monotonic() + step.timeout_seconds, errand)
        except IsthmusError as error:
            return Lost(error=error)
        except TimeoutError:
            return Lost("it took too long")
        except (OSError, http.client.HTTPException) as error:
            return Lost(f"the connection broke ({type(error).__name__})")

    def _send(self, outgoing: Outgoing, ends: float, errand: Errand) -> HttpResponse:
        parts = urlsplit(outgoing.url)
        where = (parts.scheme, parts.netloc)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        while True:
            connection, is_new = self._connection(where, ends)
            errand.stops_by(functools.partial(_reset, connection.sock))
            try:
                connection.request(outgoing.method, path, outgoing.body or None, dict(outgoing.headers))
                answer = connection.getresponse()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # The server may have closed a connection that was idle; an inference may be asked for twice.
                if is_new or errand.given_up or isinstance(error, TimeoutError):
                    raise
        return self._read(where, connection, answer, ends, errand)

    def _read(
        self,
        where: tuple[str, str],
        connection: http.client.HTTPConnection,
        answer: http.client.HTTPResponse,
        ends: float,
        errand: Errand,
    ) -> HttpResponse:
        pieces = []
        try:
            # A socket's timeout starts anew with each piece; the deadline does not.
            while piece := answer.read1(PIECE_BYTES):
                pieces.append(piece)
                if time.monotonic() > ends:
                    raise TimeoutError
            body = b"".join(pieces)
            if answer.length:
                raise http.client.IncompleteRead(body, answer.length)
        except BaseException:
            connection.close()
            raise
        errand.stops_by(lambda: None)  # from here on the connection is another call's
        self._keep(where, connection, answer)
        return HttpResponse(answer.status, body, dict(answer.getheaders()))

    def _connection(self, where: tuple[str, str], ends: float) -> tuple[http.client.HTTPConnection, bool]:
        left = max(ends - time.monotonic(), 0.001)
        with self._lock:
            at = next((at for at, (known, _) in enumerate(self._idle) if known == where), None)
            found = None if at is None else self._idle.pop(at)[1]
        if found is not None and found.sock is not None:
            found.sock.settimeout(left)
            return found, False
        kind = http.client.HTTPSConnection if where[0] == "https" else http.client.HTTPConnection
        made = kind(where[1], timeout=min(CONNECT_SECONDS, left))
        made.connect()
        made.sock.settimeout(max(ends - time.monotonic(), 0.001))
        return made, True

    def _keep(
        self, where: tuple[str, str], connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
    ) -> None:
        with self._lock:
            if not answer.will_close and len(self._idle) < MOST_IDLE:
                self._idle.append((where, connection))
                return
        connection.close()


def cloud_part(split: SplitSettings | None) -> CloudPart | None:
    """Return the way to the cloud that a core device's settings name; None where they name none."""
    return CloudPart(split.cloud, split.token, split.auth) if split is not None and split.cloud else None


def _reset(connection: socket.socket) -> None:
    """End a connection under whoever waits for it: what the kernel still has to send is dropped, so that the link is
    free for the next request (socket(7), SO_LINGER)."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Not the method of a TLS socket, which would take its state from under the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
