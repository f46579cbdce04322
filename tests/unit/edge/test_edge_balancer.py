from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.edge.balancer import Balancer, Habits, Now, Option
from isthmus.edge.link import LONGEST_REST_SECONDS, LinkEstimate

LOCAL = Option("local", 3, 1.0)
EARLY = Option("split", 1, 0.3, 0.7, 0.05, 100_000)
LATE = Option("split", 2, 0.8, 0.2, 0.02, 10_000)
ALL = Option("cloud", 0, 0.0, 1.0, 0.08, 600_000)
OPTIONS = [LOCAL, ALL, EARLY, LATE]


def known(bytes_per_second: float, latency: float = 0.02, deviation: float = 0.05) -> LinkEstimate:
    """A link that is well known, and steady."""
    return LinkEstimate(1 / bytes_per_second, latency, deviation=deviation, lost=0.0, heard_at=0.0)


@pytest.mark.parametrize(
    ("bytes_per_second", "way"),
    [(10e6, "cloud"), (400e3, "split:1"), (120e3, "split:2"), (10e3, "local")],
)
def test_the_faster_the_link_the_earlier_it_is_cut(bytes_per_second: float, way: str) -> None:
    balancer = Balancer(known(bytes_per_second), asked_at=0.0)
    choice = balancer.choose(Now(0.0), OPTIONS)
    assert choice.option.name == way
    there = LOCAL.head_seconds
    if way != "local":
        wire = choice.option.moved_bytes / bytes_per_second
        there = choice.option.head_seconds + 0.02 + choice.option.cloud_seconds + wire
    assert choice.seconds == pytest.approx(there, rel=0.05)


def test_a_link_that_promises_nothing_is_tried_with_the_fewest_bytes() -> None:
    choice = Balancer(known(10e3)).choose(Now(0.0), OPTIONS)
    assert (choice.option.name, choice.hedge_seconds) == ("split:2", 0.0)
    assert choice.reason == "split:2 1840 ms, local 1000 ms: the link is tried beside it"


def test_a_busy_processor_sends_more_away() -> None:
    balancer = Balancer(known(80e3))
    assert balancer.choose(Now(0.0, queue_seconds=8.0), OPTIONS).option.name == "cloud"


@given(
    rate=st.floats(1e3, 1e8),
    queue=st.floats(0, 10),
    deadline=st.floats(0.01, 100),
    deviation=st.floats(0, 2),
    refused=st.sets(st.sampled_from(["cloud", "split:1", "split:2"])),
)
@settings(max_examples=300, deadline=None)
def test_whatever_it_knows_it_never_takes_a_way_that_the_policy_forbids(
    rate: float, queue: float, deadline: float, deviation: float, refused: set[str]
) -> None:
    options = [
        Option(
            o.kind, o.cut, o.head_seconds, o.tail_seconds, o.cloud_seconds, o.moved_bytes, refused="a rule"
        )
        if o.name in refused
        else o
        for o in OPTIONS
    ]
    balancer = Balancer(known(rate, deviation=deviation))
    for at in range(5):
        choice = balancer.choose(Now(float(at), queue, deadline), options)
        assert choice.option.name not in refused
        assert 0 <= choice.hedge_seconds < math.inf
        # With its rescue it is in time where running here would be.
        rescued = queue + choice.option.head_seconds + choice.hedge_seconds + choice.option.tail_seconds
        if choice.option.kind != "local" and queue + LOCAL.head_seconds <= deadline:
            assert rescued <= deadline + 1e-9


def test_where_nothing_may_leave_the_rule_is_the_reason() -> None:
    options = [LOCAL, Option("cloud", 0, 0.0, 1.0, refused="the policy keeps the raw input 'x' here")]
    choice = Balancer(known(1e9)).choose(Now(0.0), options)
    assert (choice.option, choice.reason) == (LOCAL, "the policy keeps the raw input 'x' here")
    assert Balancer(known(1e9)).choose(Now(0.0), [LOCAL]).reason == "there is no cloud to ask"


def test_offline_is_local_until_the_rest_is_over_and_each_rest_is_twice_the_last() -> None:
    link, now, rests = known(10e6), 0.0, []
    balancer = Balancer(link)
    for _ in range(7):
        assert balancer.choose(Now(now), OPTIONS).option.kind == "cloud"
        link.failed(now)
        rests.append(link.rests_until - now)
        choice = balancer.choose(Now(now + 0.99 * rests[-1]), OPTIONS)
        assert (choice.option.kind, choice.reason) == ("local", "the cloud did not answer, and rests")
        now = link.rests_until
    assert rests == [0.5, 1, 2, 4, 8, 8, LONGEST_REST_SECONDS]
    link.moved(now, 600_000, 0.1)
    assert (link.failures, link.rests(now)) == (0, False)


def test_a_way_is_kept_until_another_is_clearly_better() -> None:
    # 0.3 + 0.02 + 0.05 + 100 kB against 600 kB + 0.1: equal at about 1.9 MB/s
    equal = 500_000 / (0.37 - 0.1)
    for first, other in ((0.9 * equal, 1.01 * equal), (1.1 * equal, 0.99 * equal)):
        balancer = Balancer(known(first), Habits(keep_gain=0.05))
        taken = balancer.choose(Now(0.0), OPTIONS).option.name
        balancer.link = known(other)
        assert balancer.choose(Now(0.0), OPTIONS).option.name == taken
        without = Balancer(known(other), Habits(keep_gain=0.0), last=taken)
        assert without.choose(Now(0.0), OPTIONS).option.name != taken


def test_prices_are_weighed_by_what_a_second_is_worth() -> None:
    dear = [LOCAL, Option("cloud", 0, 0.0, 1.0, 0.08, 600_000, usd=0.001)]
    for worth, way in ((None, "cloud"), (0.01, "cloud"), (0.0005, "local")):
        balancer = Balancer(known(10e6), Habits(usd_per_second=worth, probe_seconds=1e9), asked_at=0.0)
        assert balancer.choose(Now(0.0), dear).option.name == way


def test_an_idle_processor_works_beside_an_unsure_link_and_not_beside_a_sure_one() -> None:
    assert Balancer(known(400e3, deviation=1.0)).choose(Now(0.0), OPTIONS).hedge_seconds == 0
    sure = Balancer(known(10e6, deviation=0.01)).choose(Now(0.0), OPTIONS)
    assert sure.hedge_seconds == pytest.approx(0.16, rel=0.05)
    busy = Balancer(known(400e3, deviation=1.0)).choose(Now(0.0, queue_seconds=0.5), OPTIONS)
    assert busy.hedge_seconds > 0


def test_a_link_that_is_not_used_is_tried_more_seldom_the_less_it_promises() -> None:
    def tries(bytes_per_second: float) -> int:
        balancer = Balancer(known(bytes_per_second))
        choices = [balancer.choose(Now(at / 10), OPTIONS) for at in range(600)]
        assert all(c.option.kind == "local" or c.reason.endswith("tried beside it") for c in choices)
        return sum(choice.option.kind != "local" for choice in choices)

    near, far = tries(40e3), tries(1e3)
    assert 8 >= far >= 6
    assert near > 4 * far


def test_an_estimate_follows_the_link_and_falls_back_to_what_is_usual() -> None:
    link = LinkEstimate(1e-6, 0.1)
    for at in range(60):
        link.moved(float(at), 1e6, 0.1 + 0.5)  # 2 MB/s
    assert link.seconds_per_byte_at(60.0) == pytest.approx(0.5e-6, rel=0.05)
    for at in range(3):
        link.moved(60.0 + at, 1e6, 0.1 + 20.0)  # a fade
    assert link.seconds_per_byte_at(62.0) > 5e-6
    assert link.seconds_per_byte_at(90.0) == pytest.approx(0.6e-6, rel=0.3)


def test_what_was_given_up_counts_only_where_it_took_longer_than_expected() -> None:
    link = known(1e6)
    link.stalled(0.0, 1e6, 0.5)
    assert link.seconds_per_byte_at(0.0) == pytest.approx(1e-6)
    link.stalled(0.0, 1e6, 30.0)
    assert link.seconds_per_byte_at(0.0) > 1e-5
    assert link.lost > 0


def test_small_requests_tell_the_latency_and_quick_transfers_correct_it() -> None:
    link = LinkEstimate(1e-6, 0.5)
    link.failed(0.0)
    link.answered(0.03)
    assert (link.latency_seconds, link.rests(0.1)) == (0.03, False)
    link.moved(10.0, 1e6, 0.02)
    assert link.latency_seconds < 0.02
