"""What a method returns: slices on devices, a proven bound, and the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Stage:
    """Operators that run together. ``shares``: the part of the samples that each device gets; they sum
    to 1, and one device has all."""

    operators: tuple[int, ...]
    devices: tuple[int, ...]
    shares: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, eq=False)
class CutCertificate:
    """A maximum flow on a network that :func:`certificates.check_cut` holds against the case: by weak
    duality its value, and what the network leaves over, is at most the cost of any plan.

    ``arcs``: int32 ``[k, 2]``, from and to; ``capacity`` and ``flow``: int64 ``[k]``, in units of
    ``1 / scale`` of the objective, capacities rounded down; ``scale``: a power of two.

    Nodes: 0 is the source, 1 the sink. Then, for blocks b of co-located operators (in the order of
    ``Graph.colocated``) and tiers k from 1 to m - 1, ``2 + b * (m - 1) + k - 1``: on the source's side when
    b runs on tier k or a later one. Then, for tiers k and the i-th of s signals that several blocks read, a
    node ``k - 1`` times s plus i further: unless tiers are ordered, such nodes on the source's side when all
    readers run on k or later; last those on the source's side when one does.
    """

    arcs: NDArray[np.int32]
    capacity: NDArray[np.int64]
    flow: NDArray[np.int64]
    scale: float

    def describe(self, bound: float) -> str:
        """Return in words what is proven of a plan's bound: all of it."""
        return f"a flow on {len(self.arcs):,} arcs whose value no plan is below"


@dataclass(frozen=True, eq=False)
class DualCertificate:
    """Multipliers of constraints that link blocks of co-located operators: by Lagrangian duality any prove a bound,
    which :func:`dual_check.check_dual` counts against the case.

    Shapes, for m devices, blocks in the order of ``Graph.colocated``: ``margins``: float64 ``[p, 2, m]``, for each pair
    of blocks with signals from the first to the second, by these, what its ends are told of each device; of any sign.
    The others are at least 0. ``sent``: ``[k, m, m]``, for each signal that several blocks read and each of these.
    ``order``: ``[e, m - 1]``, of ordered tiers, for each distinct edge between blocks. ``memory``: ``[m]``, for each
    byte; ``limits``: for each unit of what a limit counts. ``bound``: what they prove.
    """

    margins: NDArray[np.float64]
    sent: NDArray[np.float64]
    order: NDArray[np.float64]
    memory: NDArray[np.float64]
    limits: NDArray[np.float64]
    bound: float

    def describe(self, bound: float) -> str:
        """Return in words what is proven of a plan's bound."""
        count = self.margins.size + self.sent.size + self.order.size + self.memory.size + self.limits.size
        said = f"{count:,} multipliers of a linear relaxation"
        if self.bound >= bound * (1 - 1e-6):
            return f"{said} whose value no plan is below"
        return f"{said}, which prove {self.bound:.6g}; the rest of the bound is the solver's own"


@dataclass(frozen=True, eq=False)
class Solution:
    """``value``: the objective, by the method's own count; the verifier counts again. ``bound``: no plan is
    below it. ``exact``: ``value`` is proven the best up to 1e-9 relative. ``given_up``: what was not
    searched beyond the exact range, in a sentence; empty when nothing was."""

    stages: tuple[Stage, ...]
    value: float
    bound: float
    method: str
    exact: bool
    seconds: float = 0.0
    given_up: str = ""
    certificate: CutCertificate | DualCertificate | None = None

    @property
    def gap(self) -> float:
        """By how much the value may lie above the best, relative to the bound."""
        if self.value <= self.bound:
            return 0.0
        return (self.value - self.bound) / self.bound if self.bound > 0 else float("inf")

    def device_of(self, count: int) -> tuple[int, ...]:
        """Return each of ``count`` operators' device, for a plan without replicas; -1 where none."""
        found = [-1] * count
        for stage in self.stages:
            for v in stage.operators:
                found[v] = stage.devices[0]
        return tuple(found)


def from_assignment(device_of: tuple[int, ...]) -> tuple[Stage, ...]:
    """Return one stage for each device that has operators, by the device's index."""
    found: dict[int, list[int]] = {}
    for v, device in enumerate(device_of):
        found.setdefault(device, []).append(v)
    return tuple(Stage(tuple(found[device]), (device,)) for device in sorted(found))
