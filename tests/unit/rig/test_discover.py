from __future__ import annotations

from pathlib import Path

from isthmus import documents
from isthmus.model.device import DeviceDescriptor
from isthmus.rig.discover import describe


def test_this_machine_is_described_and_the_description_is_a_document(tmp_path: Path) -> None:
    device = describe("rig-1", zone="onprem", folder=tmp_path / "rig", now=0.0, queue_url="https://queue")
    assert device.kind == "rig"
    assert device.cores >= 1
    assert device.memory_bytes > 2**20
    assert device.disk_free_bytes > 0
    assert device.frameworks["mxnet"] == ("1.9.1",)
    assert device.seen_at == "1970-01-01T00:00:00+00:00"
    assert documents.decode(DeviceDescriptor, documents.encode(device), "the descriptor") == device
