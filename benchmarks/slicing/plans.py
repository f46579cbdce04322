"""Plans of a network over two cores: the planner's own, and others at given cuts, each with what it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isthmus import bootstrap, bootstrap_slicing, documents
from isthmus.model.device import DeviceDescriptor
from isthmus.model.network import NetworkProfile
from isthmus.model.sliced import Cast, SlicedModel
from isthmus.model.slicing import SlicePlan
from isthmus.planning.slicing import build, choose
from isthmus.planning.slicing.document import document
from isthmus.planning.slicing.problem import problem
from isthmus.planning.slicing.request import Request
from isthmus.planning.slicing.solution import Solution, Stage
from isthmus.workflows.slice_model import Order, slice_model


def plan_at(
    profile: NetworkProfile, devices: Sequence[DeviceDescriptor], request: Request, cuts: Sequence[int]
) -> SlicePlan:
    """Return the plan whose slice k ends before operator ``cuts[k]`` and runs on device k; the last ends with the
    network.

    Raises:
        SystemExit: it breaks a constraint.
    """
    given = problem(profile, devices, request)
    case = build.case_of(given)
    count, ends = len(profile.operators), [*cuts, len(profile.operators)]
    starts = [0, *cuts]
    stages = tuple(
        Stage(tuple(v + 1 for v in range(start, end)) if k else tuple(range(end + 1)), (k,))
        for k, (start, end) in enumerate(zip(starts, ends, strict=True))
    )
    value = choose.value_of(case, stages)
    if value is None:
        raise SystemExit(f"cuts {cuts} of {count} operators: {choose.why_not(case, stages)}")
    return document(given, case, Solution(stages, value, value, "a given cut", False))


def cut_of(plan: SlicePlan) -> tuple[int, ...]:
    """Return where a plan of ranges is cut.

    Raises:
        SystemExit: a slice is not one range.
    """
    ranges = [entry.ranges for entry in plan.slices if entry.works]
    if any(len(found) != 1 for found in ranges):
        raise SystemExit(f"slices of {plan.network} are no ranges: {ranges}")
    return tuple(sorted(found[0][0] for found in ranges)[1:])


def cuts_by_share(profile: NetworkProfile, device: str, shares: Sequence[float]) -> list[int]:
    """Return the cuts before which the shares of the measured seconds lie, as nearly as can be."""
    seconds = np.array([entry.seconds[device] for entry in profile.operators])
    before = np.cumsum(seconds)[:-1] / seconds.sum()
    return sorted({int(np.abs(before - share).argmin()) + 1 for share in shares})


def make_slices(model: Path, plan: SlicePlan, folder: Path, cast: Cast | None = None) -> SlicedModel:
    """Cut, prove and seal, as ``isthmus slice MODEL --plan PLAN -o FOLDER`` does."""
    return slice_model(
        Order(model, documents.encode(plan), cast=cast),
        folder,
        signer=bootstrap_slicing.own_signer(),
        open_engine=bootstrap.open_engine,
        now=bootstrap.now(),
    )
