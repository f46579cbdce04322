"""The calls of a client, as data: the same for threads and for asyncio."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec

from isthmus.client.answer import Answer, Classification, Trip
from isthmus.client.exchange import Call
from isthmus.client.wire import SentAnswer, load_numpy, read_answer, write_request
from isthmus.errors import InvalidAnswer, InvalidInput
from isthmus.inference import messages
from isthmus.inference.http import HttpResponse
from isthmus.inference.messages import ModelMetadata, ServerMetadata
from isthmus.model.sliced import Cast

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

T = TypeVar("T")

Read = tuple[SentAnswer, dict[str, "NDArray[Any]"]]

BINARY_FROM_BYTES = 4096
"""Below, JSON costs less than asking a server which extensions it has."""

PNG_STARTS, JPEG_STARTS = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def infer(
    model: str,
    inputs: Mapping[str, ArrayLike],
    *,
    version: str | None,
    outputs: Sequence[str],
    parameters: Mapping[str, Any],
    binary: bool | None,
    cast: Cast = "",
) -> Call[Read]:
    """Ask for a model's outputs. ``binary``: None where the size decides; ``cast``: as ``wire.write_request``.

    Raises:
        InvalidInput: an input cannot be sent; what is no array yet becomes one as numpy makes it.
    """
    np = load_numpy()
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    name = uuid.uuid4().hex

    def form(as_bytes: bool) -> tuple[Mapping[str, str], bytes]:
        return write_request(
            arrays, id=name, parameters=parameters, outputs=outputs, binary=as_bytes, cast=cast
        )

    size = sum(array.nbytes for array in arrays.values())
    return Call(
        "POST",
        path(model, version, "/infer"),
        lambda response: read_answer(response, id=name),
        form,
        wants_binary=size >= BINARY_FROM_BYTES if binary is None else binary,
        handover=path(model, None, "/handover"),
    )


def classify(
    model: str, picture: bytes, *, version: str | None, top_k: int | None
) -> Call[messages.Classification]:
    """Ask what a picture shows.

    Raises:
        InvalidInput: neither PNG nor JPEG.
    """
    headers = {"content-type": media_type(picture)}
    query = f"?top_k={top_k}" if top_k is not None else ""
    return Call(
        "POST",
        path(model, version, "/classify") + query,
        _reader(messages.Classification),
        lambda binary: (headers, picture),
    )


def metadata(model: str, *, version: str | None) -> Call[ModelMetadata]:
    """Ask for a model's inputs and outputs."""
    return Call("GET", path(model, version, ""), _reader(ModelMetadata))


def server() -> Call[ServerMetadata]:
    """Ask who answers."""
    return Call("GET", "/v2", _reader(ServerMetadata))


def plain(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Call[HttpResponse]:
    """Send what somebody else wrote."""
    return Call(method, path, lambda response: response, lambda binary: (headers, body))


def answered(found: Read, trip: Trip) -> Answer:
    """Return the answer that a person sees."""
    sent, arrays = found
    return Answer(
        place=trip.place,
        attempts=trip.attempts,
        seconds=trip.seconds,
        model=sent.model_name,
        version=sent.model_version,
        outputs=arrays,
        parameters=sent.parameters,
    )


def classified(found: messages.Classification, trip: Trip) -> Classification:
    """Return the answer that a person sees."""
    return Classification(
        place=trip.place,
        attempts=trip.attempts,
        seconds=trip.seconds,
        model=found.model_name,
        version=found.model_version,
        classes=tuple(found.classes),
    )


def media_type(picture: bytes) -> str:
    """Return the media type that a picture's first bytes say.

    Raises:
        InvalidInput: neither PNG nor JPEG.
    """
    if picture.startswith(PNG_STARTS):
        return "image/png"
    if picture.startswith(JPEG_STARTS):
        return "image/jpeg"
    raise InvalidInput("a picture must be a PNG or a JPEG file; these bytes are neither")


def path(model: str, version: str | None, rest: str) -> str:
    """Return a path below a model, or below one version of it."""
    below = f"/versions/{quote(version, safe='')}" if version is not None else ""
    return f"/v2/models/{quote(model, safe='')}{below}{rest}"


def _reader(kind: type[T]) -> Callable[[HttpResponse], T]:
    def read(response: HttpResponse) -> T:
        try:
            return msgspec.json.decode(response.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidAnswer(f"it is no {kind.__name__}: {error}") from error

    return read
