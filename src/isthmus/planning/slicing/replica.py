"""How a slice's samples are divided between its devices, and what dividing can gain at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase

if TYPE_CHECKING:
    from isthmus.planning.slicing.case import LoadCase

INSTANT = 1e-300
"""Seconds taken for none, so that a rate stays finite; devices that need none then share evenly."""


def shares(rates: Sequence[float]) -> tuple[float, ...]:
    """Return batch shares proportional to measured rates (samples a second), so that all replicas end at
    once; they sum to 1.

    With transfers, take as a device's rate one over the seconds that it is busy with a whole sample,
    transfers included: what it sends and receives is proportional to its share as well.

    Raises:
        InvalidCase: no rates, one that is not a positive finite number.
    """
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise InvalidCase(f"shares need finite rates above 0, one for each replica; they are {tuple(rates)}")
    most = max(rates)
    parts = [rate / most for rate in rates]
    return tuple(part / sum(parts) for part in parts)


def divisible_bound(case: LoadCase) -> float:
    """Return a bound on every plan: work that can be divided at will, without transfers. For any weights y of
    the devices that sum to 1, ``sum over operators of min over devices of y * seconds`` (linear duality)."""
    import numpy as np

    finite = np.where(np.isfinite(case.seconds), case.seconds, 0.0)
    count = np.maximum(np.isfinite(case.seconds).sum(axis=0), 1)
    found = 0.0
    for weight in (np.ones(len(case.devices)), count / np.maximum(finite.sum(axis=0), INSTANT)):
        y = weight / weight.sum()
        found = max(found, float(np.where(np.isfinite(case.seconds), finite * y, np.inf).min(axis=1).sum()))
    return found
