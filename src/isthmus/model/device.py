"""Device descriptors: what a machine is, found out by ``isthmus rig join``, never typed by hand."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.model.blob import Name


class Accelerator(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU."""

    model: str
    memory_bytes: int
    driver: str = ""


class DeviceDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """One device of the system. ``zone`` is where data that it reads then lies."""

    schema: Literal["isthmus/device/1"] = "isthmus/device/1"
    id: Name
    kind: Literal["rig", "edge", "sagemaker", "lambda"]
    zone: str
    arch: str
    cores: int
    memory_bytes: int
    disk_free_bytes: int
    accelerators: tuple[Accelerator, ...] = ()
    frameworks: dict[str, tuple[str, ...]] = {}
    """Framework name to the versions whose environments this device can build or has."""
    usage: tuple[Literal["training", "inference"], ...] = ("training",)
    software: dict[str, str] = {}
    price_per_hour_usd: float = 0.0
    queue_url: str = ""
    seen_at: str = ""
