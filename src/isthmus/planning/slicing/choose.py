"""Which method solves a case: exact ones where they are exact, named in the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.errors import NoPlan, PlanUnsound
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
    if isinstance(case, SumCase):
        found = _sum(case, time_limit_seconds)
    else:
        try:
            found = (
                _load(case, time_limit_seconds)
                if isinstance(case, LoadCase)
                else _step(case, time_limit_seconds)
            )
        except NoPlan as error:
            raise NoPlan(_reason(case, error)) from error
    if isinstance(case, StepCase):
        from isthmus.planning.slicing import verify_step

        verify_step.verify_step(case, found)
    else:
        verify.verify(case, found)
    if isinstance(case, SumCase):
        _check_certificate(case, found)
    return found


def _check_certificate(case: SumCase, found: Solution) -> None:
    """Hold what proves a bound against the case.

    Raises:
        PlanUnsound: it proves less than it should.
    """
    from isthmus.planning.slicing import certificates, dual_check
    from isthmus.planning.slicing.solution import CutCertificate, DualCertificate

    if isinstance(found.certificate, DualCertificate):
        dual_check.check_dual(case, found.certificate)
    if isinstance(found.certificate, CutCertificate):
        proven = certificates.check_cut(case, found.certificate)
        if proven < found.bound - verify.TOLERANCE * abs(found.bound) - verify.LEAST_SLACK:
            raise PlanUnsound(f"{found.method} claims a bound of {found.bound!r}; its flow proves {proven!r}")


def _reason(case: LoadCase | StepCase, error: NoPlan) -> str:
    """Return what stands against a plan; where nothing does, the method found none in what it looked at."""
    from isthmus.planning.slicing import relax

    if isinstance(case, LoadCase) and _shut(case):
        return str(error)
    said = relax.explain(case)
    return said or f"{error}; there is a plan, which was not found: allow more time"


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


def _step(case: StepCase, time_limit_seconds: float) -> Solution:
    from isthmus.planning.slicing import training

    return training.solve_step(case, time_limit_seconds=time_limit_seconds)


def _load(case: LoadCase, time_limit_seconds: float) -> Solution:
    _check_links(case)
    if case.replicated:
        from isthmus.planning.slicing import replicated

        return replicated.solve(case)
    from isthmus.planning.slicing import free, lattice

    if not lattice.applies(case):
        return lattice.solve(case, time_limit_seconds=time_limit_seconds)
    return free.solve(case, time_limit_seconds=time_limit_seconds)


def _shut(case: LoadCase) -> tuple[str, str] | None:
    """Return two devices of which one cannot send to the other."""
    import numpy as np

    shut = np.isinf(case.send_seconds + case.receive_seconds) & ~np.eye(len(case.devices), dtype=bool)
    found = np.argwhere(shut)
    return (case.devices[found[0][0]], case.devices[found[0][1]]) if len(found) else None


def _check_links(case: LoadCase) -> None:
    """A pipeline may need a transfer between any two devices; which of them to leave out is not chosen here."""
    if pair := _shut(case):
        a, b = pair
        raise NoPlan(
            f"{a} cannot send to {b}; a link between the two, or leaving out one of them, would make a "
            f"plan possible"
        )
