"""Memory that messages are received into, used again once nobody holds an array of it.

New memory of this size comes from the kernel page by page, zeroed, which takes longer than filling it.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from isthmus.model.units import KIB, MIB

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST_BYTES = 64 * KIB
"""Below, the allocator's own lists are as quick."""
KEPT_BYTES = 256 * MIB


class Buffers:
    """A pool of buffers in classes of size, eight to each doubling. ``kept_bytes``: the most that it holds idle."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._idle: dict[int, list[Any]] = {}
        self._idle_bytes = 0
        self._lent: dict[int, tuple[weakref.ref[Any], memoryview]] = {}

    def take(self, size_bytes: int) -> NDArray[Any]:
        """Return ``[size_bytes]`` uint8. Its memory comes back when the array and all views of it are gone."""
        import numpy as np

        if size_bytes < SMALLEST_BYTES:
            return np.empty(size_bytes, np.uint8)
        size = _class_of(size_bytes)
        try:
            memory = self._idle[size].pop()
            self._idle_bytes -= size
        except (KeyError, IndexError):
            memory = memoryview(np.empty(size, np.uint8))
        # The array's base is the memoryview, so numpy makes this array, and not what lies below, the base of
        # its views: it lives as long as any of them.
        array = np.frombuffer(memory, np.uint8, size_bytes)
        reference = weakref.ref(array, self._back)
        self._lent[id(reference)] = (reference, memory)
        return array

    def _back(self, reference: weakref.ref[Any]) -> None:
        _, memory = self._lent.pop(id(reference))
        if self._idle_bytes + len(memory) <= self._kept_bytes:
            self._idle_bytes += len(memory)
            self._idle.setdefault(len(memory), []).append(memory)


def _class_of(size_bytes: int) -> int:
    step = 1 << max(0, (size_bytes - 1).bit_length() - 4)
    return -(-size_bytes // step) * step
