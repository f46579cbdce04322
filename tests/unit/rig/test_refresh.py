from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from recorded import BROADWELL, Nvml, machine

from isthmus.adapters.local.queue import ManualClock
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import InvalidDocument, Unavailable
from isthmus.model.device import DeviceDescriptor, Link, Rate
from isthmus.rig.discover import Machine, discover
from isthmus.rig.refresh import DAY_SECONDS, Refresher, differs, machine_digest
from isthmus.rig.settings import FILE, RigFile
from isthmus.workflows.devices import RegisteredDevices

MEASURED: dict[str, Any] = {
    "rates": {"*": Rate(bytes_per_second=2e9)},
    "links": (Link(to="relay", bytes_per_second=1e7),),
    "memory_bandwidth_bytes_per_second": 1e10,
}
SETTINGS = RigFile(zone="onprem-milan", price_per_hour_usd=0.5)


class CountedDevices(RegisteredDevices):
    def __init__(self) -> None:
        super().__init__(MemoryRecords())
        self.registered = 0
        self.offline = False

    def register(self, device: DeviceDescriptor) -> None:
        if self.offline:
            raise Unavailable("no route")
        self.registered += 1
        super().register(device)


@dataclass
class Joined:
    """A machine that joined, and may change."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    devices: CountedDevices = field(default_factory=CountedDevices)
    nvml: Nvml = field(default_factory=Nvml)
    affinity: int = 8
    measured: int = 0
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        machine(self.folder / "machine", {})
        (self.folder / "rig").mkdir()
        device = discover(
            "rig-1",
            SETTINGS,
            folder=self.folder / "rig",
            now=self.clock.now(),
            queue_url=lambda: "https://queue",
            measure=self.measure,
            machine=self.machine,
        )
        self.devices.register(device)

    @property
    def machine(self) -> Machine:
        return Machine(self.folder / "machine", affinity=self.affinity, nvml=self.nvml, engine=None)

    @property
    def now_registered(self) -> DeviceDescriptor:
        found = self.devices.get("rig-1")
        assert found is not None
        return found

    def measure(self, device: DeviceDescriptor) -> DeviceDescriptor:
        self.measured += 1
        return msgspec.structs.replace(device, **MEASURED)

    def refresher(self) -> Refresher:
        """As an agent has it that starts now."""
        return Refresher(
            self.now_registered,
            folder=self.folder / "rig",
            devices=self.devices,
            clock=self.clock,
            measure=self.measure,
            report=lambda event, **fields: self.events.append((event, fields)),
            machine=self.machine,
        )


@pytest.fixture
def joined(tmp_path: Path) -> Joined:
    return Joined(tmp_path)


def test_an_unchanged_machine_is_neither_registered_nor_measured_again(joined: Joined) -> None:
    before = joined.now_registered
    joined.clock.sleep(3600)
    assert joined.refresher().refresh() == before
    assert (joined.devices.registered, joined.measured, joined.events) == (1, 1, [])


def test_changed_hardware_is_registered_and_measured_again(joined: Joined) -> None:
    before = joined.now_registered
    joined.nvml.cards.append(("NVIDIA L4", 24152899584, (8, 9)))
    found = joined.refresher().refresh()
    assert [gpu.model for gpu in found.accelerators] == ["NVIDIA L4"]
    assert joined.now_registered == found
    assert joined.measured == 2
    fields = "accelerators,features,frameworks,unfit_frameworks"
    assert joined.events == [("device changed", {"rig": "rig-1", "fields": fields})], (
        "its driver is an old one"
    )
    assert (found.zone, found.price_per_hour_usd, found.queue_url) == ("onprem-milan", 0.5, "https://queue")
    assert machine_digest(found) != machine_digest(before)


def test_a_changed_file_is_registered_and_nothing_measured(joined: Joined) -> None:
    (joined.folder / "rig" / FILE).write_text("cores = 2\nprice_per_hour_usd = 0.75\n")
    found = joined.refresher().refresh()
    assert (found.cores, found.overrides, found.price_per_hour_usd) == (2, {"cores": 8}, 0.75)
    assert found.rates == MEASURED["rates"]
    assert (joined.devices.registered, joined.measured) == (2, 1)
    joined.refresher().refresh()
    assert joined.devices.registered == 2, "it stays overridden"
    (joined.folder / "rig" / FILE).unlink()
    joined.refresher().refresh()
    assert joined.devices.registered == 2, "the agent of another GPU has no file in its folder"
    (joined.folder / "rig" / FILE).write_text("")
    found = joined.refresher().refresh()
    assert (found.cores, found.overrides) == (8, {}), "what was discovered is back"


def test_data_roots_are_those_whose_folders_are_there(joined: Joined) -> None:
    file, scans = joined.folder / "rig" / FILE, joined.folder / "scans"
    file.write_text(f'data_roots = {{clinic = "{scans}"}}\n')
    found = joined.refresher().refresh()
    assert (found.data_roots, found.not_measured["data root clinic"]) == ((), "its folder is not there")
    scans.mkdir()
    found = joined.refresher().refresh()
    assert (found.data_roots, found.not_measured, found.overrides) == (("clinic",), {}, {})
    assert joined.now_registered == found
    file.unlink()
    assert joined.refresher().refresh().data_roots == ("clinic",), "the agent of another GPU has no file"
    file.write_text("")
    assert joined.refresher().refresh().data_roots == ()


def test_an_override_does_not_hide_that_the_machine_changed(joined: Joined) -> None:
    (joined.folder / "rig" / FILE).write_text("cores = 2\nmemory_bandwidth_bytes_per_second = 5e9\n")
    joined.refresher().refresh()
    joined.affinity = 4
    found = joined.refresher().refresh()
    assert (found.cores, found.overrides["cores"]) == (2, 4)
    assert found.overrides["memory_bandwidth_bytes_per_second"] == 1e10
    assert joined.measured == 2


def test_changed_software_decides_over_rates_too(joined: Joined) -> None:
    before = joined.now_registered
    joined.devices.register(msgspec.structs.replace(before, software={**before.software, "kernel": "5.0"}))
    joined.refresher().refresh()
    assert joined.measured == 2


def test_features_are_looked_at_as_well(joined: Joined) -> None:
    machine(joined.folder / "machine", {}, cpuinfo=BROADWELL)
    assert joined.refresher().refresh().features == ("avx2",)


def test_it_looks_once_a_day_at_most(joined: Joined) -> None:
    refresher = joined.refresher()
    refresher.refresh()
    joined.nvml.cards.append(("NVIDIA L4", 24152899584, (8, 9)))
    joined.clock.sleep(DAY_SECONDS - 1)
    refresher.if_due()
    assert joined.devices.registered == 1
    joined.clock.sleep(1)
    refresher.if_due()
    refresher.if_due()
    assert joined.devices.registered == 2
    assert refresher.device == joined.now_registered


def test_what_the_table_does_not_take_is_reported_and_registered_the_next_time(joined: Joined) -> None:
    refresher = joined.refresher()
    joined.devices.offline = True
    joined.nvml.cards.append(("NVIDIA L4", 24152899584, (8, 9)))
    found = refresher.refresh()
    assert [gpu.model for gpu in found.accelerators] == ["NVIDIA L4"], "the agent works with what there is"
    assert joined.events == [("device not registered", {"rig": "rig-1", "error": "no route"})]
    joined.devices.offline = False
    joined.clock.sleep(DAY_SECONDS)
    refresher.if_due()
    assert joined.now_registered.accelerators == found.accelerators


def test_a_file_that_cannot_be_used_stops_a_start_but_no_agent_that_works(joined: Joined) -> None:
    refresher = joined.refresher()
    (joined.folder / "rig" / FILE).write_text("corse = 2\n")
    with pytest.raises(InvalidDocument, match="did you mean cores"):
        refresher.refresh()
    joined.clock.sleep(DAY_SECONDS)
    refresher.if_due()
    assert [event for event, _ in joined.events] == ["device not looked at"]


def test_a_little_disk_space_is_no_change(joined: Joined) -> None:
    one = msgspec.structs.replace(joined.now_registered, disk_free_bytes=100_000)
    assert not differs(one, msgspec.structs.replace(one, disk_free_bytes=90_001))
    assert differs(one, msgspec.structs.replace(one, disk_free_bytes=89_000))


def test_what_joined_under_an_earlier_version_is_brought_up_to_date(joined: Joined) -> None:
    now = joined.now_registered
    old = DeviceDescriptor(
        id=now.id,
        kind="rig",
        zone="onprem-milan",
        arch=now.arch,
        cores=8,
        memory_bytes=now.memory_bytes,
        disk_free_bytes=now.disk_free_bytes,
        frameworks=now.frameworks,
        software={"isthmus": "0.2.0"},
        queue_url="https://queue",
    )
    joined.devices.register(old)
    found = joined.refresher().refresh()
    assert (found.links, found.queue_url) == (MEASURED["links"], "https://queue")
    assert found.features
