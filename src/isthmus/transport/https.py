"""The inference protocol as a transport: each message is a request to a slice's model, each answer a message back.

Tensors go as bytes (``inference/binary.py``). Who carries requests is a callable: the client, a core device's
service in the same process, a test's server. 32-bit floats may go in fewer bits, which is no part of the
protocol: such an input has the parameter ``isthmus_cast``, and a server that does not know it refuses the input by
its size. ``restore`` turns such a request into one that any server takes.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from isthmus.errors import (
    ChannelClosed,
    DeadlineExceeded,
    InvalidAnswer,
    InvalidFrame,
    InvalidRequest,
    PayloadTooLarge,
    Throttled,
    Unavailable,
)
from isthmus.inference.binary import HEADER, SIZE
from isthmus.inference.http import BINARY, HttpRequest, HttpResponse
from isthmus.model.sliced import Cast
from isthmus.model.units import format_bytes
from isthmus.transport.casts import ALIGNED_BYTES, Entry, check, pack_one, unpack_one
from isthmus.transport.ports import MAX_MESSAGE_BYTES, Tensors
from isthmus.transport.session import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

CAST, CHANNELS = "isthmus_cast", "isthmus_channels"
Carry = Callable[[HttpRequest, float], HttpResponse]
"""Has a request answered, within so many seconds. Raises Unavailable, DeadlineExceeded."""


class SentTensor(msgspec.Struct, kw_only=True):
    """A tensor in a request or an answer, as bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, Any] = {}


class SentAnswer(msgspec.Struct):
    """An answer's JSON object, as far as it is needed."""

    outputs: list[SentTensor]
    id: str = ""


class SentRequest(msgspec.Struct):
    """A request's JSON object, as far as it is needed."""

    inputs: list[SentTensor]
    id: str = ""


class InferenceTransport:
    """A way to one model. ``window``: how many requests may be under way."""

    def __init__(
        self,
        carry: Carry,
        model: str,
        *,
        cast: Cast = "",
        max_bytes: int = MAX_MESSAGE_BYTES,
        window: Window | None = None,
    ) -> None:
        self._carry = carry
        self._path = f"/v2/models/{quote(model, safe='')}/infer"
        self._cast: Cast = cast
        self._max_bytes = max_bytes
        self._window = window or Window()

    def connect(self, *, deadline: float) -> InferenceChannel:
        return InferenceChannel(self._carry, self._path, self._cast, self._max_bytes, self._window)


class InferenceChannel:
    """The asking end: what is received are the answers, in the order of the questions."""

    def __init__(self, carry: Carry, path: str, cast: Cast, max_bytes: int, window: Window) -> None:
        self._carry = carry
        self._path = path
        self._cast: Cast = cast
        self._max_bytes = max_bytes
        self._window = window
        self._pool = ThreadPoolExecutor(window.messages, thread_name_prefix="isthmus-inference")
        self._asked: deque[Future[dict[str, NDArray[Any]]]] = deque()
        self._closed = False

    def send(self, tensors: Tensors, *, deadline: float) -> None:
        self._check()
        name = uuid.uuid4().hex
        request = write_request(self._path, tensors, name, self._cast)
        if len(request.body) > self._max_bytes:
            size, most = format_bytes(len(request.body)), format_bytes(self._max_bytes)
            raise PayloadTooLarge(f"a message is {size}; at most {most} is sent: send smaller batches")
        waiting = [each for each in list(self._asked) if not each.done()]
        if len(waiting) >= self._window.messages:
            _outcome(waiting[0], deadline)
        self._asked.append(self._pool.submit(self._ask, request, name, deadline))

    def receive(self, *, deadline: float) -> dict[str, NDArray[Any]]:
        while not self._asked:
            self._check()
            if time.monotonic() > deadline:
                raise DeadlineExceeded("nothing was asked, so no answer came in time")
            time.sleep(IDLE_SECONDS)
        first = self._asked[0]
        _outcome(first, deadline)
        self._asked.popleft()
        return first.result()

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _check(self) -> None:
        if self._closed:
            raise ChannelClosed("this side closed the channel")

    def _ask(self, request: HttpRequest, name: str, deadline: float) -> dict[str, NDArray[Any]]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("earlier requests took all of the time")
        return read_answer(self._carry(request, left), name)


IDLE_SECONDS = 0.005


def write_request(path: str, tensors: Tensors, name: str, cast: Cast) -> HttpRequest:
    """Return the request for a model's outputs, with the id ``name``.

    Raises:
        InvalidInput: an array is of a type that cannot be sent.
    """
    inputs, body = _described(tensors, cast)
    text = msgspec.json.encode({"id": name, "inputs": inputs, "parameters": {"binary_data_output": True}})
    # onnxruntime copies tensors that are not aligned: with spaces the bytes begin at a multiple of 64.
    text += b" " * (-len(text) % ALIGNED_BYTES)
    headers = {"content-type": BINARY, HEADER: str(len(text))}
    return HttpRequest("POST", path, headers, b"".join((text, *body)))


def read_answer(response: HttpResponse, name: str) -> dict[str, NDArray[Any]]:
    """Return the outputs of an answer.

    Raises:
        InvalidRequest, PayloadTooLarge, Throttled, Unavailable: by its status.
        InvalidAnswer: it is not what was asked for, or answers another request.
    """
    if response.status != 200:
        raise _trouble(response)
    try:
        text, rest = _split(response.headers, response.body)
        answer = msgspec.json.decode(text, type=SentAnswer)
        arrays = _arrays(answer.outputs, rest)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, InvalidFrame) as error:
        raise InvalidAnswer(
            f"it is no answer to an inference request with tensors as bytes: {error}"
        ) from error
    if answer.id != name:
        raise InvalidAnswer(f"it answers the request {answer.id!r}, not {name!r}")
    return arrays


def restore(request: HttpRequest) -> HttpRequest:
    """Return a request whose inputs are as the protocol has them: those with ``isthmus_cast`` are 32 bits wide again.

    Raises:
        InvalidRequest: an input is not what its parameters say.
    """
    try:
        text, rest = _split(request.headers, request.body)
        call = msgspec.json.decode(text)
        inputs = msgspec.convert(call["inputs"], list[SentTensor])
        if not any(CAST in tensor.parameters for tensor in inputs):
            return request
        arrays = _arrays(inputs, rest)
    except (
        msgspec.MsgspecError,
        UnicodeDecodeError,
        ValueError,
        LookupError,
        TypeError,
        InvalidFrame,
    ) as error:
        if CAST.encode() not in request.body:
            return request  # whoever serves it says what is wrong with it
        raise InvalidRequest(f"an input is not what its {CAST} says: {error}") from error
    call["inputs"], body = _described(arrays, "")
    written = msgspec.json.encode(call)
    headers = {key: value for key, value in request.headers.items() if key.lower() != HEADER}
    return HttpRequest(
        request.method, request.path, {**headers, HEADER: str(len(written))}, b"".join((written, *body))
    )


def answering(answer: Callable[[dict[str, NDArray[Any]]], Tensors]) -> Callable[[HttpRequest], HttpResponse]:
    """Return a server of one model that is a function of arrays, for a process that has no bundle of it."""

    def respond(request: HttpRequest) -> HttpResponse:
        text, rest = _split(request.headers, request.body)
        call = msgspec.json.decode(text, type=SentRequest)
        outputs, body = _described(answer(_arrays(call.inputs, rest)), "")
        written = msgspec.json.encode({"model_name": "", "id": call.id, "outputs": outputs})
        headers = {"content-type": BINARY, HEADER: str(len(written))}
        return HttpResponse(200, b"".join((written, *body)), headers)

    return respond


def _described(tensors: Tensors, cast: Cast) -> tuple[list[SentTensor], list[memoryview]]:
    described: list[SentTensor] = []
    body: list[memoryview] = []
    for name, array in tensors.items():
        entry, pieces = pack_one(name, array, cast)
        parameters: dict[str, Any] = {SIZE: entry.size_bytes}
        if entry.cast:
            parameters |= {CAST: entry.cast, CHANNELS: entry.channels}
        described.append(
            SentTensor(name=name, datatype=entry.datatype, shape=entry.shape, parameters=parameters)
        )
        body += pieces
    return described, body


def _arrays(tensors: list[SentTensor], rest: memoryview) -> dict[str, NDArray[Any]]:
    import numpy as np

    arrays, at = {}, 0
    payload = np.frombuffer(rest, np.uint8)
    for tensor in tensors:
        said = tensor.parameters
        entry = msgspec.convert(
            (tensor.name, tensor.datatype, tensor.shape, said.get(CAST, ""), said.get(CHANNELS, 0)), Entry
        )
        check(entry)
        if said.get(SIZE) != entry.size_bytes or at + entry.size_bytes > len(payload):
            raise ValueError(f"{tensor.name!r} needs {entry.size_bytes} bytes of its own, as {SIZE} must say")
        arrays[tensor.name] = unpack_one(entry, payload[at : at + entry.size_bytes])
        at += entry.size_bytes
    if at != len(payload):
        raise ValueError(f"{len(payload) - at} bytes follow the last tensor")
    return arrays


def _split(headers: Any, body: bytes) -> tuple[memoryview, memoryview]:
    said = next((value for key, value in headers.items() if key.lower() == HEADER), "")
    length = int(said) if said.isascii() and said.isdecimal() and len(said) < 20 else len(body)
    view = memoryview(body)
    return view[:length], view[length:]


def _trouble(response: HttpResponse) -> Exception:
    try:
        said = str(msgspec.json.decode(response.body)["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError):
        said = f"status {response.status}"
    if response.status == 413:
        return PayloadTooLarge(said)
    if response.status == 429:
        return Throttled(said)
    return InvalidRequest(said) if 400 <= response.status < 500 else Unavailable(said)


def _outcome(future: Future[Any], deadline: float) -> None:
    """Wait for a request's end, whatever it is."""
    try:
        future.exception(timeout=max(0, deadline - time.monotonic()))
    except Late:
        raise DeadlineExceeded("the model did not answer in time") from None
