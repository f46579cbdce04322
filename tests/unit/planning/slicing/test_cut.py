"""The minimum cut equals trying every plan; its certificate is checked without a solver; what is no cut is said."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from slicing_instances import brute_force, dag
from sum_instances import any_links, best, line, tiers

from isthmus.errors import InvalidCase, NoPlan, PlanUnsound
from isthmus.planning.slicing import choose, cut, sums
from isthmus.planning.slicing.case import Graph, Signal, SumCase
from isthmus.planning.slicing.certificates import check_cut
from isthmus.planning.slicing.cut_network import build
from isthmus.planning.slicing.solution import CutCertificate
from isthmus.planning.slicing.verify import verify

FREE = np.inf


def tiered(graph: Graph, cost: list[list[float]], hops: list[float], **changes: object) -> SumCase:
    """Ordered tiers with additive links that cost ``hops`` per size, and nothing else."""
    m = len(hops) + 1
    links = np.array([[sum(hops[min(a, b) : max(a, b)]) for b in range(m)] for a in range(m)])
    case = SumCase(
        graph=graph,
        devices=tuple(f"d{k}" for k in range(m)),
        cost=np.array(cost, dtype=np.float64),
        memory_bytes=np.ones(len(cost)),
        capacity_bytes=np.full(m, FREE),
        link_fixed=np.zeros((m, m)),
        link_per_size=links,
        monotone=True,
    )
    return dataclasses.replace(case, **changes)  # type: ignore[arg-type]


def test_brute_force_on_arrays_is_the_verifiers() -> None:
    dice = random.Random(11)
    for _ in range(40):
        case = tiers(dice, tight=dice.random() < 0.5, monotone=dice.random() < 0.5)
        found = brute_force(case)
        assert best(case) == (pytest.approx(found[0], rel=1e-12) if found else np.inf)


@pytest.mark.parametrize("cases", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_tiered_cases_equal_brute_force(cases: int) -> None:
    dice = random.Random(12)
    exact = impossible = counted_once = 0
    for _ in range(cases):
        case = tiers(dice, monotone=dice.random() < 0.7)
        least = best(case)
        assert cut.applies(case) == ""
        if least == np.inf:
            impossible += 1
            with pytest.raises(NoPlan):
                cut.minimum_cut(case)
            continue
        found = cut.minimum_cut(case)
        assert verify(case, found) >= least * (1 - 1e-12)
        assert isinstance(found.certificate, CutCertificate)
        proven = check_cut(case, found.certificate)
        assert found.bound * (1 - 1e-12) <= proven <= least * (1 + 1e-12)
        if found.exact:
            exact += 1
            assert found.value == pytest.approx(least, rel=1e-9)
        else:
            counted_once += 1
            assert len(case.devices) > 2
            assert "counts a hop once" in found.given_up
    assert exact >= 0.9 * cases
    assert impossible >= 0.01 * cases
    assert counted_once >= 1


def test_two_devices_with_any_links_are_a_cut() -> None:
    dice = random.Random(13)
    tried = 0
    while tried < 100:
        case = any_links(dice)
        if len(case.devices) > 2 or best(case) == np.inf:
            continue
        tried += 1
        found = cut.minimum_cut(case)
        assert found.exact
        assert verify(case, found) == pytest.approx(best(case), rel=1e-9)


def test_a_signal_pays_a_hop_once_and_the_bound_says_so() -> None:
    graph = Graph(("a", "b", "c"), (Signal(0, (1, 2), 1.0),))
    case = tiered(graph, [[0, FREE, FREE], [9, 0, FREE], [9, FREE, 0]], [1.0, 1.0])
    found = cut.minimum_cut(case)
    assert (found.value, round(found.bound, 6), found.exact) == (3.0, 2.0, False)


def test_memory_is_left_out_and_said() -> None:
    case = tiered(line([1.0]), [[5, 1], [5, 1]], [1.0], capacity_bytes=np.array([FREE, 1.0]))
    found = cut.minimum_cut(case)
    assert not found.exact
    assert found.given_up == "the cut leaves out the memory of d1, and its plan does not keep it"
    assert found.bound == pytest.approx(2.0, rel=1e-9)


def test_extremes_of_scale_stay_exact() -> None:
    for factor in (1e-250, 1e-9, 1e12, 1e200):
        case = tiered(
            line([1.0, 2.0]), [[3 * factor, FREE], [7 * factor, factor], [9 * factor, factor]], [factor]
        )
        found = cut.minimum_cut(case)
        assert found.exact
        assert found.value == pytest.approx(6 * factor, rel=1e-12)


def test_nothing_to_choose_costs_what_it_costs() -> None:
    assert cut.minimum_cut(tiered(line([1.0]), [[2.0], [3.0]], [])).value == 5.0
    zero = cut.minimum_cut(tiered(line([0.0]), [[0, 0], [0, 0]], [0.0]))
    assert (zero.value, zero.exact) == (0.0, True)


def test_a_tier_between_that_may_not_be_used_is_passed_by() -> None:
    case = tiered(line([1.0, 1.0]), [[1, FREE, 9], [9, FREE, 1], [9, 9, 1]], [1.0, 1.0])
    assert cut.minimum_cut(case).device_of(3) == (0, 2, 2)


def test_many_pinned_operators_do_not_overflow() -> None:
    n = 600
    cost = [[1.0, FREE] if v < n // 2 else [FREE, 1.0] for v in range(n)]
    found = cut.minimum_cut(tiered(line([1.0] * (n - 1)), cost, [2.0]))
    assert found.exact
    assert found.value == n + 2.0


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ([[0, 1, 1.5], [1, 0, 1], [1.5, 1, 0]], "between d0 and d2"),
        ([[0, FREE, 3], [FREE, 0, 1], [3, 1, 0]], "between d0 and d2"),
    ],
)
def test_links_that_no_hops_add_up_to_are_no_cut(links: list[list[float]], said: str) -> None:
    case = tiered(line([1.0]), [[1, 1, 1], [1, 1, 1]], [1.0, 1.0], link_per_size=np.array(links))
    assert said in cut.applies(case)
    with pytest.raises(InvalidCase, match=said):
        cut.minimum_cut(case)


def test_a_direct_link_dearer_than_its_hops_is_a_cut() -> None:
    links = np.array([[0, 1, 5.0], [FREE, 0, 1], [FREE, FREE, 0]])
    case = tiered(line([1.0]), [[1, 9, 9], [9, 9, 3]], [1.0, 1.0], link_per_size=links)
    assert cut.applies(case) == ""
    assert cut.minimum_cut(case).value == best(case)


def test_energy_or_dollars_are_the_same_with_other_numbers() -> None:
    dice = random.Random(14)
    for unit, scale in (("J/1000 requests", 3600.0), ("USD/1000 requests", 4e-7)):
        case = tiers(dice)
        other = dataclasses.replace(case, cost=case.cost * scale, link_fixed=case.link_fixed * 0, unit=unit)
        assert cut.minimum_cut(other).value == pytest.approx(best(other), rel=1e-9)


def certified() -> tuple[SumCase, CutCertificate]:
    dice = random.Random(15)
    case = tiers(dice)
    while (
        len(case.devices) < 3
        or best(case) == np.inf
        or not any(len(s.consumers) > 1 for s in case.graph.signals)
    ):
        case = tiers(dice)
    certificate = cut.minimum_cut(case).certificate
    assert isinstance(certificate, CutCertificate)
    return case, certificate


def test_a_forged_certificate_is_refused() -> None:
    case, right = certified()
    busy = int(right.flow.argmax())
    bump = np.zeros_like(right.flow)
    bump[busy] = 1
    forged = {
        "carries": dataclasses.replace(right, flow=right.capacity + bump),
        "keeps": dataclasses.replace(right, flow=right.flow - bump),
        "power of two": dataclasses.replace(right, scale=right.scale * 0.75),
        "stands for nothing": dataclasses.replace(
            right, arcs=np.where(right.arcs > 1, right.arcs + 1000, right.arcs)
        ),
    }
    for said, wrong in forged.items():
        with pytest.raises(PlanUnsound, match=said):
            check_cut(case, wrong)


def test_a_flow_that_proves_half_of_a_small_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    case = tiered(line([1.0, 1.0]), [[2e-10, FREE], [2e-10, 1e-10], [FREE, 1e-10]], [1e-10])
    right = choose.solve(case, time_limit_seconds=1)
    assert isinstance(right.certificate, CutCertificate)
    half = dataclasses.replace(right.certificate, scale=right.certificate.scale * 2)
    forged = dataclasses.replace(right, certificate=half)
    monkeypatch.setattr(sums, "best", lambda case, time_limit_seconds: forged)
    with pytest.raises(PlanUnsound, match="its flow proves"):
        choose.solve(case, time_limit_seconds=1)


def test_arcs_wider_than_the_case_allows_are_refused() -> None:
    case, right = certified()
    dearer = dataclasses.replace(case, link_per_size=case.link_per_size * 3)
    certificate = cut.minimum_cut(dearer).certificate
    assert isinstance(certificate, CutCertificate)
    with pytest.raises(PlanUnsound, match="cost more than"):
        check_cut(case, dataclasses.replace(certificate, scale=right.scale))


def test_a_certificate_of_a_dearer_placing_proves_no_more() -> None:
    case, _ = certified()
    dearer = dataclasses.replace(case, cost=case.cost * 4)
    certificate = cut.minimum_cut(dearer).certificate
    assert isinstance(certificate, CutCertificate)
    assert check_cut(case, certificate) <= best(case)


def test_a_flow_from_the_sink_cuts_as_one_from_the_source() -> None:
    dice = random.Random(17)
    turned = 0
    for _ in range(100):
        case = tiers(dice, monotone=dice.random() < 0.7)
        if best(case) == np.inf:
            continue
        network = build(case)
        one, other = (cut.maximum_flow(dataclasses.replace(network, backward=way)) for way in (False, True))
        assert one.value == other.value
        for found in (one, other):
            leaving = found.on_source_side[network.tail] & ~found.on_source_side[network.head]
            assert network.capacity[leaving].sum() == found.value
            certificate = CutCertificate(network.arcs.T, network.capacity, found.flow, network.scale)
            assert check_cut(case, certificate) <= best(case) * (1 + 1e-12)
        turned += network.backward
    assert 10 <= turned <= 90


def test_a_large_graph_equals_the_sum_of_its_halves() -> None:
    dice = random.Random(16)
    half = dag(dice, 40)
    doubled = Graph(
        half.names + tuple(f"{name}'" for name in half.names),
        half.signals
        + tuple(Signal(s.producer + 40, tuple(c + 40 for c in s.consumers), s.size) for s in half.signals),
    )
    cost = [[dice.uniform(1, 9), dice.uniform(1, 9)] for _ in range(40)]
    one, two = tiered(half, cost, [0.2]), tiered(doubled, cost * 2, [0.2])
    assert cut.minimum_cut(two).value == pytest.approx(2 * cut.minimum_cut(one).value, rel=1e-9)
