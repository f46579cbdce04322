"""What each worker does in a training step, in order."""

from __future__ import annotations

import pytest

from isthmus.errors import InvalidCase
from isthmus.planning.slicing.passes import (
    Pass,
    check_passes,
    passes,
    rows_of,
    show_passes,
    straight,
    u_shaped,
)
from isthmus.planning.slicing.schedule import Action, schedule
from isthmus.planning.slicing.simulate import Times, simulate


def test_a_worker_for_each_slice_runs_1f1b() -> None:
    found = passes(straight(3), 4)
    assert show_passes(found) == (
        "0 | F0@0 F1@0 F2@0 B0@0 F3@0 B1@0 B2@0 B3@0 step\n"
        "1 | F0@1 F1@1 B0@1 F2@1 B1@1 F3@1 B2@1 B3@1 step\n"
        "2 | F0@2 B0@2 F1@2 B1@2 F2@2 B2@2 F3@2 B3@2 step"
    )
    assert rows_of(straight(3), found) == schedule(3, 4)


def test_in_a_u_the_first_worker_has_the_labels() -> None:
    places = u_shaped(3)
    assert places == (0, 1, 0)
    found = passes(places, 2)
    assert show_passes(found) == (
        "0 | F0@0 F1@0 F0@2 B0@2 F1@2 B1@2 B0@0 B1@0 step\n1 | F0@1 F1@1 B0@1 B1@1 step"
    )


@pytest.mark.parametrize("stages", range(1, 7))
@pytest.mark.parametrize("microbatches", range(1, 10))
def test_every_order_runs_and_the_simulator_agrees(stages: int, microbatches: int) -> None:
    shapes = [straight(stages), (0,) * stages]
    if stages > 2:
        shapes += [u_shaped(stages), tuple(k % 2 for k in range(stages))]
    for places in shapes:
        found = passes(places, microbatches)
        check_passes(places, found)
        times = Times([1.0] * stages, [1.0] * stages, [0.0] * (stages - 1), [0.0] * (stages - 1))
        step = simulate(rows_of(places, found), times)
        assert step.seconds == 2 * (microbatches + stages - 1)
        for stage in range(stages):
            for kind in "FB":
                order = [
                    entry.action.microbatch
                    for entry in found[places[stage]]
                    if (entry.stage, entry.action.kind) == (stage, kind)
                ]
                assert order == list(range(microbatches))


def test_an_order_in_which_workers_wait_for_each_other_is_refused_with_the_place() -> None:
    # Each slice's own order is right; the first worker wants the last slice's pass before it has fed the others.
    first, back = Action("F", 0), Action("B", 0)
    wrong = ((Pass(2, first), Pass(0, first), Pass(2, back), Pass(0, back)), (Pass(1, first), Pass(1, back)))
    with pytest.raises(InvalidCase, match="cannot run") as caught:
        check_passes((0, 1, 0), wrong)
    assert "0 | F0@2 <-- ERROR HERE F0@0" in str(caught.value)


@pytest.mark.parametrize("places", [(), (1,), (0, 2)])
def test_every_worker_needs_a_slice(places: tuple[int, ...]) -> None:
    with pytest.raises(InvalidCase, match="needs a slice"):
        passes(places, 2)


def test_a_u_needs_three_slices() -> None:
    with pytest.raises(InvalidCase, match="three slices or more; there are 2"):
        u_shaped(2)
