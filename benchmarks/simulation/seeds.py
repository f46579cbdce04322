"""The command line of a simulation: so many seeds, from which on, or one of them again with its trace."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol

SEEDS = 100_000
SHOWN = 10
"""Of the worlds in which something was violated, so many are told of."""


class World(Protocol):
    """What a simulation gives."""

    trace: list[str]
    violations: list[str]


def main_of(
    description: str | None,
    run: Callable[[int, int], int],
    simulate: Callable[[int], World],
    describe: Callable[..., str],
) -> int:
    """Run ``run(first, count)``, or ``simulate(seed)`` and print what happened, ``describe`` in one line; return the
    exit code, 1 when something was violated."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, help="replay one world, with its trace")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    chosen = parser.parse_args()
    if chosen.seed is None:
        return run(chosen.first, chosen.seeds)
    result = simulate(chosen.seed)
    print("\n".join(result.trace))
    print(f"seed {chosen.seed}: {describe(result)}")
    for violation in result.violations:
        print(f"VIOLATED: {violation}")
    return int(bool(result.violations))
