"""Looks at a joined machine again, and registers it again when it is not what it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import InvalidInput, PermissionMissing, Unavailable
from isthmus.model.device import DeviceDescriptor
from isthmus.ports import Clock, Devices
from isthmus.rig import settings
from isthmus.rig.discover import ACCELERATORS, Machine, describe

Measure = Callable[[DeviceDescriptor], DeviceDescriptor]
DAY_SECONDS = 86400
DISK_TOLERANCE = 0.1
"""Free space always moves a little; what counts is a change by more than this part."""
DECIDES_RATES = ("arch", "cores", "memory_bytes", "accelerators", "features", "software")
"""What measured rates depend on: as long as it is the same they are not measured again."""


def machine_digest(device: DeviceDescriptor) -> str:
    """Return the SHA-256 (hex) of the hardware and software as they were discovered, whatever overrides them."""
    found = msgspec.to_builtins(settings.undo(device))
    return documents.digest({name: found[name] for name in DECIDES_RATES})


def look_again(
    registered: DeviceDescriptor,
    *,
    folder: Path,
    now: float,
    measure: Measure,
    machine: Machine | None = None,
) -> DeviceDescriptor:
    """Return the descriptor as it is now: the cheap parts found anew, ``rig.toml`` read again if it is there.

    What was given when it joined, and what was measured, is carried over; ``measure`` is called when hardware or
    software changed.

    Raises:
        InvalidDocument: ``rig.toml`` cannot be used.
    """
    before, file = settings.undo(registered), _said(registered, folder)
    found = describe(
        before.id,
        zone=before.zone,
        folder=folder,
        now=now,
        kind=file.kind or before.kind,
        queue_url=before.queue_url,
        # What [cost] made of it goes with [cost].
        price_per_hour_usd=0.0 if before.cost else before.price_per_hour_usd,
        power_watts=before.power_watts,
        machine=machine,
    )
    carried = ["usage", "unsupported", "rates", "links", "memory_bandwidth_bytes_per_second"]
    found_anew: tuple[str, ...] = (ACCELERATORS,)
    if (folder / settings.FILE).is_file():
        found_anew += (settings.DATA_ROOT,)
    else:
        carried.append("data_roots")
    left_out = {what: why for what, why in before.not_measured.items() if not what.startswith(found_anew)}
    found = msgspec.structs.replace(
        found,
        not_measured=left_out | found.not_measured,
        **{name: getattr(before, name) for name in carried},
    )
    if machine_digest(found) != machine_digest(registered):
        found = measure(found)
    return settings.apply(found, file)


def _said(registered: DeviceDescriptor, folder: Path) -> settings.RigFile:
    """Return what a person says of the device: in the agent's folder or, where it has no file, as registered.

    A device may have an agent for each GPU, and the file is where it joined.
    """
    names = settings.RigFile.__struct_fields__
    if (folder / settings.FILE).is_file():
        file = settings.read(folder / settings.FILE)
        if settings.PRICE in registered.overrides and file.price_per_hour_usd is None:
            return msgspec.structs.replace(file, price_per_hour_usd=registered.price_per_hour_usd)
        return file
    given = {name: getattr(registered, name) for name in registered.overrides if name in names}
    given["cost"] = registered.cost
    return msgspec.structs.replace(settings.NOTHING, **given)


def differs(one: DeviceDescriptor, other: DeviceDescriptor) -> bool:
    """Whether two descriptors say different things: when it was seen does not count, nor a little disk."""
    return _comparable(one) != _comparable(other) or (
        abs(one.disk_free_bytes - other.disk_free_bytes)
        > DISK_TOLERANCE * max(one.disk_free_bytes, other.disk_free_bytes)
    )


def _comparable(device: DeviceDescriptor) -> Any:
    # Through JSON: a table gives lists for tuples. Python's own equality takes 1 for 1.0.
    value = msgspec.json.decode(documents.encode(device))
    for name in ("seen_at", "disk_free_bytes"):
        value.pop(name, None)
    value.get("overrides", {}).pop("disk_free_bytes", None)
    return value


class Refresher:
    """Keeps a device's registration true: ``refresh`` when its agent starts, ``if_due`` while it has nothing to do."""

    def __init__(
        self,
        device: DeviceDescriptor,
        *,
        folder: Path,
        devices: Devices,
        clock: Clock,
        measure: Measure,
        report: Callable[..., None],
        machine: Machine | None = None,
    ) -> None:
        self.device = device
        self._folder, self._devices, self._clock = folder, devices, clock
        self._measure, self._report, self._machine = measure, report, machine
        self._looked_at = float("-inf")

    def refresh(self) -> DeviceDescriptor:
        """Look again, register what changed, and return the descriptor.

        A table that does not take it keeps no agent from working: it is reported, and tried at the next look.

        Raises:
            InvalidDocument: ``rig.toml`` cannot be used.
        """
        self._looked_at = self._clock.now()
        found = look_again(
            self.device,
            folder=self._folder,
            now=self._looked_at,
            measure=self._measure,
            machine=self._machine,
        )
        if not differs(found, self.device):
            return self.device
        try:
            self._devices.register(found)
        except (Unavailable, PermissionMissing) as error:
            self._report("device not registered", rig=found.id, error=str(error))
            return found
        self._report("device changed", rig=found.id, fields=",".join(changed(self.device, found)))
        self.device = found
        return found

    def if_due(self) -> None:
        """Refresh if the last look is a day old; what fails is reported, and tried again a day later."""
        if self._clock.now() - self._looked_at < DAY_SECONDS:
            return
        try:
            self.refresh()
        except InvalidInput as error:
            self._report("device not looked at", rig=self.device.id, error=str(error))


def changed(before: DeviceDescriptor, after: DeviceDescriptor) -> list[str]:
    """Return the names of the fields that differ, for a log."""
    old, new = _comparable(before), _comparable(after)
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return names or ["disk_free_bytes"]
