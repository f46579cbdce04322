"""What the planner of training steps sees: a chain of operators, forward and backward, on devices."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase
from isthmus.planning.slicing.case import check, check_links

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Graph

    Floats = NDArray[np.float64]

GRADIENT_BYTES_PER_WEIGHT_BYTE = 1.0


@dataclass(frozen=True, eq=False)
class StepCase:
    """Minimise the seconds of one synchronous training step under 1F1B.

    A plan's slices are half-open ranges of ``graph.topological``, one stage each, in that order. What
    crosses a cut is passed on from stage to stage. Shapes, for n operators and m devices:

    ``forward_seconds``, ``backward_seconds``: float64 ``[n, m]``, of one micro-batch, inf where the
    operator may not or cannot run.
    ``parameter_bytes``, ``activation_bytes``: float64 ``[n]``; the latter is what a micro-batch leaves
    in memory until its backward pass.
    ``crossing_bytes``: float64 ``[n + 1]``, by position in the order: what a micro-batch sends forward
    over a cut there, and its gradients backward.
    ``seconds_per_byte``, ``latency_seconds``: float64 ``[m, m]`` from device to device, inf where nothing can be
    opened. ``capacity_bytes``: float64 ``[m]``, inf for no limit.
    ``overlap``: a stage computes on while it sends; else it is busy meanwhile.
    ``replicated``: a stage may run on several devices, each with a share of every micro-batch by its
    measured rate. They sum their gradients at the end of the step in a ring. What crosses to or from
    them goes at the pace of the slowest pair.

    Raises:
        InvalidCase: a shape that does not fit, a negative or undefined number, or no micro-batch.
    """

    graph: Graph
    devices: tuple[str, ...]
    forward_seconds: Floats
    backward_seconds: Floats
    parameter_bytes: Floats
    activation_bytes: Floats
    crossing_bytes: Floats
    seconds_per_byte: Floats
    latency_seconds: Floats
    capacity_bytes: Floats
    microbatches: int
    optimizer_bytes_per_weight_byte: float = 2.0
    overlap: bool = True
    replicated: bool = False

    def __post_init__(self) -> None:
        import numpy as np

        check(self.graph, self.devices, self.forward_seconds, self.parameter_bytes, self.capacity_bytes)
        check(self.graph, self.devices, self.backward_seconds, self.activation_bytes, self.capacity_bytes)
        check_links(self.devices, self.seconds_per_byte, self.latency_seconds)
        n = len(self.graph.names)
        crossing = self.crossing_bytes
        if crossing.shape != (n + 1,) or not np.isfinite(crossing).all() or (crossing < 0).any():
            raise InvalidCase(
                f"a step needs {n + 1} finite crossing sizes of at least 0, one for each position"
            )
        if self.microbatches < 1:
            raise InvalidCase(f"a step needs at least 1 micro-batch; asked were {self.microbatches}")
        if not 0 <= self.optimizer_bytes_per_weight_byte < float("inf"):
            raise InvalidCase(
                f"the optimizer's bytes for each byte of weights must be finite and at least 0; "
                f"asked were {self.optimizer_bytes_per_weight_byte}"
            )

    @property
    def state_bytes_per_weight_byte(self) -> float:
        """Weights, gradients and the optimizer's state."""
        return 1.0 + GRADIENT_BYTES_PER_WEIGHT_BYTE + self.optimizer_bytes_per_weight_byte


def prefix_cut_sizes(graph: Graph) -> Floats:
    """Return float64 ``[n + 1]``: the size of the signals produced before each position of
    ``graph.topological`` and read at or after it; each counted once. 0 at both ends."""
    import numpy as np

    place = {v: position for position, v in enumerate(graph.topological)}
    steps = np.zeros(len(place) + 1)
    for signal in graph.signals:
        readers = [place[v] for v in signal.consumers]
        if readers and max(readers) > place[signal.producer]:
            steps[place[signal.producer] + 1] += signal.size
            steps[max(readers) + 1] -= signal.size
    # Sums and differences of sizes leave traces where nothing crosses.
    sizes = np.maximum(steps.cumsum(), 0.0)
    return np.where(sizes > 1e-12 * max(1.0, float(sizes.max())), sizes, 0.0)


def is_chain(graph: Graph) -> bool:
    """Whether each operator reads the one before and no other, so that every pipeline of slices is one of
    ranges of ``graph.topological``."""
    order = graph.topological
    return set(graph.edges) == set(itertools.pairwise(order))


def cut_positions(graph: Graph) -> tuple[int, ...]:
    """Return where a cut divides no co-located operators: ascending, 0 and n included."""
    place = {v: position for position, v in enumerate(graph.topological)}
    inside = [0] * (len(place) + 1)
    for members in graph.colocated:
        first, last = min(place[v] for v in members), max(place[v] for v in members)
        inside[first + 1] += 1
        inside[last + 1] -= 1
    depth, found = 0, []
    for position, change in enumerate(inside):
        depth += change
        if not depth:
            found.append(position)
    return tuple(found)
