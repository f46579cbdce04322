"""Which method solves a case: exact ones where they are exact, named in the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.planning.slicing import verify
from isthmus.planning.slicing.case import LoadCase, SumCase
from isthmus.planning.slicing.step_case import StepCase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.planning.slicing.solution import Solution, Stage

AnyCase = LoadCase | SumCase | StepCase


def solve(case: AnyCase, *, time_limit_seconds: float) -> Solution:
    """Return a plan that the verifier has passed.

    Raises:
        NoPlan: none is possible, or none was found in time; the message says which, and what would make one.
        PlanUnsound: a method is wrong about its own plan: a fault of isthmus.
    """
    if isinstance(case, StepCase):
        from isthmus.planning.slicing import training, verify_step

        found = training.solve_step(case, time_limit_seconds=time_limit_seconds)
        verify_step.verify_step(case, found)
        return found
    found = _sum(case, time_limit_seconds) if isinstance(case, SumCase) else _load(case, time_limit_seconds)
    verify.verify(case, found)
    return found


def value_of(case: AnyCase, stages: Sequence[Stage]) -> float | None:
    """Return what stages are worth, or None where they break a constraint."""
    if isinstance(case, StepCase):
        from isthmus.planning.slicing import training, verify_step

        broken = verify_step.step_violations(case, stages)
        return None if broken else training.simulate_step(case, stages).seconds
    return None if verify.violations(case, stages) else verify.objective(case, stages)


def why_not(case: AnyCase, stages: Sequence[Stage]) -> str:
    """Return the first constraint that stages break, in a sentence; empty when none."""
    if isinstance(case, StepCase):
        from isthmus.planning.slicing import verify_step

        return next(iter(verify_step.step_violations(case, stages)), "")
    return next(iter(verify.violations(case, stages)), "")


def _sum(case: SumCase, time_limit_seconds: float) -> Solution:
    from isthmus.planning.slicing import sums

    return sums.best(case, time_limit_seconds=time_limit_seconds)


def _load(case: LoadCase, time_limit_seconds: float) -> Solution:
    if case.replicated:
        from isthmus.planning.slicing import replicated

        return replicated.solve(case)
    from isthmus.planning.slicing import free, lattice

    if not lattice.applies(case):
        return lattice.solve(case)
    return free.solve(case, time_limit_seconds=time_limit_seconds)
