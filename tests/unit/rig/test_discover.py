from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import msgspec
import pytest
from recorded import GRAVITON_2, MEMORY_BYTES, Nvml, machine

from isthmus import documents
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import InvalidInput
from isthmus.model.device import DeviceDescriptor, device_schema
from isthmus.rig.discover import Machine, describe, discover
from isthmus.rig.measure import Measurer
from isthmus.rig.settings import RigFile
from isthmus.workflows.devices import RegisteredDevices

SCHEMA = Path(__file__).parents[3] / "docs/schemas/device.schema.json"
OF_VERSION_0_2 = {
    "schema": "isthmus/device/1",
    "id": "rig-1",
    "kind": "rig",
    "zone": "onprem-milan",
    "arch": "x86_64",
    "cores": 16,
    "memory_bytes": 67108864,
    "disk_free_bytes": 1073741824,
    "accelerators": [{"model": "RTX 4090", "memory_bytes": 25757220864, "driver": "550.54"}],
    "frameworks": {"mxnet": ["1.9.1"]},
    "usage": ["training"],
    "software": {"isthmus": "0.2.0", "python": "3.13.0", "kernel": "6.1.0"},
    "queue_url": "https://queue",
    "seen_at": "2026-11-22T12:00:00+00:00",
}


def unmeasured(device: DeviceDescriptor) -> DeviceDescriptor:
    return device


def no_queue() -> str:
    raise AssertionError("only a rig has a queue")


def test_a_recorded_machine_is_described(tmp_path: Path) -> None:
    nvml = Nvml([("NVIDIA A100-SXM4-40GB", 42949672960, (8, 0))])
    found = describe(
        "rig-1",
        zone="onprem",
        folder=tmp_path / "rig",
        now=0.0,
        queue_url="https://queue",
        machine=Machine(machine(tmp_path / "machine", {}), affinity=3, nvml=nvml),
    )
    assert (found.cores, found.memory_bytes) == (3, MEMORY_BYTES)
    assert found.features == ("avx2", "avx512", "bf16", "fp16", "vnni"), "fp16 is the GPU's"
    assert [gpu.model for gpu in found.accelerators] == ["NVIDIA A100-SXM4-40GB"]
    assert found.frameworks["mxnet"] == ("1.9.1",)
    assert found.usage == ("training",)
    assert found.disk_free_bytes > 0
    assert found.seen_at == "1970-01-01T00:00:00+00:00"


def test_software_is_named_with_versions_and_only_if_it_can_be_imported(tmp_path: Path) -> None:
    found = describe("rig-1", zone="z", folder=tmp_path, now=0.0).software
    assert found["python"] == platform.python_version()
    assert found["kernel"] == platform.release()
    assert {"isthmus", "onnxruntime", "numpy", "onnx"} <= set(found)
    assert "mxnet" not in found, "it is in the training environments alone"


def test_a_driver_that_nobody_can_ask_is_said(tmp_path: Path) -> None:
    root = machine(tmp_path / "machine", {})
    (root / "proc/driver/nvidia").mkdir(parents=True)
    (root / "proc/driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.127.05\n"
    )

    def found(nvml: Nvml | None) -> dict[str, str]:
        there = Machine(root, affinity=8, nvml=nvml)
        device = describe("rig-1", zone="z", folder=tmp_path / "rig", now=0.0, machine=there)
        too_small = msgspec.structs.replace(device, memory_bytes=0)
        return Measurer(rates=False, root=root).measured(too_small).not_measured

    assert "pip install nvidia-ml-py" in found(None)["accelerators"]
    assert "accelerators" not in found(Nvml())


def test_an_edge_device_is_described_by_the_same_code(tmp_path: Path) -> None:
    found = discover(
        "shop-12",
        RigFile(zone="edge-shop-12", kind="edge", price_per_hour_usd=0.01, power_watts=6),
        folder=tmp_path / "edge",
        now=0.0,
        queue_url=no_queue,
        measure=unmeasured,
        machine=Machine(machine(tmp_path / "machine", {}, cpuinfo=GRAVITON_2), affinity=4, nvml=None),
    )
    assert (found.kind, found.usage, found.queue_url, found.frameworks) == ("edge", ("inference",), "", {})
    assert (found.features, found.power_watts, found.price_per_hour_usd) == (("fp16", "neon"), 6, 0.01)
    assert found.overrides == {}, "what nobody discovers is given, and overrides nothing"


def test_without_a_zone_nothing_is_described(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"needs the zone .* give --zone, or `zone` in rig\.toml"):
        discover("rig-1", RigFile(), folder=tmp_path, now=0.0, queue_url=no_queue, measure=unmeasured)


def test_a_descriptor_of_an_earlier_version_is_read() -> None:
    found = documents.decode(DeviceDescriptor, json.dumps(OF_VERSION_0_2), "the descriptor")
    assert (found.id, found.cores, found.overrides, found.not_measured) == ("rig-1", 16, {}, {})
    assert found.accelerators[0].compute_capability == ""


def test_the_descriptors_schema_in_the_documentation_is_current() -> None:
    written = json.loads(SCHEMA.read_text())
    current = json.loads(json.dumps(device_schema()))
    assert written == current, "write it anew: isthmus rig schema > docs/schemas/device.schema.json"
    assert written["$defs"]["DeviceDescriptor"]["properties"]["schema"]["enum"] == ["isthmus/device/1"]


@pytest.mark.slow
def test_this_very_machine_is_discovered_measured_and_registered(tmp_path: Path) -> None:
    """All of it, but for most classes of operators, which take the most of a minute."""

    def some_rates(measured_at: str, report: Any) -> Any:
        from isthmus.frameworks.onnx.calibrate import calibrate

        return calibrate(("copy", "softmax"), rounds=2, passes=1, measured_at=measured_at, report=report)

    said: list[str] = []
    measurer = Measurer(
        DirectoryBlobStore(tmp_path / "bucket"), "probes/here", report=said.append, calibrate=some_rates
    )
    found = discover(
        "here",
        RigFile(zone="here", cores=1),
        folder=tmp_path / "rig",
        now=0.0,
        queue_url=lambda: "https://queue",
        measure=measurer.measured,
    )
    assert found.not_measured == {}
    assert found.cores == 1
    assert found.memory_bytes > 2**28
    assert found.memory_bandwidth_bytes_per_second > 1e8
    assert found.links[0].bytes_per_second > 1e5
    assert {"copy", "softmax", "run", "*"} <= set(found.rates)
    assert all(row[-1] > 0 for row in found.rates["softmax"].samples)
    assert any(line.startswith("measuring softmax") for line in said)
    register = RegisteredDevices(MemoryRecords())
    register.register(found)
    assert register.get("here") == found
    assert documents.decode(DeviceDescriptor, documents.encode(found), "the descriptor") == found
