"""The register of devices, kept in the table."""

from __future__ import annotations

import msgspec

from isthmus import documents
from isthmus.model import layout
from isthmus.model.device import DeviceDescriptor
from isthmus.ports import Records


class RegisteredDevices:
    """``ports.Devices`` on ``ports.Records``: one item per device, in one partition."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def register(self, device: DeviceDescriptor) -> None:
        descriptor = msgspec.to_builtins(device)
        self._records.put({"pk": layout.RIGS, "sk": device.id, "descriptor": descriptor})

    def get(self, name: str) -> DeviceDescriptor | None:
        item = self._records.get(layout.RIGS, name)
        if item is None:
            return None
        return documents.convert(DeviceDescriptor, item["descriptor"], f"the descriptor of {name}")

    def list(self) -> list[DeviceDescriptor]:
        return [
            documents.convert(DeviceDescriptor, item["descriptor"], f"the descriptor of {item['sk']}")
            for item in self._records.query(layout.RIGS)
        ]
