"""The NVIDIA GPUs, through NVML (``nvidia-ml-py``, whose module is ``pynvml``)."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.errors import InvalidInput
from isthmus.model.device import Accelerator, DeviceDescriptor


@dataclass(frozen=True)
class Share:
    """The GPUs that an agent gives its trainings, as ``CUDA_VISIBLE_DEVICES`` names them; ``chosen``: by a person."""

    ids: tuple[str, ...] = ()
    chosen: bool = False

    def variables(self) -> dict[str, str]:
        """Return what makes a process see these alone, numbered as NVML does (CUDA C++ programming guide, "CUDA
        Environment Variables"); where nobody chose, what the agent itself sees is passed on."""
        if not self.chosen:
            return {}
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.ids), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


NO_GPU = Share()


def share(there: int, given: Sequence[int] | None, inherited: str | None = None) -> Share:
    """Return an agent's GPUs: those ``given``, or those that ``CUDA_VISIBLE_DEVICES`` leaves it, or all.

    Raises:
        InvalidInput: the machine has no such GPU, or one is given twice.
    """
    if given is None:
        return Share(_visible(there, inherited))
    missing = [number for number in given if not 0 <= number < there]
    if missing or len(set(given)) < len(given):
        has = f"has GPUs 0 to {there - 1}" if there else "has no GPU"
        raise InvalidInput(f"needs GPUs {', '.join(map(str, given))}, each once; the machine {has}")
    return Share(tuple(map(str, given)), chosen=True)


def _visible(there: int, inherited: str | None) -> tuple[str, ...]:
    """``CUDA_VISIBLE_DEVICES``: indices or UUIDs; what follows an invalid one is not seen either."""
    if inherited is None:
        return tuple(map(str, range(there)))
    names = [name.strip() for name in inherited.split(",")]
    valid = itertools.takewhile(
        lambda name: name.startswith(("GPU-", "MIG-")) or (name.isdigit() and int(name) < there), names
    )
    return tuple(valid) if there else ()


def given_to(share: Share, device: DeviceDescriptor) -> DeviceDescriptor:
    """Return a machine as a share of its GPUs sees it; one that is named by its UUID may be any of them."""
    if not all(name.isdigit() for name in share.ids):
        return device
    seen = tuple(device.accelerators[int(name)] for name in share.ids)
    return msgspec.structs.replace(device, accelerators=seen)


HALF_SINCE = (5, 3)
"""Compute capability from which on half-precision arithmetic is there (CUDA C++ programming guide, "Compute
Capabilities", feature support)."""


NO_BINDINGS = "an NVIDIA driver is loaded, but not the package that asks it: pip install nvidia-ml-py"


def has_driver(root: Path) -> bool:
    """Whether the kernel has loaded NVIDIA's driver; ``proc`` lies below ``root``."""
    return (root / "proc/driver/nvidia/version").is_file()


def nvml() -> Any | None:
    """Return the bindings of NVML; None where the optional package is not installed."""
    try:
        return importlib.import_module("pynvml")
    except ModuleNotFoundError:
        return None


def accelerators(bindings: Any | None) -> tuple[Accelerator, ...]:
    """Return the GPUs in NVML's order; none without bindings, without a driver, or without a GPU."""
    if bindings is None:
        return ()
    try:
        bindings.nvmlInit()
    except bindings.NVMLError:
        return ()
    try:
        return _found(bindings)
    except bindings.NVMLError:
        return ()
    finally:
        bindings.nvmlShutdown()


def computes_half(gpus: tuple[Accelerator, ...]) -> bool:
    """Whether each GPU, and there is one, computes in half precision."""
    capabilities = [
        tuple(map(int, gpu.compute_capability.split("."))) for gpu in gpus if gpu.compute_capability
    ]
    return bool(gpus) and len(capabilities) == len(gpus) and min(capabilities) >= HALF_SINCE


def _found(bindings: Any) -> tuple[Accelerator, ...]:
    driver = str(bindings.nvmlSystemGetDriverVersion())
    cuda = _told(bindings, bindings.nvmlSystemGetCudaDriverVersion_v2)
    handles = [bindings.nvmlDeviceGetHandleByIndex(index) for index in range(bindings.nvmlDeviceGetCount())]
    return tuple(_gpu(bindings, handle, driver, "" if cuda is None else _version(cuda)) for handle in handles)


def _gpu(bindings: Any, handle: Any, driver: str, cuda: str) -> Accelerator:
    memory = _told(bindings, lambda: bindings.nvmlDeviceGetMemoryInfo(handle))
    capability = _told(bindings, lambda: bindings.nvmlDeviceGetCudaComputeCapability(handle))
    return Accelerator(
        model=str(bindings.nvmlDeviceGetName(handle)),
        memory_bytes=0 if memory is None else int(memory.total),
        driver=driver,
        compute_capability="" if capability is None else f"{capability[0]}.{capability[1]}",
        cuda=cuda,
    )


def _told(bindings: Any, ask: Callable[[], Any]) -> Any | None:
    """Return an answer, or None: integrated GPUs, for one, have no memory of their own to tell of."""
    try:
        return ask()
    except bindings.NVMLError:
        return None


def _version(number: int) -> str:
    """``12040`` is 12.4 (NVML API reference, ``nvmlSystemGetCudaDriverVersion``)."""
    return f"{number // 1000}.{number % 1000 // 10}"


def use_percent(bindings: Any | None) -> float | None:
    """Return how busy the GPUs are, 0 to 100, as their mean over NVML's last sample period (1/6 s to 1 s);
    None where NVML cannot tell.

    Source: NVML API reference, ``nvmlDeviceGetUtilizationRates``.
    """
    if bindings is None:
        return None
    try:
        bindings.nvmlInit()
    except bindings.NVMLError:
        return None
    try:
        handles = [bindings.nvmlDeviceGetHandleByIndex(i) for i in range(bindings.nvmlDeviceGetCount())]
        asks = [functools.partial(bindings.nvmlDeviceGetUtilizationRates, handle) for handle in handles]
        told = [_told(bindings, ask) for ask in asks]
        rates = [float(rate.gpu) for rate in told if rate is not None]
        return sum(rates) / len(rates) if rates else None
    except bindings.NVMLError:
        return None
    finally:
        bindings.nvmlShutdown()
