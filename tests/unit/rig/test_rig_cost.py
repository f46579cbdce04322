"""A rig's price per hour: reckoned from [cost] of rig.toml, or given in its place and shown as that."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import Nvml, machine
from test_rig_settings import written

from isthmus.cli.rig_device import shown
from isthmus.errors import InvalidDocument
from isthmus.model.device import DeviceDescriptor
from isthmus.model.own_cost import OwnCost
from isthmus.rig import settings
from isthmus.rig.discover import Machine, describe
from isthmus.rig.refresh import look_again

COST = """
zone = "onprem-milan"

[cost]
purchase_usd = 8760
life_years = 4
utilisation = 0.5
watts = 500
tariff_usd_per_kwh = 0.30
"""
RATE = 8760 / 4 / (8760 * 0.5) + 0.15


@pytest.fixture
def found(tmp_path: Path) -> Machine:
    return Machine(machine(tmp_path / "machine", {}), affinity=8, nvml=Nvml())


@pytest.fixture
def device(tmp_path: Path, found: Machine) -> DeviceDescriptor:
    return describe("rig-1", zone="z", folder=tmp_path / "rig", now=0.0, machine=found)


def test_the_price_comes_of_what_the_owner_says_it_costs(device: DeviceDescriptor, tmp_path: Path) -> None:
    priced = settings.apply(device, settings.read(written(tmp_path, COST)))
    assert priced.price_per_hour_usd == pytest.approx(RATE)
    assert priced.overrides == {}
    text = shown(priced)
    assert (
        "$0.65 an hour of use: $0.5 for the machine ($8760.00 over 4 years, in use 50% of them), "
        "$0.15 for energy at $0.3 a kWh" in text
    )
    assert "given" not in text


def test_a_given_price_overrides_it_and_is_shown_as_that(device: DeviceDescriptor, tmp_path: Path) -> None:
    priced = settings.apply(device, settings.read(written(tmp_path, f"price_per_hour_usd = 0.9\n{COST}")))
    assert priced.price_per_hour_usd == 0.9
    assert priced.overrides == {"price_per_hour_usd": pytest.approx(RATE)}
    assert "$0.9 (given, in place of the $0.65 that its cost makes)" in shown(priced)
    assert settings.undo(priced).price_per_hour_usd == pytest.approx(RATE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[cost]\npurchase_usd = 1", "cost: object missing required field `life_years`"),
        (COST.replace("0.5", "0"), r"cost.utilisation: expected `float` > 0"),
        (COST.replace("0.5", "1.5"), r"cost.utilisation: expected `float` <= 1"),
        (COST + "colour = 3", "cost: object contains unknown field `colour`"),
    ],
)
def test_what_cannot_be_reckoned_with_is_said(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InvalidDocument, match=sentence):
        settings.read(written(tmp_path, text))


def look(device: DeviceDescriptor, folder: Path, found: Machine) -> DeviceDescriptor:
    return look_again(device, folder=folder, now=1.0, measure=lambda one: one, machine=found)


def test_looking_again_keeps_it_and_follows_the_file(
    device: DeviceDescriptor, tmp_path: Path, found: Machine
) -> None:
    folder = tmp_path / "rig"
    priced = settings.apply(device, settings.read(written(tmp_path, COST)))
    without = look(priced, folder, found)
    assert (without.price_per_hour_usd, without.cost) == (pytest.approx(RATE), priced.cost)
    (folder / settings.FILE).write_text(COST.replace("watts = 500", "watts = 1000"))
    assert look(priced, folder, found).price_per_hour_usd == pytest.approx(RATE + 0.15)
    (folder / settings.FILE).write_text('zone = "onprem-milan"')
    assert look(priced, folder, found).price_per_hour_usd == 0.0


def test_a_price_that_was_given_at_the_join_stays(
    device: DeviceDescriptor, tmp_path: Path, found: Machine
) -> None:
    file = settings.read(written(tmp_path, COST))
    given = settings.merge(file, settings.RigFile(price_per_hour_usd=0.9))
    priced = settings.apply(device, given)
    folder = tmp_path / "rig"
    (folder / settings.FILE).write_text(COST)
    again = look(priced, folder, found)
    assert (again.price_per_hour_usd, again.overrides["price_per_hour_usd"]) == (0.9, pytest.approx(RATE))
    assert isinstance(again.cost, OwnCost)
