"""``isthmus.Client``: for threads, on urllib3."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import urllib3

from isthmus.client import calls, settings
from isthmus.client.answer import Answer, Classification, Trip
from isthmus.client.exchange import Call, Exchange, Limits, Lost, Outcome, Pause, Send
from isthmus.errors import IsthmusError
from isthmus.inference.http import HttpResponse
from isthmus.inference.messages import ModelMetadata

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

T = TypeVar("T")

DEADLINE_SECONDS = 30.0
"""API Gateway gives up after 29 (REST API quotas, "Integration timeout")."""
ATTEMPTS = 4
CONNECT_SECONDS = 5.0
PIECE_BYTES = 1 << 16
MOST_CONNECTIONS = 64


class Client:
    """Asks models in service: the core device first, when one is named, then the cloud.

    ``edge``: address of a core device, with its port; alone, nothing leaves the device.
    ``api``: the API's address; ``stack``: or the stack that it belongs to. Without any of the three: the
    stack of ISTHMUS_STACK, else ``isthmus``. ``token``: a bearer token for the API; without one, requests
    are signed with the AWS credentials that boto3 finds. ``api_key``: a key of the API's usage plan, which goes
    along with either. ``deadline_seconds``: for a whole call, retries included; ``attempts``: requests in all
    that a call may take. Safe to share between threads.

    Raises:
        InvalidInput: an address that is none.
    """

    def __init__(
        self,
        *,
        edge: str | None = None,
        api: str | None = None,
        stack: str | None = None,
        token: str | None = None,
        api_key: str | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._places = settings.places(edge=edge, api=api, stack=stack, token=token, api_key=api_key)
        self._limits = Limits(deadline_seconds, attempts)
        # Retries are the exchange's; a pool keeps connections for so many threads at once.
        self._pool = urllib3.PoolManager(retries=False, maxsize=MOST_CONNECTIONS)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        version: str | None = None,
        outputs: Sequence[str] = (),
        preprocess: bool = False,
        postprocess: bool = False,
        parameters: Mapping[str, Any] | None = None,
        binary: bool | None = None,
        deadline_seconds: float | None = None,
    ) -> Answer:
        """Return a model's outputs for named arrays, batch first, of the dtypes that the model takes.

        ``preprocess``: the one input is in the bundle's raw form; ``postprocess``: add what the bundle makes
        of the outputs, such as labels. ``binary``: send and receive bytes where the server can, or never;
        by default for tensors from 4 KiB on.

        Raises:
            InvalidInput: an input cannot be sent. InvalidRequest: the server refuses it; says why.
            UnknownModel, PayloadTooLarge, PermissionMissing: as the server says.
            DeadlineExceeded, Throttled, InvalidAnswer, Unavailable: no (right) answer; it was asked again.
        """
        flags = {"preprocess": preprocess, "postprocess": postprocess}
        asked = {**(parameters or {}), **{name: True for name, flag in flags.items() if flag}}
        call = calls.infer(model, inputs, version=version, outputs=outputs, parameters=asked, binary=binary)
        return calls.answered(*self._run(call, deadline_seconds))

    def classify(
        self,
        model: str,
        picture: bytes,
        *,
        version: str | None = None,
        top_k: int | None = None,
        deadline_seconds: float | None = None,
    ) -> Classification:
        """Return what a picture (the bytes of a PNG or JPEG file) shows, best first.

        Raises:
            As ``infer``; InvalidRequest also when the model takes no pictures.
        """
        call = calls.classify(model, picture, version=version, top_k=top_k)
        return calls.classified(*self._run(call, deadline_seconds))

    def metadata(
        self, model: str, *, version: str | None = None, deadline_seconds: float | None = None
    ) -> ModelMetadata:
        """Return a model's versions, inputs and outputs. Raises as ``infer``."""
        return self._run(calls.metadata(model, version=version), deadline_seconds)[0]

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        deadline_seconds: float | None = None,
    ) -> tuple[HttpResponse, Trip]:
        """Send a request that you wrote, in the same order and with the same retries: only what may be
        done twice. Raises as ``infer``."""
        return self._run(calls.plain(method, path, headers or {}, body), deadline_seconds)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Call[T], deadline_seconds: float | None) -> tuple[T, Trip]:
        limits = self._limits
        if deadline_seconds is not None:
            limits = Limits(deadline_seconds, limits.attempts)
        steps = Exchange(call, self._places, limits, time.monotonic).steps()
        outcome: Outcome = None
        try:
            while True:
                step = steps.send(outcome)
                outcome = self._do(step)
        except StopIteration as end:
            found: tuple[T, Trip] = end.value
            return found

    def _do(self, step: Send | Pause) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return self._send(step)
        except IsthmusError as error:
            return Lost(error=error)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return Lost(reason_of(error))

    def _send(self, step: Send) -> HttpResponse | Lost:
        ends = time.monotonic() + step.timeout_seconds
        outgoing = step.place.outgoing(step.method, step.path, step.headers, step.body)
        timeout = urllib3.Timeout(
            total=max(ends - time.monotonic(), 0.001), connect=min(CONNECT_SECONDS, step.timeout_seconds)
        )
        response = self._pool.request(
            outgoing.method,
            outgoing.url,
            body=outgoing.body or None,
            headers=outgoing.headers,
            timeout=timeout,
            redirect=False,
            preload_content=False,
        )
        pieces = []
        # A socket's timeout starts anew with each piece; the deadline does not.
        while piece := response.read1(PIECE_BYTES):
            pieces.append(piece)
            if time.monotonic() > ends:
                response.close()
                return Lost(f"its answer took longer than {step.timeout_seconds:.3g} s")
        response.release_conn()
        return HttpResponse(response.status, b"".join(pieces), dict(response.headers))


def reason_of(error: BaseException) -> str:
    """Return what went wrong with a connection, in a few words for a person."""
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        cause = error.__cause__ or error.__context__
        number = getattr(cause, "errno", None)
        return f"no connection ({os.strerror(number) if number and number > 0 else cause or error})"
    if isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError)):
        return "it took too long"
    return f"the connection broke ({type(error).__name__})"
