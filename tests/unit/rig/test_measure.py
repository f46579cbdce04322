from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from recorded import machine

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import EnvironmentProblem, PermissionMissing, Unavailable
from isthmus.model.device import DeviceDescriptor, Rate
from isthmus.rig.discover import Machine, describe
from isthmus.rig.measure import Measurer, link, memory_bandwidth

PROBE = "probes/rig-1"
RATES = {"*": Rate(bytes_per_second=1e9)}


class PacedStore(DirectoryBlobStore):
    """A bucket at the end of a line: each request takes its latency and its bytes, on a clock of its own."""

    def __init__(self, root: Path, latency: float, up: float, down: float) -> None:
        super().__init__(root)
        self.latency, self.up, self.down, self.now = latency, up, down, 0.0
        self.largest = 0

    def put(self, key: str, data: bytes, *, sha256: str | None = None) -> None:
        super().put(key, data, sha256=sha256)
        self.largest = max(self.largest, len(data))
        self.now += self.latency + len(data) / self.up

    def get(self, key: str, *, max_bytes: int) -> bytes:
        found = super().get(key, max_bytes=max_bytes)
        self.now += self.latency + len(found) / self.down
        return found


class Unreachable(DirectoryBlobStore):
    def __init__(self, root: Path, error: Exception) -> None:
        super().__init__(root)
        self._error = error

    def put(self, key: str, data: bytes, *, sha256: str | None = None) -> None:
        raise self._error


@pytest.fixture
def device(tmp_path: Path) -> DeviceDescriptor:
    found = Machine(machine(tmp_path / "machine", {}), affinity=8, nvml=None)
    return describe("rig-1", zone="z", folder=tmp_path / "rig", now=0.0, machine=found)


def rates(measured_at: str, report: Callable[[str], None]) -> dict[str, Rate]:
    report("measuring * (1 of 1)")
    return RATES


def copies(*, seconds: float) -> Callable[[], float]:
    """A clock by which whatever is timed takes as long."""
    times = iter(range(10**6))
    return lambda: next(times) * seconds


@pytest.mark.parametrize(("up", "down"), [(5e6, 25e6), (40e6, 10e6)])
def test_the_link_is_that_of_the_slower_direction(up: float, down: float, tmp_path: Path) -> None:
    store = PacedStore(tmp_path, 0.030, up, down)
    found = link(store, PROBE, timer=lambda: store.now)
    assert (found.to, found.opens) == ("relay", True)
    assert found.latency_seconds == pytest.approx(0.030, rel=0.01)
    assert found.bytes_per_second == pytest.approx(min(up, down), rel=0.01)
    assert store.get(PROBE, max_bytes=0) == b"", "it leaves nothing behind but an empty object"


def test_over_a_slow_line_little_is_sent(tmp_path: Path) -> None:
    store = PacedStore(tmp_path, 0.2, 1e5, 1e5)
    assert link(store, PROBE, timer=lambda: store.now).bytes_per_second == pytest.approx(1e5, rel=0.02)
    assert store.largest == 256 * 1024


def test_a_link_faster_than_its_latency_tells_has_a_bandwidth_still(tmp_path: Path) -> None:
    store = PacedStore(tmp_path, 0.5, 1e12, 1e12)
    assert 0 < link(store, PROBE, timer=lambda: store.now).bytes_per_second < 1e12


def test_memory_bandwidth_counts_what_is_read_and_what_is_written() -> None:
    assert memory_bandwidth(2**20, timer=copies(seconds=0.5)) == pytest.approx(2 * 2**20 / 0.5)


def test_all_is_measured_with_progress(device: DeviceDescriptor, tmp_path: Path) -> None:
    said: list[str] = []
    store = PacedStore(tmp_path / "bucket", 0.01, 1e7, 1e7)
    measurer = Measurer(
        store,
        PROBE,
        report=said.append,
        root=tmp_path / "machine",
        calibrate=rates,
        timer=copies(seconds=0.01),
    )
    found = measurer.measured(device)
    assert found.not_measured == {}
    assert found.rates == RATES
    assert found.memory_bandwidth_bytes_per_second == pytest.approx(2 * 128 * 2**20 / 0.01)
    assert [entry.to for entry in found.links] == ["relay"]
    assert said == [
        "measuring the link to the region",
        "measuring memory bandwidth",
        "measuring rates by class of operators, about a minute",
        "measuring * (1 of 1)",
    ]


@pytest.mark.parametrize("error", [Unavailable("no route"), PermissionMissing("no right to probes/rig-1")])
def test_what_cannot_be_measured_is_left_out_with_its_reason(
    error: Exception, device: DeviceDescriptor, tmp_path: Path
) -> None:
    def refuse(measured_at: str, report: Callable[[str], None]) -> dict[str, Rate]:
        raise EnvironmentProblem("profiles need onnxruntime")

    said: list[str] = []
    found = Measurer(
        Unreachable(tmp_path, error), PROBE, report=said.append, calibrate=refuse, timer=copies(seconds=0.01)
    ).measured(device)
    assert found.not_measured == {"links": str(error), "rates": "profiles need onnxruntime"}
    assert (found.links, found.rates) == ((), {})
    assert f"links: not measured: {error}" in said


def test_nothing_is_measured_that_was_not_asked_for_or_has_no_room(
    device: DeviceDescriptor, tmp_path: Path
) -> None:
    small = msgspec.structs.replace(device, memory_bytes=256 * 2**20)
    found = Measurer(rates=False, root=tmp_path / "machine").measured(small)
    assert found.not_measured == {
        "links": "there is no stack to reach",
        "memory_bandwidth": "it needs 0.5 GiB of memory; there are 0.2 GiB",
        "rates": "not asked for",
    }
