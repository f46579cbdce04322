"""Gradients between slices in eight bits, each with what the one before it lost.

What rounding takes from a gradient is added to the next one of the same place and micro-batch before that is rounded
(error feedback: F. Seide et al. 2014, "1-bit stochastic gradient descent and its application to data-parallel
distributed training of speech DNNs"). The bytes are those of ``transport.casts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.errors import InvalidFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

ROUNDED = "isthmus:int8:"
"""Before the name of an array, the name of one that says how the first is to be read."""
RESIDUAL = "residual:"


class Rounding:
    """What was lost of one worker's gradients, by slice, micro-batch and tensor."""

    def __init__(self) -> None:
        self._lost: dict[int, dict[str, NDArray[Any]]] = {}

    def rounded(self, number: int, microbatch: int, gradients: Arrays) -> dict[str, NDArray[Any]]:
        """Return gradients that a slice sends, in eight bits where they can be: those of 32-bit floats, of which none
        is infinite."""
        import numpy as np

        from isthmus.transport.casts import pack_one, unpack_one

        lost = self._lost.setdefault(number, {})
        found: dict[str, NDArray[Any]] = {}
        for name, gradient in gradients.items():
            key = f"{RESIDUAL}{microbatch}:{name}"
            wanted = gradient + lost[key] if key in lost else gradient
            entry, pieces = pack_one(name, wanted, "int8")
            if not entry.cast:
                found[name] = wanted
                lost.pop(key, None)
                continue
            levels = np.frombuffer(b"".join(pieces), np.uint8)
            found[name] = levels
            found[ROUNDED + name] = np.frombuffer(msgspec.msgpack.encode(entry), np.uint8)
            lost[key] = wanted - unpack_one(entry, levels)
        return found

    def state(self, number: int) -> dict[str, NDArray[Any]]:
        """Return what has to be kept with a slice's checkpoint."""
        return dict(self._lost.get(number, {}))

    def load(self, number: int, state: Arrays) -> None:
        """Go on from a slice's checkpoint; without one, from nothing."""
        self._lost[number] = {name: state[name] for name in state if name.startswith(RESIDUAL)}


def restored(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the gradients of a message, whether they are rounded or not.

    Raises:
        InvalidFrame: it describes an array that it does not bring, or another one.
    """
    from isthmus.transport.casts import Entry, check, unpack_one

    for mark in [name for name in arrays if name.startswith(ROUNDED)]:
        name = mark.removeprefix(ROUNDED)
        try:
            entry = msgspec.msgpack.decode(arrays.pop(mark).tobytes(), type=Entry)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidFrame(f"a gradient's description cannot be read: {error}") from error
        check(entry)
        if entry.cast != "int8" or name not in arrays or arrays[name].nbytes != entry.size_bytes:
            raise InvalidFrame(f"a message describes {name[:100]!r}, and brings another array")
        arrays[name] = unpack_one(entry, arrays[name])
    return arrays
