"""Finds out what this machine is: its device descriptor is never typed by hand."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path

from isthmus import __version__
from isthmus.model.device import Accelerator, DeviceDescriptor
from isthmus.rig import environments


def describe(
    rig: str,
    *,
    zone: str,
    folder: Path,
    now: float,
    queue_url: str = "",
    price_per_hour_usd: float = 0.0,
) -> DeviceDescriptor:
    """Return this machine's descriptor; ``folder`` is where the rig works, ``now`` UTC seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    return DeviceDescriptor(
        id=rig,
        kind="rig",
        zone=zone,
        arch=platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        disk_free_bytes=shutil.disk_usage(folder).free,
        accelerators=accelerators(),
        frameworks=environments.frameworks(),
        usage=("training",),
        software={"isthmus": __version__, "python": platform.python_version(), "kernel": platform.release()},
        price_per_hour_usd=price_per_hour_usd,
        queue_url=queue_url,
        seen_at=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
    )


def accelerators() -> tuple[Accelerator, ...]:
    """Return the NVIDIA GPUs; none where the optional ``nvidia-ml-py`` or a driver is missing."""
    try:
        nvml = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        driver = str(nvml.nvmlSystemGetDriverVersion())
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return tuple(
            Accelerator(
                model=str(nvml.nvmlDeviceGetName(handle)),
                memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
                driver=driver,
            )
            for handle in handles
        )
    finally:
        nvml.nvmlShutdown()
