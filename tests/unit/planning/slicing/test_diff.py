"""What differs between two plans, both ways."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from slicing_plans import alone, back_and_forth, latency, pipeline

from isthmus import documents
from isthmus.errors import InvalidCase
from isthmus.model.slicing import SlicePlan
from isthmus.planning.slicing.diff import Move, PlanDiff, diff, text

MERGED = """\
resnet50: 28 operators moved
latency: 0.0203 s -> 0.0312 s (+0.0109, +53.7%)
bound: 0.0203 s -> 0.0312 s (+0.0109, +53.7%)
a request: 0.0203 s -> 0.0312 s (+0.0109, +53.7%)
rate: 71.4 samples/s -> 32.1 samples/s (-39.3, -55%)
no longer used: rig-1, cloud
operators moved:
  [12,30)  rig-1  ->  edge-1
  [30,40)  cloud  ->  edge-1
transfers changed:
  edge-1 -> rig-1  1.2 MiB in 8.30 ms direct/float16 (layer1_out)               ->  nothing
  rig-1 -> cloud   8.0 KiB in 2.60 ms relay (pool_out, skip_7_out, skip_8_out)  ->  nothing"""


def test_a_difference_says_who_moved_what_is_sent_and_what_it_is_worth() -> None:
    assert text(diff(latency(), alone())) == MERGED


PAIRS = [
    (latency(), alone()),
    (back_and_forth(), back_and_forth(transfers=())),
    (pipeline(3), pipeline(3, slices=pipeline(3).slices[::-1], value=99.0)),
    (pipeline(), pipeline(objective="latency", unit="s", value=0.03, bound=0.03)),
]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_the_other_way_round_everything_is_turned_round(old: SlicePlan, new: SlicePlan) -> None:
    there, back = diff(old, new), diff(new, old)
    assert [(m.start, m.end, m.old, m.new) for m in there.moves] == [
        (m.start, m.end, m.new, m.old) for m in back.moves
    ]
    assert (set(there.gained), set(there.lost)) == (set(back.lost), set(back.gained))
    assert {(f.source, f.target, f.old, f.new) for f in there.transfers} == {
        (f.source, f.target, f.new, f.old) for f in back.transfers
    }
    assert [(c.name, c.old, c.by) for c in there.predictions] == [
        (c.name, c.new, -c.by) for c in back.predictions
    ]


@pytest.mark.parametrize("plan", [latency(), alone(), pipeline(), back_and_forth()])
def test_a_plan_does_not_differ_from_itself(plan: SlicePlan) -> None:
    found = diff(plan, plan)
    assert found.same_places
    assert (found.gained, found.lost, found.transfers, found.predictions) == ((), (), (), ())
    assert "nothing moved" in text(found)
    assert "as before" in text(found)


def test_a_slice_on_other_devices_is_a_move_and_on_the_same_ones_a_share() -> None:
    plan = pipeline()
    one, other = plan.slices[1].replicas
    shared = replace(plan.slices[1], replicas=(replace(one, share=0.5), replace(other, share=0.5)))
    found = diff(plan, replace(plan, slices=(plan.slices[0], shared, plan.slices[2])))
    assert not found.moves
    assert [(entry.device, entry.old, entry.new) for entry in found.shares] == [
        ("rig-1", 0.6, 0.5),
        ("edge-7", 0.4, 0.5),
    ]
    assert "share of rig-1: 60% -> 50%" in text(found)

    alone_ = replace(plan.slices[1], replicas=(replace(one, share=1.0),))
    found = diff(plan, replace(plan, slices=(plan.slices[0], alone_, plan.slices[2])))
    assert found.moves == (Move(start=5, end=10, old=("rig-1", "edge-7"), new=("rig-1",)),)
    assert found.lost == ("edge-7",)


def test_operators_that_move_together_are_one_range() -> None:
    """Ranges of one slice that lie apart stay apart; neighbours that go the same way are joined."""
    plan = back_and_forth()
    edge, cloud = plan.slices
    swapped = replace(
        plan, slices=(replace(edge, ranges=((2, 5),), range_seconds=()), replace(cloud, ranges=edge.ranges))
    )
    assert [(m.start, m.end) for m in diff(plan, swapped).moves] == [(0, 2), (2, 5), (5, 11)]


def test_other_objectives_have_no_common_value() -> None:
    found = diff(pipeline(), pipeline(objective="latency", unit="s", value=0.03, bound=0.03))
    assert (found.value, found.bound) == (None, None)
    assert "planned for throughput, now for latency" in text(found)


def test_where_the_old_value_was_nothing_there_is_no_fraction() -> None:
    free = alone(objective="cost", unit="USD/1000 requests", value=0.0, bound=0.0)
    found = diff(free, replace(free, value=0.5))
    assert found.value is not None
    assert found.value.fraction is None
    assert "cost: $0 per 1,000 requests -> $0.5 per 1,000 requests (+0.5)" in text(found)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (latency(network="vit"), "these are of resnet50 and vit"),
        (latency(network_digest="b" * 64), "digests aaaaaaaaaaaa and bbbbbbbbbbbb"),
        (
            latency(slices=latency().slices[:2], transfers=(), network_digest="a" * 64),
            "has 40 operators in the one and 30",
        ),
    ],
)
def test_plans_of_other_networks_are_refused(new: SlicePlan, said: str) -> None:
    with pytest.raises(InvalidCase, match=said):
        diff(latency(network_digest="a" * 64), new)


def test_it_is_a_document() -> None:
    found = diff(latency(), alone())
    assert documents.decode(PlanDiff, documents.encode(found), "the difference") == found
