"""What ``isthmus predict`` and ``isthmus load`` are given to send: told by its first bytes, not by its name."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.client.calls import JPEG_STARTS, PNG_STARTS
from isthmus.client.wire import load_numpy
from isthmus.errors import InvalidInput
from isthmus.inference.datatypes import NUMPY
from isthmus.inference.messages import ModelMetadata
from isthmus.model.bundle import TensorSpec
from isthmus.model.units import MIB, format_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_BYTES = 256 * MIB
"""Of a file, and of what one unpacks to."""
NPY_STARTS, ZIP_STARTS = b"\x93NUMPY", b"PK"


@dataclass(frozen=True)
class Picture:
    """The bytes of a PNG or JPEG file."""

    data: bytes


@dataclass(frozen=True)
class Arrays:
    """Named arrays; one of an ``.npy`` file has the name ``""``."""

    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Request:
    """A request of the protocol as JSON, and the id that it has."""

    data: bytes
    id: str | None


Given = Picture | Arrays | Request


def read(name: str) -> Given:
    """Return what a file holds, or standard input for ``-``.

    Raises:
        InvalidInput: it cannot be read, or is none of the kinds.
    """
    data = _bytes(name)
    if data.startswith((PNG_STARTS, JPEG_STARTS)):
        return Picture(data)
    if data.startswith((NPY_STARTS, ZIP_STARTS)):
        return _read_arrays(name, data)
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        kinds = "a PNG or JPEG picture, .npy, .npz, or a request as JSON"
        raise InvalidInput(f"{name} must be {kinds}, and is none of these ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("inputs"), list):
        raise InvalidInput(f'{name} is JSON, but no request: it needs "inputs", a list of tensors')
    identity = found.get("id")
    return Request(data, identity if isinstance(identity, str) else None)


def read_token(name: str, what: str = "a token") -> str:
    """Return the token, or ``what`` else is one word, that a file holds. Raises InvalidInput."""
    try:
        return _bytes(name).decode().strip()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} must hold {what}, and is no text") from error


def matched(given: Arrays, about: ModelMetadata) -> tuple[dict[str, NDArray[Any]], bool]:
    """Return the arrays by the model's own names, and whether they are in its raw form.

    One array without a name fits by its datatype and shape; a batch axis that is missing is added.

    Raises:
        InvalidInput: it fits none; says what the model takes.
    """
    raw = about.raw if isinstance(about.raw, TensorSpec) else None
    if "" not in given.arrays:
        names = {spec.name for spec in about.inputs}
        return dict(given.arrays), raw is not None and set(given.arrays) == {raw.name} != names
    (array,) = given.arrays.values()
    takes = [*about.inputs, *([raw] if raw else [])]
    for spec in takes if len(about.inputs) == 1 else ():
        for shaped in (array, array[None]):
            if str(array.dtype) == NUMPY[spec.datatype] and _fits(shaped.shape, spec.shape):
                return {spec.name: shaped}, spec is raw
    listed = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in takes)
    raise InvalidInput(
        f"the array is {array.dtype} {list(array.shape)}; model {about.name!r} takes {listed}"
        + ("" if len(about.inputs) == 1 else "; name them in an .npz")
    )


def _fits(shape: tuple[int, ...], needed: tuple[int, ...]) -> bool:
    return len(shape) == len(needed) and all(
        want in (-1, has) for want, has in zip(needed, shape, strict=True)
    )


def _bytes(name: str) -> bytes:
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise InvalidInput(f"{name} is larger than {format_bytes(MOST_BYTES)}")
    return data


def _read_arrays(name: str, data: bytes) -> Arrays:
    np = load_numpy()
    try:
        if data.startswith(ZIP_STARTS):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MOST_BYTES:
                raise InvalidInput(
                    f"{name} unpacks to {format_bytes(unpacked)}; at most {format_bytes(MOST_BYTES)} is read"
                )
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = (
            {"": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
        )
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{name} holds no arrays that can be read: {error}") from error
    if not arrays:
        raise InvalidInput(f"{name} holds no array")
    return Arrays(arrays)
