"""What a rig draws while it trains, by the counters of its processors and GPUs themselves.

Processors: RAPL through the kernel's powercap framework (Linux, ``Documentation/power/powercap``): ``energy_uj`` of
each package and of its memory, in microjoules up to ``max_energy_range_uj`` and then from zero again; AMD's have the
same names. From Linux 5.10 on only root may read them. GPUs: NVML, ``nvmlDeviceGetTotalEnergyConsumption``, in
millijoules since the driver was loaded (Volta or newer). What the power supply, fans and disks take is in neither.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.ports import Clock, Threads

FILE = "power.json"
EVERY_SECONDS = 10.0
"""A counter of 65,536 J, the smallest that is common, takes minutes to come round."""
REMEMBERED_SECONDS = 86_400.0
"""A day of training weighs as much as what is measured next."""
ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")
COUNTED = re.compile(r"package-\d+|dram")
"""``psys`` holds the packages, and ``core`` is in them."""

Joules = Callable[[], float]


def joules(root: Path, bindings: Any | None) -> Joules | None:
    """Return what counts joules from now on; None where nothing tells them. ``sys`` lies below ``root``."""
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    packages = [found for zone in zones if (found := _package(zone)) is not None]
    sources: list[Joules] = [package.joules for package in packages]
    if (first := gpu_joules(bindings)) is not None:
        sources.append(lambda: (gpu_joules(bindings) or first) - first)
    return (lambda: sum(source() for source in sources)) if sources else None


class _Package:
    """The counter of one zone."""

    def __init__(self, zone: Path) -> None:
        self._file = zone / "energy_uj"
        self._range = int((zone / "max_energy_range_uj").read_text())
        self._last = int(self._file.read_text())
        self._total = 0

    def joules(self) -> float:
        with contextlib.suppress(OSError, ValueError):
            now = int(self._file.read_text())
            self._total += now - self._last + (self._range if now < self._last else 0)
            self._last = now
        return self._total / 1e6


def _package(zone: Path) -> _Package | None:
    try:
        counted = COUNTED.fullmatch((zone / "name").read_text().strip())
        return _Package(zone) if counted and ZONE.fullmatch(zone.name) else None
    except (OSError, ValueError):
        return None


def gpu_joules(bindings: Any | None) -> float | None:
    """Return what all GPUs took since their driver was loaded; None where one does not tell."""
    if bindings is None:
        return None
    try:
        bindings.nvmlInit()
    except bindings.NVMLError:
        return None
    try:
        handles = [bindings.nvmlDeviceGetHandleByIndex(i) for i in range(bindings.nvmlDeviceGetCount())]
        told = [bindings.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles]
        return sum(told) / 1000 if told else None
    except bindings.NVMLError:
        return None
    finally:
        bindings.nvmlShutdown()


class PowerMeter:
    """Measures while a training runs, and keeps the mean in ``folder``."""

    def __init__(self, count: Joules, folder: Path, clock: Clock, threads: Threads) -> None:
        self._count, self._folder, self._clock, self._threads = count, folder, clock, threads

    def start(self) -> Callable[[], None]:
        """Begin; return what ends it."""
        closed, began, before = self._threads.flag(), self._clock.now(), self._count()

        def run() -> None:
            while not closed.wait(EVERY_SECONDS):
                self._count()  # no counter may come round twice unseen

        join = self._threads.start("power", run)

        def stop() -> None:
            closed.set()
            join()
            keep(self._folder, self._count() - before, self._clock.now() - began)

        return stop


def keep(folder: Path, joules: float, seconds: float) -> None:
    """Add a training to what is known. A disk that takes no file loses the measurement, and nothing else."""
    if seconds <= 0 or joules <= 0:
        return
    before = _read(folder)
    weight = min(before.get("seconds", 0.0), REMEMBERED_SECONDS)
    watts = (before.get("watts", 0.0) * weight + joules) / (weight + seconds)
    temporary = folder / f".{FILE}.{os.getpid()}"
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps({"watts": round(watts, 1), "seconds": round(weight + seconds, 1)}))
        os.replace(temporary, folder / FILE)


def measured_watts(folder: Path) -> float:
    """Return the mean over the last trainings; 0: nothing was measured."""
    return _read(folder).get("watts", 0.0)


def _read(folder: Path) -> dict[str, float]:
    try:
        found = json.loads((folder / FILE).read_text())
        return {name: float(found[name]) for name in ("watts", "seconds")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
