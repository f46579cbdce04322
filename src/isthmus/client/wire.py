"""Requests and answers of the Open Inference Protocol v2 as a client writes and reads them.

Tensors travel as JSON, or as bytes after it where the server knows the extension (``inference/binary.py``).
JSON has no NaN or infinity: the strings "NaN", "Infinity" and "-Infinity" stand for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.client.verdict import header
from isthmus.errors import EnvironmentProblem, InvalidAnswer, InvalidInput, InvalidModel
from isthmus.inference.binary import CRC32, HEADER, LENGTH, SIZE, crc32
from isthmus.inference.datatypes import NUMPY, from_numpy
from isthmus.inference.http import BINARY, JSON, HttpResponse
from isthmus.inference.narrow import CAST, CHANNELS
from isthmus.model.bundle import Datatype
from isthmus.model.sliced import Cast

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIGNED_BYTES = 64
Arrays = Mapping[str, "NDArray[Any]"]
_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


class SentOutput(msgspec.Struct, frozen=True):
    """An output as a server writes it; others than ours may leave more out."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class SentAnswer(msgspec.Struct, frozen=True):
    """The JSON object of an answer."""

    outputs: list[SentOutput]
    model_name: str = ""
    model_version: str = ""
    id: str | None = None
    parameters: dict[str, Any] = {}


_answers = msgspec.json.Decoder(SentAnswer)


def load_numpy() -> Any:
    """Import numpy. Raises EnvironmentProblem where it is missing."""
    try:
        import numpy
    except ModuleNotFoundError as error:
        raise EnvironmentProblem("arrays need numpy; install `isthmus[engine]`, or numpy alone") from error
    return numpy


def write_request(
    inputs: Arrays,
    *,
    id: str,
    parameters: Mapping[str, Any],
    outputs: Sequence[str] = (),
    binary: bool,
    cast: Cast = "",
) -> tuple[dict[str, str], bytes]:
    """Return headers and body. ``outputs``: those that are wanted, or all; ``binary``: they come as bytes too.
    ``cast``: what 32-bit floats are sent as, as bytes.

    Raises:
        InvalidInput: an array is of a type that the protocol has no name for, or a string is not text.
    """
    pieces: list[bytes] = []
    narrow: Cast = cast if binary else ""
    tensors = [
        _narrow(name, array, pieces, narrow) if narrow else _tensor(name, array, pieces if binary else None)
        for name, array in inputs.items()
    ]
    if binary and parameters.get(CRC32):
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor["parameters"][CRC32] = crc32(piece)
    asked = {**parameters, **({"binary_data_output": True} if binary else {})}
    request: dict[str, Any] = {"id": id, "inputs": tensors, "parameters": asked}
    if outputs:
        request["outputs"] = [{"name": name} for name in outputs]
    try:
        text = msgspec.json.encode(request)
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidInput(f"the request cannot be written as JSON: {error}") from error
    if not binary:
        return {"content-type": JSON}, text
    # onnxruntime copies tensors that are not aligned: with spaces the bytes begin at a multiple of 64.
    text += b" " * (-len(text) % ALIGNED_BYTES)
    return {"content-type": BINARY, HEADER: str(len(text))}, b"".join((text, *pieces))


def read_answer(response: HttpResponse, *, id: str | None) -> tuple[SentAnswer, dict[str, NDArray[Any]]]:
    """Return an answer's JSON object and its outputs as arrays.

    ``id``: what the answer must carry; None takes any.

    Raises:
        InvalidAnswer: it is not what the protocol says, or answers another request.
    """
    body = response.body
    said = header(response, HEADER)
    length = int(said) if said.isascii() and said.isdecimal() and len(said) < 20 else len(body)
    try:
        answer = _answers.decode(memoryview(body)[:length])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidAnswer(f"it is no answer to an inference request: {error}") from error
    if id is not None and answer.id != id:
        raise InvalidAnswer(f"it answers the request {answer.id!r}, not {id!r}")
    rest, arrays = memoryview(body)[length:], {}
    for output in answer.outputs:
        size = output.parameters.get(SIZE) if output.data is None else 0
        if not isinstance(size, int) or not 0 <= size <= len(rest):
            raise InvalidAnswer(f"output {output.name!r} has neither data nor as many bytes as it says")
        if CRC32 in output.parameters and output.parameters[CRC32] != crc32(rest[:size]):
            raise InvalidAnswer(f"the bytes of output {output.name!r} are not those that were sent")
        arrays[output.name] = _array(output, rest[:size])
        rest = rest[size:]
    if rest:
        raise InvalidAnswer(f"{len(rest)} bytes follow its last output")
    return answer, arrays


def is_binary(response: HttpResponse) -> bool:
    """Whether bytes follow an answer's JSON object."""
    return bool(header(response, HEADER))


def as_json(name: str, array: NDArray[Any]) -> dict[str, Any]:
    """Return a tensor as the protocol's JSON, flat and row-major.

    Raises:
        InvalidInput: the protocol has no such type.
    """
    return _tensor(name, array, None)


def _tensor(name: str, array: NDArray[Any], pieces: list[bytes] | None) -> dict[str, Any]:
    """Return a tensor's JSON object; its bytes are added to ``pieces`` when they are given."""
    array = _plain(name, array)
    try:
        datatype = from_numpy(array.dtype)
    except InvalidModel as error:
        raise InvalidInput(f"the array {name!r} cannot be sent: {error}") from error
    tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    if pieces is None:
        return {**tensor, "data": _elements(array)}
    pieces.append(_bytes(name, array))
    return {**tensor, "parameters": {SIZE: len(pieces[-1])}}


def _narrow(name: str, array: NDArray[Any], pieces: list[bytes], cast: Cast) -> dict[str, Any]:
    """Return a tensor's JSON object, its bytes in fewer bits where it is of 32-bit floats that these can carry."""
    from isthmus.transport.casts import pack_one

    entry, parts = pack_one(name, array, cast)
    if not entry.cast:
        return _tensor(name, array, pieces)
    pieces.append(b"".join(parts))
    narrow = {SIZE: len(pieces[-1]), CAST: entry.cast, CHANNELS: entry.channels}
    return {"name": name, "datatype": entry.datatype, "shape": list(entry.shape), "parameters": narrow}


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in this machine's byte order; texts as objects."""
    np = load_numpy()

    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype.kind == "O" and not all(isinstance(element, str) for element in array.flat):
        raise InvalidInput(
            f"the array {name!r} holds objects that are not str; only texts and numbers are sent"
        )
    plain: NDArray[Any] = np.asarray(array, array.dtype.newbyteorder("="))
    return plain


def _elements(array: NDArray[Any]) -> list[Any]:
    np = load_numpy()

    flat: list[Any] = array.ravel().tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [each if math.isfinite(each) else _NAMES.get(each, "NaN") for each in flat]
    return flat


def _bytes(name: str, array: NDArray[Any]) -> bytes:
    if array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    try:
        texts = [text.encode() for text in array.ravel().tolist()]
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the array {name!r} holds a string that UTF-8 cannot carry") from error
    return b"".join(part for text in texts for part in (LENGTH.pack(len(text)), text))


def _array(output: SentOutput, piece: memoryview) -> NDArray[Any]:
    np = load_numpy()

    dtype, count = np.dtype(NUMPY[output.datatype]), math.prod(output.shape)
    kind = {"O": str, "b": bool}.get(dtype.kind)
    try:
        if min(output.shape, default=0) < 0:
            raise ValueError("a size is negative")
        if output.data is not None:
            if kind and not all(isinstance(element, kind) for element in output.data):
                raise ValueError(f"an element is no {kind.__name__}")
            found = np.array(output.data, dtype=dtype)
        elif dtype.kind == "O":
            found = np.array(_strings(piece, count), dtype=object)
        else:
            found = np.frombuffer(piece, dtype.newbyteorder("<"))
        shaped: NDArray[Any] = found.reshape(output.shape)
        return shaped
    except (ValueError, TypeError, OverflowError) as error:
        told = f"output {output.name!r} is not {output.datatype} {output.shape}, as it says"
        raise InvalidAnswer(f"{told}: {error}") from error


def _strings(piece: memoryview, count: int) -> list[str]:
    texts: list[str] = []
    at = 0
    while at + LENGTH.size <= len(piece) and len(texts) < count:
        start = at + LENGTH.size
        at = start + int(LENGTH.unpack_from(piece, at)[0])
        texts.append(str(piece[start:at], "utf-8"))
    if at != len(piece) or len(texts) != count:
        raise ValueError(f"its bytes are not {count} strings")
    return texts
