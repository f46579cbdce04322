"""Does a training environment fit a machine, and a job an agent? Asked of a descriptor, before anything is downloaded.

An environment that was made for another driver or architecture fails late and obscurely: at the first kernel,
or at an import. What it needs stands in its definition (``[tool.isthmus.needs]``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from isthmus.model.device import DeviceDescriptor
from isthmus.model.messages import Work
from isthmus.rig.services import Report


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """What an environment needs; empty: nothing. Versions are the least that will do.

    ``driver`` and ``compute_capability`` are asked of each GPU; a machine without one computes on its processor.
    ``processor_only``: it has no code for GPUs.
    """

    arch: tuple[str, ...] = ()
    glibc: str = ""
    driver: str = ""
    compute_capability: str = ""
    processor_only: bool = False


def unmet(needs: Needs, device: DeviceDescriptor) -> str | None:
    """Return what is needed and what there is instead, or None. What nobody could find out refuses nothing."""
    return next(_refusals(needs, device), None)


def _refusals(needs: Needs, device: DeviceDescriptor) -> Iterator[str]:
    if needs.arch and device.arch not in needs.arch:
        yield f"needs a processor of {' or '.join(needs.arch)}; the device has {device.arch}"
    if needs.glibc:
        there = device.software.get("glibc", "")
        if not there:
            yield f"needs glibc {needs.glibc} or newer; the device has another C library"
        elif _older(there, needs.glibc):
            yield f"needs glibc {needs.glibc} or newer; the device has glibc {there}"
    if needs.processor_only:
        return
    for gpu in device.accelerators:
        if gpu.driver and _older(gpu.driver, needs.driver):
            yield f"needs an NVIDIA driver {needs.driver} or newer; the device has {gpu.driver}"
        if gpu.compute_capability and _older(gpu.compute_capability, needs.compute_capability):
            yield (
                f"needs GPUs of compute capability {needs.compute_capability} or newer; the device has "
                f"{gpu.model} of {gpu.compute_capability}"
            )


class Room:
    """Whether an agent has the GPUs that a job needs; another one of its rig may have more.

    ``there`` None: it takes whatever comes. What is left to others is reported once.
    """

    def __init__(self, there: int | None, report: Report) -> None:
        self._there = there
        self._report = report
        self._left: set[str] = set()

    def __call__(self, work: Work) -> bool:
        if self._there is None or work.accelerators <= self._there:
            return True
        if work.job_key not in self._left:
            self._left.add(work.job_key)
            needs = work.accelerators
            self._report("work left to another agent", job_key=work.job_key, needs=needs, has=self._there)
        return False


def _older(there: str, needed: str) -> bool:
    return _numbers(there) < _numbers(needed)


def _numbers(version: str) -> tuple[int, ...]:
    """``550.127.05`` as (550, 127, 5); of an empty text nothing, which nothing is older than."""
    return tuple(int(number) for number in re.findall(r"\d+", version))
