"""The plan under a limit on leakage is the best of all assignments that the policy allows."""

from __future__ import annotations

import itertools
import random

import pytest
from leakage_cases import LIMIT, LIMITED, device, profile, report
from msgspec.structs import replace

from isthmus.model.device import DeviceDescriptor
from isthmus.model.leakage import LeakageReport
from isthmus.model.network import NetworkProfile
from isthmus.planning.slicing import build, choose
from isthmus.planning.slicing.planner import make_plan
from isthmus.planning.slicing.problem import problem
from isthmus.planning.slicing.request import Request
from isthmus.planning.slicing.solution import from_assignment


def random_case(seed: int) -> tuple[NetworkProfile, list[DeviceDescriptor], LeakageReport]:
    """Five or six operators that read one or two tensors each, three devices in two zones, some cuts measured."""
    draw = random.Random(seed)
    names = ["x", *"abcdefy"[: draw.randint(5, 6) - 1], "y"]
    operators = []
    for k in range(1, len(names)):
        inputs = {names[k - 1]} | set(draw.sample(names[1:k] or ["x"], 1))
        operators.append((" ".join(sorted(inputs)), names[k]))
    ids = ["one", "two", "far"]
    seconds = {
        name: [draw.uniform(0.001, 0.1) / (8 if name == "far" else 1) for _ in operators] for name in ids
    }
    network = profile(*operators, seconds=seconds)
    devices = [
        device(name, "aws" if name == "far" else "home", [other for other in ids if other != name])
        for name in ids
    ]
    if seed % 3 == 0:
        devices[0] = replace(devices[0], memory_bytes=3000 + 250)
    inner = names[1:-1]
    cuts = [
        *((name,) for name in inner),
        *itertools.combinations(inner, 2),
        *itertools.combinations(inner, 3),
    ]
    chosen = [cut for cut in cuts if draw.random() < (0.9 if len(cut) == 1 else 0.5)]
    return network, devices, report({" ".join(cut): draw.uniform(0.1, 0.6) for cut in chosen})


def allowed(network: NetworkProfile, inside: list[bool], figures: dict[frozenset[str], float]) -> bool:
    """The policy, said again: what is made inside and read outside was measured, each and all, below the limit."""
    made = {"x": True} | {op.outputs[0]: within for op, within in zip(network.operators, inside, strict=True)}
    out = {
        name
        for op, within in zip(network.operators, inside, strict=True)
        if not within
        for name in op.inputs
        if made[name]
    }
    return not out or (
        "x" not in out
        and all(figures.get(frozenset(cut), 1.0) < LIMIT for cut in [{name} for name in out] + [out])
    )


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_best_of_all_assignments_that_the_policy_allows(seed: int) -> None:
    network, devices, measured = random_case(seed)
    figures = {frozenset(cut.tensors): cut.r2 for cut in measured.cuts}
    request = Request(policy=LIMITED)
    case = build.case_of(problem(network, devices, request))
    best = float("inf")
    for assignment in itertools.product(range(3), repeat=len(network.operators)):
        if allowed(network, [d < 2 for d in assignment], figures):
            value = choose.value_of(case, from_assignment((0, *assignment)))
            best = min(best, float("inf") if value is None else value)
    plan = make_plan(network, devices, request, leakage=measured)
    assert plan.bound <= best * (1 + 1e-9)
    assert plan.value >= best * (1 - 1e-9)
    if plan.exact:
        assert plan.value == pytest.approx(best)
    where = {
        v: entry.replicas[0].device for entry in plan.slices for a, b in entry.ranges for v in range(a, b)
    }
    assert allowed(network, [where[v] != "far" for v in range(len(network.operators))], figures)
