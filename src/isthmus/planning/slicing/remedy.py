"""What would make an impossible case possible, and how that is said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.model.units import format_bytes
from isthmus.planning.slicing.case import Case
from isthmus.planning.slicing.step_case import StepCase

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Graph

    Bools = NDArray[np.bool_]

NAMED = 3
"""So many operators, devices or transfers are named in a sentence, and the others counted."""
FINENESS = 1000
"""A factor of memory is named in thousandths."""


@dataclass(frozen=True, eq=False)
class Remedy:
    """``missing``: what cannot be met, by how much. ``would_do``: the change. ``case``: the case after it, for which
    the verifier has seen a plan. ``least``: it is proven that no smaller change of its kind does."""

    missing: str
    would_do: str
    case: Case | StepCase
    least: bool


def nowhere(graph: Graph, devices: Sequence[str], allowed: Bools) -> str:
    """Name operators that no device may run, alone or with what they are co-located with; empty when there are none.

    ``allowed``: bool ``[n, m]``.
    """
    said = []
    for members in graph.colocated:
        if allowed[list(members)].all(axis=0).any():
            continue
        alone = [v for v in members if not allowed[v].any()]
        if alone:
            said.append(f"{graph.names[alone[0]]} may not or cannot run on any of {', '.join(devices)}")
            continue
        where = (
            f"{graph.names[v]} on {' or '.join(devices[d] for d in allowed[v].nonzero()[0])} only"
            for v in members
            if not allowed[v].all()
        )
        said.append(f"operators that must be on one device can run on none together: {some(list(where))}")
    return f"{some(said)}; a device that can run it would make a plan possible" if said else ""


def sentence(remedies: Sequence[Remedy]) -> str:
    """Return what cannot be met and what would make a plan possible; empty when nothing is known to."""
    if not remedies:
        return ""
    ways = ", or ".join(remedy.would_do for remedy in remedies)
    end = "" if all(remedy.least for remedy in remedies) else "; less may do"
    return f"{remedies[0].missing}; {ways} would make a plan possible{end}"


def size(count_bytes: float) -> str:
    """Return a size for people; exact where it was rounded."""
    whole = math.ceil(count_bytes)
    said = format_bytes(whole)
    return said if whole < 1024 else f"{said} ({whole:,} bytes)"


def more_bytes(needs: float, has: float) -> int:
    """Return whole bytes that make room for what is needed."""
    return math.ceil(needs - has)


def factor(least: float) -> float:
    """Return a factor rounded up to what is named of it."""
    return math.ceil(least * FINENESS) / FINENESS


def one_of(names: Sequence[str]) -> str:
    """Return a device, or several any of which would do."""
    if len(names) == 1:
        return names[0]
    return f"any of {some(names)}" if len(names) > NAMED else " or ".join(names)


def some(said: Sequence[str]) -> str:
    """Return a list of which the first few are named."""
    rest = len(said) - NAMED
    return ", ".join(said[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def every_device(needs: Mapping[str, float]) -> str:
    """Return what each device would have to hold."""
    return some([f"{size(needed)} on {name}" for name, needed in needs.items()])
