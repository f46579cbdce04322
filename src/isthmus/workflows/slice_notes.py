"""What slices that learn send each other: arrays, each message with a note that says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from isthmus.errors import InvalidFrame
from isthmus.frameworks.trainable import laid_out, strides_of
from isthmus.model.blob import Sha256

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

FILE = "file"
"""The name of the array that is a file's bytes."""
NOTE = "isthmus:note"
"""The name of the array that holds a message's note."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Who speaks. ``fingerprint``: of what is trained and how; ``epoch``: counts the meetings."""

    worker: Count
    epoch: Count
    fingerprint: Sha256


class Crossing(msgspec.Struct, frozen=True, tag="crossing"):
    """Activations (``F``) or gradients (``B``) of a micro-batch, from one slice to another. ``strides``, in elements:
    of arrays that do not lie in memory row by row."""

    kind: Literal["F", "B"]
    source: Count
    target: Count
    step: Count
    microbatch: Count
    strides: dict[str, tuple[Count, ...]] = {}


class Place(msgspec.Struct, frozen=True, tag="place"):
    """``under``: whether the one that hears it speaks for the one that says it."""

    under: bool


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker, and all that it speaks for, wait for the start. ``bare``: slices of theirs whose files the first
    worker keeps."""

    bare: tuple[Count, ...] = ()


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Go on from the checkpoint of a step, with each slice's file by its digest; None: from the beginning."""

    step: Count | None
    files: dict[str, Sha256] = {}


class Written(msgspec.Struct, frozen=True, tag="written"):
    """A checkpoint's files of the worker and of all that it speaks for are on their disks."""

    step: Count
    files: dict[str, Sha256]


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    """A slice's file of a checkpoint, which comes with it as bytes: to who keeps it, and from there at a new start."""

    number: Count
    step: Count


class Committed(msgspec.Struct, frozen=True, tag="committed"):
    """A checkpoint is complete, and is what all go on from."""

    step: Count


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Upwards: the worker, and all that it speaks for, know of the last commit, also once they are started again.
    Downwards: all do."""


Note = Hello | Crossing | Place | Ready | Start | Kept | Written | Committed | Done
_decoder: msgspec.msgpack.Decoder[Note] = msgspec.msgpack.Decoder(Note)


def message(note: Note, tensors: Mapping[str, NDArray[Any]] | None = None) -> Arrays:
    """Return what is sent."""
    import numpy as np

    return {NOTE: np.frombuffer(msgspec.msgpack.encode(note), np.uint8), **(tensors or {})}


def read(received: Arrays) -> tuple[Note, Arrays]:
    """Return a message's note, and its arrays.

    Raises:
        InvalidFrame: it has no note.
    """
    try:
        note = _decoder.decode(received.pop(NOTE).tobytes())
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFrame(
            "a message between slices has no note: the other side is no slice that learns"
        ) from error
    return note, received


def crossing(tensors: Mapping[str, NDArray[Any]], **values: Any) -> Arrays:
    """Return the message of a pass. A transport sends arrays row by row; how they lay is in the note, since operators
    may add in another order where a tensor lies otherwise."""
    strides = {name: strides_of(array) for name, array in tensors.items() if not array.flags.c_contiguous}
    return message(Crossing(strides=strides, **values), tensors)


def restored(note: Crossing, tensors: Arrays) -> Arrays:
    """Return a pass's arrays, laid out as they were.

    Raises:
        InvalidFrame: the note is not of these arrays.
    """
    for name, strides in note.strides.items():
        if name not in tensors or len(strides) != tensors[name].ndim:
            raise InvalidFrame(f"a message between slices describes {name[:100]!r}, and brings another array")
        tensors[name] = laid_out(tensors[name], strides)
    return tensors
