"""The simulator by hand, and against the verifier's longest path on random pipelines."""

from __future__ import annotations

import itertools
import random

import pytest
from step_instances import every_plan, small_case

from isthmus.errors import InvalidCase
from isthmus.planning.slicing.schedule import Action, in_flight, parse, schedule
from isthmus.planning.slicing.simulate import Times, simulate
from isthmus.planning.slicing.training import simulate_step
from isthmus.planning.slicing.verify_step import step_seconds, step_violations


@pytest.mark.parametrize(("stages", "microbatches"), [(1, 1), (1, 4), (3, 2), (4, 4), (4, 9)])
def test_stages_that_are_alike_take_the_known_closed_form(stages: int, microbatches: int) -> None:
    step = simulate(
        schedule(stages, microbatches), Times([1.0] * stages, [2.0] * stages, *[[0.0] * (stages - 1)] * 2)
    )
    assert step.seconds == (stages + microbatches - 1) * 3.0
    assert step.in_flight == tuple(in_flight(stages, k, microbatches) for k in range(stages))


def test_uneven_stages_take_longer_than_sum_and_slowest() -> None:
    # The second stage waits for the first's second forward pass, then works through its backward passes.
    times = Times([10.0, 1.0, 1.0], [1.0, 10.0, 1.0], [0.0, 0.0], [0.0, 0.0])
    step = simulate(schedule(3, 4), times)
    usual = sum(times.forward) + sum(times.backward) + 3 * 11.0
    assert step.seconds == 64.0 > usual == 57.0


def test_a_link_carries_one_transfer_at_a_time() -> None:
    step = simulate(schedule(2, 3), Times([1.0, 1.0], [1.0, 1.0], [5.0], [0.5]))
    sent = [(span.start, span.end) for span in step.timeline if span.what == "send" and span.stage == 0]
    assert sent == [(1.0, 6.0), (6.0, 11.0), (11.0, 16.0)]
    assert step.seconds == 16.0 + 1 + 1 + 0.5 + 1


def test_a_stage_that_cannot_send_and_compute_is_busy_meanwhile() -> None:
    times = {"forward": [1.0, 1.0], "backward": [1.0, 1.0], "send_forward": [2.0], "send_backward": [3.0]}
    busy = simulate(schedule(2, 2), Times(**times, overlap=False))  # type: ignore[arg-type]
    as_compute = simulate(schedule(2, 2), Times([3.0, 1.0], [1.0, 4.0], [0.0], [0.0]))
    assert busy.seconds == as_compute.seconds == 14.0


def test_what_follows_the_last_pass_counts() -> None:
    rows = schedule(2, 2)
    assert simulate(rows, Times([1.0, 1.0], [1.0, 1.0], [0.0], [0.0], finish=[0.0, 7.0])).seconds == 5.0 + 7.0


def test_any_order_that_can_run_is_simulated() -> None:
    all_forward_first = parse("0 | F0 F1 F2 B0 B1 B2\n1 | F0 F1 F2 B0 B1 B2")
    step = simulate(all_forward_first, Times([1.0, 1.0], [1.0, 1.0], [0.0], [0.0]))
    assert step.in_flight == (3, 3)
    assert step.seconds == 8.0


def test_the_timeline_holds_every_action_and_nothing_overlaps() -> None:
    rows = schedule(3, 5)
    step = simulate(rows, Times([1.0, 2.0, 0.5], [2.0, 1.0, 0.0], [0.25, 3.0], [0.5, 0.25]))
    for k, row in enumerate(rows):
        spans = [span for span in step.timeline if span.stage == k and span.what == "compute"]
        assert [span.action for span in spans] == list(row)
        assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
    sent = [span for span in step.timeline if span.what == "send" and span.action == Action("F", 4)]
    assert [span.stage for span in sent] == [0, 1]


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (lambda: Times([1.0], [1.0, 2.0]), "backward needs 1 numbers"),
        (lambda: Times([1.0, 1.0], [1.0, 1.0], [], [0.0]), "send_forward needs 1"),
        (lambda: Times([float("inf")], [1.0]), "finite"),
        (lambda: simulate(schedule(2, 1), Times([1.0], [1.0])), "has 2 stages; the times are of 1"),
        (lambda: simulate(parse("0 | B0 F0"), Times([1.0], [1.0])), "ERROR HERE"),
    ],
)
def test_what_cannot_be_simulated_is_refused(times: object, said: str) -> None:
    with pytest.raises(InvalidCase, match=said):
        times()  # type: ignore[operator]


@pytest.mark.parametrize("replicated", [False, True])
def test_events_and_longest_path_agree(replicated: bool) -> None:
    compared = 0
    for seed in range(70):
        case = small_case(seed, replicated=replicated)
        plans = [plan for plan in every_plan(case) if not step_violations(case, plan)]
        for plan in random.Random(seed).sample(plans, k=min(4, len(plans))):
            step = simulate_step(case, plan)
            assert step.seconds == pytest.approx(step_seconds(case, plan), rel=1e-12)
            assert step.in_flight == tuple(
                in_flight(len(plan), k, case.microbatches) for k in range(len(plan))
            )
            compared += 1
    assert compared > 150
