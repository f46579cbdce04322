"""The balancer against its oracle on a small set, and the world in which they are compared."""

from __future__ import annotations

import pytest

from benchmarks.balancing.compare import compare
from benchmarks.balancing.request import Network, Request, arrivals, finish
from benchmarks.balancing.trace import Trace, recorded
from benchmarks.balancing.world import World
from isthmus.edge.balancer import Balancer, Option
from isthmus.edge.link import LinkEstimate

SLICES, CLOUD, MOVED = (0.25, 0.14, 0.14, 0.07), (0.09, 0.05, 0.03, 0.01), (154_000, 104_000, 54_000, 29_000)
CASES = [
    pytest.param("4g-train-ghent", SLICES, True, id="a train, raw inputs may leave"),
    pytest.param("4g-train-ghent", SLICES, False, id="a train, raw inputs stay"),
    pytest.param("3g-metro-oslo", tuple(4 * s for s in SLICES), True, id="a metro, a slow device"),
]


def trace_named(name: str) -> Trace:
    return next(trace for trace in recorded() if trace.name == name)


@pytest.mark.parametrize(("name", "slices", "raw_may_leave"), CASES)
def test_on_links_that_no_fixed_way_suits_it_is_within_a_tenth_of_the_oracle(
    name: str, slices: tuple[float, ...], raw_may_leave: bool
) -> None:
    network = Network("small", slices, CLOUD, MOVED, raw_may_leave)
    found = [compare(network, trace_named(name), 0.2, seed, rounds=2) for seed in (1, 2, 3)]
    requests = sum(each.requests for each in found)
    oracle = sum(each.oracle * each.requests for each in found) / requests
    assert sum(each.fixed * each.requests for each in found) / requests >= 1.3 * oracle
    assert sum(each.ours * each.requests for each in found) / requests <= 1.10 * oracle
    assert sum(each.unanswered for each in found) == 0
    assert sum(each.raw_sent_forbidden for each in found) == 0
    assert all(each.bound <= min(each.ours, each.oracle) for each in found)
    assert all(each.oracle <= each.fixed for each in found)


def test_the_same_seed_gives_the_same_run() -> None:
    network, trace = Network("small", SLICES, CLOUD, MOVED), trace_named("4g-train-ghent")
    assert compare(network, trace, 0.1, 5, 1) == compare(network, trace, 0.1, 5, 1)
    assert compare(network, trace, 0.1, 5, 1) != compare(network, trace, 0.1, 6, 1)


def test_a_balancer_that_disregards_the_policy_would_be_found_out() -> None:
    network = Network("small", SLICES, CLOUD, MOVED, raw_may_leave=False)
    world = World(network, trace_named("4g-train-ghent"), Balancer(LinkEstimate(1e-7, 0.02)))
    world.options = Network("small", SLICES, CLOUD, MOVED, raw_may_leave=True).options()
    world.run([Request(1.0, 1.0)])
    assert world.raw_sent_forbidden == 1


def test_when_a_link_dies_for_good_every_request_is_still_answered() -> None:
    dead = Trace("dead", [(2.0, 4e6), (1e6, 0.0)], 0.02)
    network = Network("small", SLICES, CLOUD, MOVED)
    requests = [Request(float(at), 1.0) for at in range(40)]
    latencies = World(network, dead, Balancer(LinkEstimate(1e-6, 0.02))).run(requests)
    assert [request.answers for request in requests] == [1] * 40
    assert requests[1].by != "local"
    assert {request.by for request in requests[2:]} == {"local"}
    assert max(latencies) < 2 * sum(SLICES)


def test_a_trace_carries_what_it_says() -> None:
    trace = Trace("t", [(1.0, 100.0), (1.0, 0.0), (2.0, 50.0)], 0.0)
    assert [trace.moved(at) for at in (0, 0.5, 1, 1.9, 3, 4, 4.5)] == [0, 50, 100, 100, 150, 200, 250]
    assert trace.finishes(0.5, 50) == 1.0
    assert trace.finishes(0.5, 60) == pytest.approx(2.2)
    assert trace.finishes(1.5, 100) == pytest.approx(4.0)
    assert trace.finishes(3.0, 150) == pytest.approx(5.0)
    assert trace.finishes(0.0, 2000) == pytest.approx(40.0)


def test_requests_wait_for_processor_and_link() -> None:
    trace = Trace("t", [(100.0, 100.0)], 0.1)
    split = Option("split", 1, 2.0, 3.0, 0.5, 100.0)
    assert finish(Request(1.0, 1.0), split, trace, 0.0, 0.0) == (pytest.approx(4.6), 3.0, pytest.approx(4.0))
    assert finish(Request(1.0, 2.0), split, trace, 4.0, 9.0) == (
        pytest.approx(11.1),
        6.0,
        pytest.approx(10.0),
    )
    assert finish(Request(1.0, 1.0), Option("local", 2, 5.0), trace, 2.0, 9.0) == (7.0, 7.0, 9.0)


def test_arrivals_are_as_many_as_asked_for() -> None:
    trace = Trace("t", [(1000.0, 1.0)], 0.0)
    found = list(arrivals(trace, 2.0, 1, rounds=3))
    assert 5500 < len(found) < 6500
    assert found[-1].arrives < 3000


def test_recorded_links_have_outages_and_say_where_they_are_from() -> None:
    found = {trace.name: trace for trace in recorded()}
    assert len(found) == 4
    for trace in found.values():
        assert len(trace.steps) >= 230
        assert min(rate for _, rate in trace.steps) <= 20_000
        assert trace.latency_seconds in (0.02, 0.1)
