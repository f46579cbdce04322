"""What a rig draws while it trains, by counters as the kernel and NVML have them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from recorded import Nvml, NVMLError
from rig_world import World
from test_agent import StageRunner, succeed

from isthmus.adapters.local.queue import ManualClock
from isthmus.rig.agent import Agent
from isthmus.rig.discover import Machine, describe
from isthmus.rig.power import REMEMBERED_SECONDS, joules, keep, measured_watts

RANGE = 262_143_328_850


def zone(root: Path, name: str, kind: str, microjoules: int) -> Path:
    folder = root / "sys/class/powercap" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{kind}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


@dataclasses.dataclass
class Volta(Nvml):
    """Cards that tell their energy, in millijoules; None: this one does not."""

    millijoules: list[int | None] = dataclasses.field(default_factory=list)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.millijoules)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        told = self.millijoules[handle]
        if told is None:
            raise NVMLError("Not Supported")
        return told


def test_packages_and_their_memory_count_and_nothing_twice(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 1_000_000)
    core = zone(tmp_path, "intel-rapl:0:0", "core", 0)
    whole = zone(tmp_path, "intel-rapl:1", "psys", 0)
    count = joules(tmp_path, None)
    assert count is not None
    assert count() == 0
    for file, microjoules in ((package, 8_000_000), (memory, 1_500_000), (core, 10**9), (whole, 10**9)):
        file.write_text(str(microjoules))
    assert count() == pytest.approx(3.5)


def test_a_counter_that_comes_round_goes_on(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 2_000_000)
    count = joules(tmp_path, None)
    assert count is not None
    file.write_text("3000000")
    assert count() == pytest.approx(5.0)
    file.write_text("4000000")
    assert count() == pytest.approx(6.0)
    file.unlink()
    assert count() == pytest.approx(6.0), "a counter that is gone stands still"


def test_gpus_count_from_now_on(tmp_path: Path) -> None:
    bindings = Volta(millijoules=[10_000, 20_000])
    count = joules(tmp_path, bindings)
    assert count is not None
    bindings.millijoules = [12_000, 25_000]
    assert count() == pytest.approx(7.0)
    assert bindings.opened == 0
    bindings.driver = None
    assert count() == 0


@pytest.mark.parametrize("bindings", [None, Volta(millijoules=[1, None]), Volta(), Volta(driver=None)])
def test_nothing_is_measured_where_nothing_tells(tmp_path: Path, bindings: Volta | None) -> None:
    assert joules(tmp_path, bindings) is None


def test_the_mean_is_over_the_last_trainings(tmp_path: Path) -> None:
    assert measured_watts(tmp_path) == 0
    keep(tmp_path, 1000.0, 10.0)
    assert measured_watts(tmp_path) == 100
    keep(tmp_path, 6000.0, 30.0)
    assert measured_watts(tmp_path) == 175
    keep(tmp_path, 300 * 2 * REMEMBERED_SECONDS, 2 * REMEMBERED_SECONDS)
    keep(tmp_path, 100 * REMEMBERED_SECONDS, REMEMBERED_SECONDS)
    assert measured_watts(tmp_path) == pytest.approx(200, abs=1), "a day weighs as much as the next one"
    keep(tmp_path, 0.0, 10.0)
    (tmp_path / "power.json").write_text("{")
    assert measured_watts(tmp_path) == 0


def test_an_agent_measures_its_trainings_and_the_machine_is_described_with_it(world: World) -> None:
    clock, taken = ManualClock(), [500.0]
    settings = dataclasses.replace(world.settings, joules=lambda: taken[0])
    services = dataclasses.replace(world.services, clock=clock)

    def play(request: object, stop: object) -> int:
        clock.sleep(10.0)
        taken[0] = 2500.0
        return succeed(request, stop)  # type: ignore[arg-type]

    world.put_job({"train.py": ""})
    world.send()
    Agent(settings, services, StageRunner(play), world.report).step()
    assert measured_watts(settings.folder) == 200
    nobody = Machine(world.folder, affinity=1, nvml=None, engine=None)
    (world.folder / "proc").mkdir()
    (world.folder / "proc/meminfo").write_text("MemTotal: 1024 kB\n")
    (world.folder / "proc/cpuinfo").write_text("flags : sse\n")
    found = describe("rig-1", zone="z", folder=settings.folder, now=0.0, machine=nobody)
    assert found.measured_watts == 200
