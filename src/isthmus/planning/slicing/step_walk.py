"""Many pipelines at once: the longest path through the passes of 1F1B, in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.planning.slicing.schedule import Action, needs, schedule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """L pipelines of s stages, first stage first. ``forward``, ``backward``, ``finish``: float64 ``[L, s]``,
    seconds; ``ahead``, ``back``: ``[L, s - 1]``, of transfers between stage k and k + 1."""

    forward: Floats
    backward: Floats
    ahead: Floats
    back: Floats
    finish: Floats


@dataclass(frozen=True, eq=False)
class Labels:
    """L pipelines of the last s stages. ``start``, ``count`` (devices used, as a number), ``unit`` of the
    first stage, ``parent`` (its row one stage earlier): int64 ``[L]``; ``bound``: no plan that ends with it
    takes less, float64 ``[L]``; ``rows``: ``[L, s]``."""

    start: Ints
    count: Ints
    unit: Ints
    parent: Ints
    bound: Floats
    rows: Rows

    def pick(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Labels:
        """Return some of them."""
        r = self.rows
        rows = Rows(r.forward[chosen], r.backward[chosen], r.ahead[chosen], r.back[chosen], r.finish[chosen])
        return Labels(
            self.start[chosen],
            self.count[chosen],
            self.unit[chosen],
            self.parent[chosen],
            self.bound[chosen],
            rows,
        )


def order(stages: int, microbatches: int) -> list[tuple[int, Action]]:
    """Return the actions of 1F1B with their stages, so that each stands after what it needs."""
    rows = schedule(stages, microbatches)
    done: set[tuple[int, Action]] = set()
    at = [0] * stages
    found: list[tuple[int, Action]] = []
    while len(found) < 2 * stages * microbatches:
        for k, row in enumerate(rows):
            while at[k] < len(row) and all(entry in done for entry in needs(stages, k, row[at[k]])):
                found.append((k, row[at[k]]))
                done.add(found[-1])
                at[k] += 1
    return found


def walk(rows: Rows, steps: list[tuple[int, Action]], arrivals: Floats) -> tuple[Floats, Floats]:
    """Return when all has ended, ``[L, J]``, and when each micro-batch's last backward pass has, ``[L, M, J]``.

    ``arrivals``: ``[M, J]``, when each micro-batch may begin, for J cases; -inf for no constraint.
    """
    import numpy as np

    count, stages = rows.forward.shape
    shape = (count, arrivals.shape[1])
    free = [np.full(shape, -np.inf) for _ in range(stages)]
    line = {(k, kind): np.full(shape, -np.inf) for k in range(stages) for kind in "FB"}
    inbox = {(0, Action("F", i)): np.broadcast_to(row, shape) for i, row in enumerate(arrivals)}
    out = np.empty((count, len(arrivals), shape[1]))
    for k, action in steps:
        begin = free[k]
        if k + 1 < stages or action.kind == "F":
            begin = np.maximum(begin, inbox.pop((k, action)))
        own, links = (rows.forward, rows.ahead) if action.kind == "F" else (rows.backward, rows.back)
        free[k] = begin + own[:, k, None]
        target = k + 1 if action.kind == "F" else k - 1
        if target < 0:
            out[:, action.microbatch] = free[k]
        elif target < stages:
            sent = np.maximum(free[k], line[k, action.kind]) + links[:, min(k, target), None]
            line[k, action.kind] = inbox[target, action] = sent
    ended = np.maximum.reduce([free[k] + rows.finish[:, k, None] for k in range(stages)])
    return ended, out


def response(rows: Rows, steps: list[tuple[int, Action]], microbatches: int) -> Floats:
    """Return ``[L, (M + 1) * M]``: by how much each micro-batch's arrival delays each one's departure, and the
    end. A max-plus matrix: of two pipelines, the one with the smaller ends earlier behind any other."""
    import numpy as np

    pulses = np.where(np.eye(microbatches, dtype=bool), 0.0, -np.inf)
    ended, out = walk(rows, steps, pulses)
    found: Floats = np.concatenate([out, ended[:, None]], axis=1).reshape(len(ended), -1)
    return found
