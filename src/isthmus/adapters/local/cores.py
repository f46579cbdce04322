"""``CoreRegistry`` and ``FleetView`` in memory."""

from __future__ import annotations

from isthmus.adapters.local.certificates import MemoryCertificates
from isthmus.errors import Refused
from isthmus.model.core_device import CoreDevice, CorePlace
from isthmus.ports import Certificates

PLACE = CorePlace(
    partition="aws",
    region="eu-west-1",
    account="000000000000",
    data="data.example",
    credentials="credentials.example",
)


class MemoryCores:
    """``policies``: by device; ``group``: whether each device is a canary; ``reported``, ``asked``: what a view
    shows of devices, and of the latest deployment."""

    def __init__(self, place: CorePlace = PLACE) -> None:
        self.policies: dict[str, str] = {}
        self.group: dict[str, bool] = {}
        self.reported: dict[str, CoreDevice] = {}
        self.asked: dict[bool, dict[str, str]] = {}
        self.given = MemoryCertificates(place.credentials)
        self._place = place

    def place(self) -> CorePlace:
        return self._place

    def grant(self, device: str, policy: str) -> None:
        self.policies[device] = policy

    def certificates(self, device: str) -> Certificates:
        return self.given

    def admit(self, device: str, *, canary: bool | None = None) -> None:
        if not self.given.of(device):
            raise Refused(f"there is no thing {device}")
        self.group[device] = self.group.get(device, False) if canary is None else canary

    def members(self) -> dict[str, bool]:
        return {name: self.group[name] for name in sorted(self.group)}

    def expel(self, device: str) -> None:
        self.group.pop(device, None)
        self.policies.pop(device, None)
        self.reported.pop(device, None)

    def devices(self) -> list[CoreDevice]:
        found = (entry for name, entry in self.reported.items() if name in self.group)
        return sorted(
            (
                CoreDevice(
                    name=entry.name,
                    status=entry.status,
                    last_seen=entry.last_seen,
                    nucleus=entry.nucleus,
                    architecture=entry.architecture,
                )
                for entry in found
            ),
            key=lambda entry: entry.name,
        )

    def device(self, name: str) -> CoreDevice | None:
        return self.reported.get(name)

    def wanted(self, *, canary: bool) -> dict[str, str]:
        return dict(self.asked.get(canary, {}))
