"""Devices that are alike: a plan may swap them, so a method counts them instead of naming them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import LoadCase


@dataclass(frozen=True, eq=False)
class Kinds:
    """``members[t]``: the devices of kind t, ascending; they can be swapped without changing any load.

    ``send[t, u]``, ``receive[t, u]``: float64 seconds per unit of size when a device of kind t sends to another of
    kind u, and what the one of kind u is busy receiving it.
    """

    members: tuple[tuple[int, ...], ...]
    send: NDArray[np.float64]
    receive: NDArray[np.float64]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many devices each kind has."""
        return tuple(len(entry) for entry in self.members)

    def pace_out(self) -> NDArray[np.float64] | None:
        """Return ``[t]``: what each kind pays to send, whoever receives; None where that depends on the receiver."""
        return _uniform(self.send, self.counts)

    def pace_in(self) -> NDArray[np.float64] | None:
        """Return ``[t]``: what each kind pays to receive, whoever sends; None where that depends on the sender."""
        return _uniform(self.receive.T, self.counts)


def kinds(case: LoadCase) -> Kinds:
    """Group a case's devices; those of one kind have equal costs, room and links."""
    import numpy as np

    found: list[list[int]] = []
    for device in range(len(case.devices)):
        for members in found:
            if _alike(case, members[0], device):
                members.append(device)
                break
        else:
            found.append([device])
    first = [members[0] for members in found]
    other = [members[-1] for members in found]  # a pair of one kind: its first and its last
    pick = np.ix_(first, other)
    return Kinds(tuple(map(tuple, found)), case.send_seconds[pick].copy(), case.receive_seconds[pick].copy())


def paces(case: LoadCase) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return what each device pays to send and to receive, whoever is on the other side: float64 ``[m]``, seconds per
    unit of size; None where that depends on the other side."""
    import numpy as np

    found = kinds(case)
    out, into = found.pace_out(), found.pace_in()
    if out is None or into is None:
        return None
    sends, receives = np.zeros(len(case.devices)), np.zeros(len(case.devices))
    for t, members in enumerate(found.members):
        sends[list(members)], receives[list(members)] = out[t], into[t]
    return sends, receives


def _alike(case: LoadCase, a: int, b: int) -> bool:
    import numpy as np

    if case.capacity_bytes[a] != case.capacity_bytes[b]:
        return False
    if not np.array_equal(case.seconds[:, a], case.seconds[:, b]):
        return False
    swap = np.arange(len(case.devices))
    swap[[a, b]] = b, a
    rest = ~np.eye(len(case.devices), dtype=bool)
    return all(
        np.array_equal(matrix[rest], matrix[np.ix_(swap, swap)][rest])
        for matrix in (case.send_seconds, case.receive_seconds)
    )


def _uniform(pace: NDArray[np.float64], counts: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Return each row's one value; a kind of one device never sends to its own."""
    import numpy as np

    found = np.zeros(len(counts))
    for t, count in enumerate(counts):
        seen = np.array([pace[t, u] for u in range(len(counts)) if u != t or count > 1])
        if len(seen) and (seen != seen[0]).any():
            return None
        found[t] = seen[0] if len(seen) else 0.0
    return found
