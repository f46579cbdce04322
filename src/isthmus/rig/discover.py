"""Finds out what this machine is: its device descriptor is never typed by hand.

``describe`` reads, in milliseconds; ``isthmus.rig.measure`` measures.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pkgutil
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

import isthmus.frameworks
from isthmus import __version__
from isthmus.errors import InvalidInput
from isthmus.model.device import DeviceDescriptor, Kind, Usage
from isthmus.rig import containers, definitions, gpus, hardware
from isthmus.rig.power import measured_watts
from isthmus.rig.settings import RigFile, apply

USAGE: dict[Kind, tuple[Usage, ...]] = {"rig": ("training",), "edge": ("inference",)}
"""What a kind of device is for unless a person says otherwise."""
ENGINES = ("onnxruntime", "numpy")
ACCELERATORS = "accelerators"
"""The one key of ``not_measured`` that ``describe`` writes."""


def _affinity() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Machine:
    """Where ``describe`` looks. ``root``: ``/proc`` and ``/sys`` lie below; ``nvml``: the bindings, None without;
    ``engine``: the container engine that answers."""

    root: Path = Path("/")
    affinity: int = field(default_factory=_affinity)
    nvml: Any | None = field(default_factory=gpus.nvml)
    engine: containers.Engine | None = field(default_factory=containers.find)


def describe(
    name: str,
    *,
    zone: str,
    folder: Path,
    now: float,
    kind: Kind = "rig",
    queue_url: str = "",
    price_per_hour_usd: float = 0.0,
    power_watts: float = 0.0,
    machine: Machine | None = None,
) -> DeviceDescriptor:
    """Return this machine's descriptor, without what must be measured.

    ``folder`` is where the device works, whose disk counts; ``now`` UTC seconds.
    """
    machine = machine or Machine()
    folder.mkdir(parents=True, exist_ok=True)
    found = gpus.accelerators(machine.nvml)
    missing: dict[str, str] = {}
    if machine.nvml is None and gpus.has_driver(machine.root):
        missing[ACCELERATORS] = gpus.NO_BINDINGS
    computes = {*hardware.features(machine.root), *(("fp16",) if gpus.computes_half(found) else ())}
    device = DeviceDescriptor(
        id=name,
        kind=kind,
        zone=zone,
        arch=platform.machine(),
        cores=hardware.cores(machine.root, machine.affinity),
        memory_bytes=hardware.memory_bytes(machine.root),
        disk_free_bytes=shutil.disk_usage(folder).free,
        accelerators=found,
        features=tuple(sorted(computes)),
        usage=USAGE.get(kind, ()),
        software=software(),
        price_per_hour_usd=price_per_hour_usd,
        power_watts=power_watts,
        measured_watts=measured_watts(folder),
        queue_url=queue_url,
        seen_at=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        not_measured=missing,
    )
    if kind != "rig":
        return device  # it trains nothing
    engine = machine.engine
    fit, unfit = definitions.matched(device)
    there = {engine.name: engine.version} if engine else {}
    return msgspec.structs.replace(device, frameworks=fit, unfit_frameworks=unfit, containers=there)


def discover(
    name: str,
    settings: RigFile,
    *,
    folder: Path,
    now: float,
    queue_url: Callable[[], str],
    measure: Callable[[DeviceDescriptor], DeviceDescriptor],
    machine: Machine | None = None,
) -> DeviceDescriptor:
    """Return this machine's whole descriptor: read, measured, and with what ``settings`` say.

    ``queue_url`` makes a rig's queue, and is called for nothing else.

    Raises:
        InvalidInput: nothing says in which zone the machine is.
    """
    if settings.zone is None:
        raise InvalidInput(
            "needs the zone of the data on this machine, for example onprem-milan: give --zone, or `zone` in rig.toml"
        )
    kind = settings.kind or "rig"
    found = describe(
        name,
        zone=settings.zone,
        folder=folder,
        now=now,
        kind=kind,
        queue_url=queue_url() if kind == "rig" else "",
        machine=machine,
    )
    return apply(measure(found), settings)


def software() -> dict[str, str]:
    """Return versions: of isthmus, Python, the kernel, the C library, and of the frameworks and engines that this
    interpreter can import. None of them is imported."""
    library, _, version = _c_library().partition(" ")
    found = {
        "isthmus": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        **({library: version} if version else {}),
    }
    known = (info.name for info in pkgutil.iter_modules(isthmus.frameworks.__path__) if info.ispkg)
    for module in (*known, *ENGINES):
        if importlib.util.find_spec(module) is not None:
            found[module] = _installed(module)
    return found


def _c_library() -> str:
    """``glibc 2.41``; empty with another C library."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""


def _installed(module: str) -> str:
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
