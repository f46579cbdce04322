"""Topological orders of blocks, along which a network of too many ideals is searched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.planning.slicing.blocks import Blocks

LINEAR = 3
"""Linear orders whose prefixes give a first plan."""


def linear_orders(blocks: Blocks) -> list[tuple[int, ...]]:
    """Return topological orders of the blocks: as they are numbered, breadth first and depth first."""
    n = len(blocks.members)
    after: list[list[int]] = [[] for _ in range(n)]
    for u, v in blocks.edges:
        after[u].append(v)
    found = [tuple(range(n))]
    for last in (False, True):
        waiting = [0] * n
        for _, v in blocks.edges:
            waiting[v] += 1
        ready = [v for v in range(n) if not waiting[v]]
        order = []
        while ready:
            v = ready.pop(-1 if last else 0)
            order.append(v)
            for w in after[v]:
                waiting[w] -= 1
                if not waiting[w]:
                    ready.append(w)
        found.append(tuple(order))
    return found


def prefixes(orders: Iterable[tuple[int, ...]]) -> list[int]:
    """Return the prefixes of orders, each once, as bit sets."""
    found = {0}
    for order in orders:
        ideal = 0
        for v in order:
            ideal |= 1 << v
            found.add(ideal)
    return list(found)
