"""What growth is measured on: networks of the asked size, devices that can reach each other, and the drawing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import generated, plan_growth
from isthmus.planning.slicing.links import routes


@pytest.mark.parametrize("family", generated.FAMILIES)
def test_networks_have_as_many_operators_as_asked_each_after_what_it_reads(family: str) -> None:
    network = generated.network(family, 137)
    assert len(network.operators) == 137
    made = set(network.inputs)
    for operator in network.operators:
        assert set(operator.inputs) <= made
        made |= set(operator.outputs)
    assert network.outputs
    assert network == generated.network(family, 137)
    assert network != generated.network(family, 137, seed=1)


@pytest.mark.parametrize(("count", "zones", "expected"), [(4, 3, 2), (5, 3, 3), (8, 1, 1)])
def test_devices_stand_in_zones_and_reach_each_other(count: int, zones: int, expected: int) -> None:
    found = generated.devices(count, zones=zones)
    assert len({device.id for device in found}) == count
    assert len({device.zone for device in found}) == expected
    assert all(way.transport for row in routes(found) for way in row)


def test_the_grid_has_every_corner_and_every_objective() -> None:
    every = list(plan_growth.cases(quick=False))
    assert {case.kind.partition(",")[0] for case in every} == {"latency", "throughput", "step"}
    corners = {(case.operators, case.devices) for case in every}
    assert {(100, 2), (100, 64), (5000, 2), (5000, 64)} <= corners
    assert any(case.tight for case in every)
    assert len(list(plan_growth.cases(quick=True))) < len(every) / 5


def test_a_case_is_planned_and_drawn(tmp_path: Path) -> None:
    row = plan_growth.planned(plan_growth.Case("latency", "residual", 30, 2, False, False, 4.0))
    assert row["exact"]
    assert row["given_up"] == ""
    plan_growth.draw([row], tmp_path / "growth")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert "2 devices" in (tmp_path / "growth.svg").read_text()
