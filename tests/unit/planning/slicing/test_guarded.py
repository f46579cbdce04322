"""Plans under a limit on leakage: each objective, the plan in force, what is shown and what is refused."""

from __future__ import annotations

import msgspec
import pytest
from leakage_cases import HERE, LIMITED, THERE, device, profile, report
from msgspec.structs import replace

from isthmus.errors import InvalidCase, NoPlan
from isthmus.model.policy import DataPolicy
from isthmus.model.slicing import SlicePlan
from isthmus.planning.slicing.planner import make_plan
from isthmus.planning.slicing.request import Request


def runs(plan: SlicePlan) -> dict[str, int]:
    """How many operators each device runs."""
    return {
        entry.replicas[0].device: sum(end - start for start, end in entry.ranges) for entry in plan.slices
    }


BRANCHES = (("x", "a"), ("x", "b"), ("a b", "c"), ("c", "d"), ("d", "y"))
PACE = {"here": [0.1] * 5, "there": [0.01] * 5}
DIAMOND = profile(*BRANCHES, seconds=PACE)
SINGLES = {"a": 0.3, "b": 0.3, "c": 0.3, "d": 0.2}


def test_what_leaks_alone_stays_and_the_transfer_has_its_figure() -> None:
    asked = Request(policy=LIMITED)
    plan = make_plan(DIAMOND, [HERE, THERE], asked, leakage=report({**SINGLES, "a b": 0.4}))
    assert [(t.tensors, t.leakage_r2) for t in plan.transfers] == [(("a", "b"), 0.4)]
    assert plan.exact
    later = make_plan(DIAMOND, [HERE, THERE], asked, leakage=report({**SINGLES, "a b": 0.4, "a": 0.5}))
    assert [(t.tensors, t.leakage_r2) for t in later.transfers] == [(("c",), 0.3)]
    open_ = make_plan(DIAMOND, [HERE, THERE], Request(policy=replace(LIMITED, max_leakage_r2=None)))
    assert [(t.tensors, t.leakage_r2) for t in open_.transfers] == [(("a", "b"), None)]


@pytest.mark.parametrize("together", [{"a b": 0.5}, {}])
def test_what_leaks_together_or_was_not_measured_together_stays(together: dict[str, float]) -> None:
    plan = make_plan(DIAMOND, [HERE, THERE], Request(policy=LIMITED), leakage=report({**SINGLES, **together}))
    assert [t.tensors for t in plan.transfers] == [("c",)]
    assert plan.exact
    assert plan.method.endswith("plans refused for what leaks: 1")
    assert plan.certificate == ""


def test_nothing_that_was_not_measured_leaves_and_the_plan_says_so() -> None:
    plan = make_plan(DIAMOND, [HERE, THERE], Request(policy=LIMITED))
    assert runs(plan) == {"here": 5}
    (reason,) = [entry.reason for entry in plan.reasons if entry.device == "there"]
    assert "of 4 tensors that might leave, 4 were not measured (`isthmus leakage`)" in reason
    assert plan.best_split is None
    some = make_plan(DIAMOND, [HERE, THERE], Request(policy=LIMITED), leakage=report({"a": 0.9}))
    (reason,) = [entry.reason for entry in some.reasons if entry.device == "there"]
    assert "1 tell R² 0.5 or more of the raw input and 3 were not measured" in reason


@pytest.mark.parametrize(
    "objective",
    ["latency", pytest.param("throughput", marks=pytest.mark.slow), "cost", "energy", "step"],
)
@pytest.mark.parametrize("contiguous", [True, False])
def test_every_objective_keeps_inside_what_leaks_together(objective: str, contiguous: bool) -> None:
    priced = [
        replace(HERE, price_per_hour_usd=9.0, power_watts=90.0),
        replace(THERE, price_per_hour_usd=1.0, power_watts=9.0),
    ]
    request = msgspec.convert(
        {"objective": objective, "contiguous": contiguous, "time_limit_seconds": 2.0}
        | ({"usage": "training"} if objective == "step" else {}),
        Request,
    )
    figures = report({**SINGLES, "a b": 0.6})
    free = make_plan(DIAMOND, priced, replace(request, policy=replace(LIMITED, max_leakage_r2=None)))
    kept = make_plan(DIAMOND, priced, replace(request, policy=LIMITED), leakage=figures)
    assert {t for entry in free.transfers for t in entry.tensors} >= {"a", "b"}
    crossing = {t for entry in kept.transfers for t in entry.tensors}
    assert crossing & {"a", "b", "c", "d"}
    assert not crossing >= {"a", "b"}


def test_a_plan_in_force_is_kept_only_while_it_leaks_no_more_than_allowed() -> None:
    asked = Request(policy=LIMITED)
    before = make_plan(DIAMOND, [HERE, THERE], asked, leakage=report({**SINGLES, "a b": 0.4}))
    kept = make_plan(
        DIAMOND, [HERE, THERE], asked, leakage=report({**SINGLES, "a b": 0.49}), current=before, threshold=9
    )
    assert kept.method.startswith("the plan in force")
    assert [t.leakage_r2 for t in kept.transfers] == [0.49]
    for figures in ({**SINGLES, "a b": 0.6}, SINGLES, {**SINGLES, "a b": 0.4, "a": 0.5}):
        moved = make_plan(DIAMOND, [HERE, THERE], asked, leakage=report(figures), current=before, threshold=9)
        assert [t.tensors for t in moved.transfers] == [("c",)]
    gone = make_plan(DIAMOND, [HERE, THERE], asked, current=before, threshold=9)
    assert not gone.split


def test_what_cannot_be_says_what_reaches_whom_and_what_limit_would_do() -> None:
    small = replace(HERE, memory_bytes=350 + 3000)  # three operators and what one works with
    figures = report({"a": 0.3, "b": 0.3, "c": 0.83, "d": 0.2, "a b": 0.7})
    with pytest.raises(NoPlan) as refused:
        make_plan(DIAMOND, [small, THERE], Request(policy=LIMITED), leakage=figures)
    said = str(refused.value)
    assert (
        "no plan keeps what leaves home below R² 0.5, as the policy asks: a and b would reach aws (there)"
        in said
    )
    assert "(rbf) rebuilds held-out inputs with R² 0.700; a limit of 0.701 would make a plan possible" in said
    loose = replace(LIMITED, max_leakage_r2=0.701)
    assert make_plan(DIAMOND, [small, THERE], Request(policy=loose), leakage=figures).split
    with pytest.raises(NoPlan, match="to_c may not or cannot run on any of here") as other:
        make_plan(DIAMOND, [replace(small, unsupported=("Gemm",))], Request(policy=LIMITED))
    assert "leaves" not in str(other.value)


def test_what_was_not_measured_says_how_to_measure_it() -> None:
    line = profile(("x", "a"), ("a", "b"), ("b", "y"), seconds={"here": [0.1] * 3, "there": [0.01] * 3})
    small = replace(HERE, memory_bytes=250 + 2000)
    with pytest.raises(
        NoPlan, match=r"it was not measured; measure with `isthmus leakage MODEL --samples FILE"
    ):
        make_plan(line, [small, THERE], Request(policy=LIMITED))
    small = replace(HERE, memory_bytes=250 + 3000)
    with pytest.raises(NoPlan, match=r"together they were not measured; measure them with .* --cut a,b -o"):
        make_plan(DIAMOND, [small, THERE], Request(policy=LIMITED), leakage=report(SINGLES))


def test_where_only_results_may_leave_the_policy_is_named() -> None:
    small = replace(HERE, memory_bytes=250 + 3000)
    policy = DataPolicy(zones=("home",))
    assert runs(make_plan(DIAMOND, [HERE, THERE], Request(policy=policy))) == {"here": 5}
    with pytest.raises(
        NoPlan, match=r"lets results leave home, .*with `may_leave: activations` a and b would"
    ):
        make_plan(DIAMOND, [small, THERE], Request(policy=policy))


def test_the_raw_input_lies_where_it_may() -> None:
    with pytest.raises(NoPlan, match="lies at there in aws, and the policy lets raw data lie in home alone"):
        make_plan(DIAMOND, [HERE, THERE], Request(policy=LIMITED, source="there"))
    assert make_plan(
        DIAMOND, [HERE, THERE], Request(policy=DataPolicy(may_leave="everything"), source="there")
    )


def test_figures_of_another_network_are_refused_whatever_the_policy() -> None:
    other = replace(report({}), model_digest="e" * 64)
    with pytest.raises(InvalidCase, match="measure that"):
        make_plan(DIAMOND, [HERE, THERE], Request(), leakage=other)


def test_a_transfer_between_zones_has_its_figure_without_any_limit() -> None:
    here, office = replace(HERE, zone="shop"), replace(THERE, zone="office")
    policy = DataPolicy(zones=("shop", "office"))
    small = replace(here, memory_bytes=350 + 3000)
    plan = make_plan(DIAMOND, [small, office], Request(policy=policy), leakage=report({"a b": 0.6, "c": 0.9}))
    known = {"a b": 0.6, "c": 0.9, "x": 1.0, "a": None, "b": None}
    assert [t.leakage_r2 for t in plan.transfers] == [known[" ".join(t.tensors)] for t in plan.transfers]
    assert any(t.leakage_r2 is not None for t in plan.transfers)
    same = make_plan(
        DIAMOND, [small, replace(office, zone="shop")], Request(policy=policy), leakage=report({"c": 0.9})
    )
    assert {t.leakage_r2 for t in same.transfers} == {None}


def test_gradients_do_not_leave_where_leakage_is_limited() -> None:
    """What is made outside and read inside sends its gradients out, and nobody measured them."""
    far, back = device("far", "aws", ["here", "back"]), device("back", "home", ["here", "far"])
    devices = [device("here", "home", ["far", "back"]), far, replace(back, features=("special",))]
    pace = {"here": [0.1] * 4, "far": [0.001] * 4, "back": [0.1] * 4}
    network = profile(("x", "a"), ("a", "b"), ("b", "c"), ("c", "y"), seconds=pace)
    last = replace(network.operators[3], features=("special",))
    network = replace(network, operators=(*network.operators[:3], last))
    request = Request(objective="step", usage="training", policy=replace(LIMITED, max_leakage_r2=None))
    free = make_plan(network, devices, request)
    assert runs(free) == {"here": 1, "far": 2, "back": 1}
    figures = report({"a": 0.1, "b": 0.1, "c": 0.1})
    kept = make_plan(network, devices, replace(request, policy=LIMITED), leakage=figures)
    assert "far" not in runs(kept)
