"""What a script and a worker that computes parts of its network say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from isthmus.errors import InvalidFrame
from isthmus.frameworks.trainable import laid_out, strides_of
from isthmus.model.blob import Sha256

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

NOTE, NETWORK = "isthmus:note", "isthmus:network"
"""Names of the arrays that hold a message's note, and a network's bytes."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Name = Annotated[str, msgspec.Meta(max_length=512)]
Strides = dict[Name, tuple[Count, ...]]


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Here is a part; its network is an array."""

    part: Sha256
    framework: Name
    described: dict[str, Any]


class Forward(msgspec.Struct, frozen=True, tag="forward"):
    """Compute; ``strides``, in elements, are of arrays that do not lie in memory row by row."""

    part: Sha256
    call: Count
    kept: bool
    training: bool
    wanted: tuple[Name, ...]
    strides: Strides = {}


class Backward(msgspec.Struct, frozen=True, tag="backward"):
    """Compute gradients of a forward pass."""

    part: Sha256
    call: Count
    strides: Strides = {}


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """What came of it, and in how many seconds."""

    seconds: float
    strides: Strides = {}


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """It could not be computed."""

    message: Annotated[str, msgspec.Meta(max_length=4000)]


Note = Open | Forward | Backward | Answer | Failure
_decoder: msgspec.msgpack.Decoder[Note] = msgspec.msgpack.Decoder(Note)


def message(note: Note, arrays: Mapping[str, NDArray[Any]] | None = None) -> Arrays:
    """Return what is sent."""
    import numpy as np

    return {NOTE: np.frombuffer(msgspec.msgpack.encode(note), np.uint8), **(arrays or {})}


def uneven(arrays: Mapping[str, NDArray[Any]]) -> Strides:
    """Return the strides of those arrays that do not lie row by row."""
    return {name: strides_of(array) for name, array in arrays.items() if not array.flags.c_contiguous}


def read(received: Arrays) -> tuple[Note, Arrays]:
    """Return a message's note, and its arrays laid out as they were.

    Raises:
        InvalidFrame: it has no note, or its note is of other arrays.
    """
    try:
        note = _decoder.decode(received.pop(NOTE).tobytes())
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFrame(
            "a message has no note: the other side computes no parts of networks, or is of another version"
        ) from error
    for name, strides in getattr(note, "strides", {}).items():
        if name not in received or len(strides) != received[name].ndim:
            raise InvalidFrame(f"a message describes {name[:100]!r}, and brings another array")
        received[name] = laid_out(received[name], strides)
    return note, received
