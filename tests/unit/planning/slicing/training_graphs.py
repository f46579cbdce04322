"""Graphs of a forward and a backward pass, as published and as they could be."""

from __future__ import annotations

import random

from slicing_instances import dag

from isthmus.planning.slicing.case import Graph, Signal


def mirrored(dice: random.Random, forward: Graph) -> Graph:
    """Give each operator a backward one of its group, whose edges run in reverse."""
    n = len(forward.names)
    back = 2 * n - 1  # the backward one of v is back - v
    readers: dict[int, set[int]] = {back - v: set() for v in range(n)}
    for u, v in forward.edges:
        readers[back - v].add(back - u)
    gradients = [Signal(v, tuple(sorted(found)), dice.uniform(0, 2)) for v, found in readers.items() if found]
    turn = Signal(n - 1, (n,), dice.uniform(0, 2))
    kept = [Signal(s.producer, (*s.consumers, back - s.producer), s.size) for s in forward.signals]
    names = (*forward.names, *(f"grad of {name}" for name in reversed(forward.names)))
    return Graph(
        names, (*kept, turn, *gradients), groups=(*range(n), *reversed(range(n))), backward=_passes(n, n)
    )


def irregular(dice: random.Random, n: int) -> Graph:
    """What published graphs have too: gradients in the order of the forward pass, backward operators without a forward
    one, and activations that are read in both passes."""
    forward = dag(dice, n)
    extra = dice.randint(1, n)
    owner = [dice.choice([v, v, None]) for v in dice.sample(range(n), extra)]
    signals = [Signal(s.producer, _more(dice, s.consumers, n, extra), s.size) for s in forward.signals]
    for k in range(extra - 1):
        later = dice.sample(range(k + 1, extra), k=dice.randint(1, extra - k - 1))
        signals.append(Signal(n + k, tuple(n + j for j in sorted(later)), dice.uniform(0, 3)))
    groups = [*range(n), *(n + k if v is None else v for k, v in enumerate(owner))]
    names = (*forward.names, *(f"grad {k}" for k in range(extra)))
    return Graph(names, tuple(signals), groups=tuple(groups), backward=_passes(n, extra))


def _more(dice: random.Random, consumers: tuple[int, ...], n: int, extra: int) -> tuple[int, ...]:
    return (*consumers, n + dice.randrange(extra)) if dice.random() < 0.5 else consumers


def _passes(forward: int, backward: int) -> tuple[bool, ...]:
    return (False,) * forward + (True,) * backward
