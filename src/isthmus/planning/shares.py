"""How many of a batch's samples each of several unequal replicas gets."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.errors import InvalidCase


def equal(rows: int, replicas: int) -> tuple[int, ...]:
    """Return equal shares; the first ones have what is left over."""
    return tuple(rows // replicas + (k < rows % replicas) for k in range(replicas))


def by_rate(rows: int, rates: Sequence[float]) -> tuple[int, ...]:
    """Return shares whose sum is ``rows`` and of which the slowest to be done is done first. ``rates``: samples per
    second.

    Rounding: each sample more goes to the one that would be done with it first (of two such, to the first).

    Raises:
        InvalidCase: a rate is not above zero.
    """
    if not rates or any(not rate > 0 for rate in rates):
        raise InvalidCase(f"shares need rates above zero; they are {tuple(rates)}")
    total = sum(rates)
    found = [int(rows * rate / total) for rate in rates]
    while (left := rows - sum(found)) > 0:
        k = min(range(len(rates)), key=lambda k: (found[k] + 1) / rates[k])
        found[k] += min(left, 1)
    return tuple(found)


def seconds(rows: Sequence[int], rates: Sequence[float]) -> float:
    """Return when the last one is done."""
    return max(count / rate for count, rate in zip(rows, rates, strict=True))
