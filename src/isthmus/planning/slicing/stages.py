"""A plan's slices as stages that run one after the other, and what goes from each to which."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.errors import InvalidCase
from isthmus.model.sliced import CALLER
from isthmus.model.slicing import SlicePlan

LONGEST_NAME = 40
"""Of a model (``model.blob.Name``)."""


@dataclass(frozen=True)
class Stage:
    """Operators ``[start, end)`` of the network; ``planned_as`` numbers the plan's slice that they are of."""

    start: int
    end: int
    planned_as: int


@dataclass(frozen=True)
class Crossing:
    """Tensors that one stage makes, or the caller gives, and that another, or the caller, reads; by number."""

    source: int
    target: int
    tensors: tuple[str, ...]


def stages(plan: SlicePlan, operators: int) -> tuple[Stage, ...]:
    """Return the plan's ranges in the order of the operators, which is one in which they can run: a slice of several
    ranges is several stages, since what runs between them elsewhere may need the first and be needed by the next.

    Raises:
        InvalidCase: together they are not all of the network's ``operators``.
    """
    found = sorted(
        (
            Stage(start, end, k)
            for k, entry in enumerate(plan.slices)
            for start, end in entry.ranges
            if start < end
        ),
        key=lambda stage: stage.start,
    )
    ends = [0, *(stage.end for stage in found)]
    if [stage.start for stage in found] != ends[:-1] or ends[-1] != operators:
        raise InvalidCase(
            f"needs a plan of all {operators} operators of the model; that of {plan.network} has {ends[-1]}: make it "
            "anew with `isthmus plan MODEL`, and the same --dimension options"
        )
    return tuple(found)


def crossings(
    inputs: Sequence[str],
    outputs: Sequence[str],
    read: Sequence[Sequence[str]],
    made: Sequence[Sequence[str]],
) -> tuple[Crossing, ...]:
    """Return who hands which tensors to whom. ``inputs``, ``outputs``: of the network; ``read``, ``made``: of each
    stage. Stages number from 0, and ``CALLER`` is who asks. What skips stages goes straight to who reads it."""
    maker = dict.fromkeys(inputs, CALLER)
    for k, names in enumerate(made):
        maker |= dict.fromkeys(names, k)
    found: dict[tuple[int, int], dict[str, None]] = {}
    for target, names in [*enumerate(read), (CALLER, outputs)]:
        for name in names:
            if maker.get(name, target) != target:
                found.setdefault((maker[name], target), {})[name] = None
    return tuple(Crossing(*ends, tuple(names)) for ends, names in sorted(found.items(), key=_in_time))


def _in_time(entry: tuple[tuple[int, int], object]) -> tuple[float, float]:
    (source, target), _ = entry
    return (source, float("inf") if target == CALLER else target)


def base_name(name: str, count: int) -> str:
    """Return what the names of ``count`` slices begin with: of ``name``, what a model's name may hold.

    Raises:
        InvalidCase: nothing is left of it.
    """
    room = LONGEST_NAME - len(f"-slice-{count - 1}")
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").lstrip("0123456789-")[:room].rstrip("-")
    if not base:
        raise InvalidCase(
            f"needs a name that begins with a letter for the slices; {name!r} is none: give --name"
        )
    return base


def slice_names(base: str, count: int) -> tuple[str, ...]:
    """Return the names under which ``count`` slices are served: ``digits-slice-0``, ``digits-slice-1``, …."""
    return tuple(f"{base}-slice-{k}" for k in range(count))
