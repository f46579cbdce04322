"""What a machine needs to be a core device, looked at before it becomes one.

Figures: Greengrass' developer guide, requirements of the nucleus (256 MB of disk, 96 MB of memory, Java 8) and of
nucleus lite (5 MB of both, systemd); glibc as onnxruntime's wheels are built for
(``manylinux_2_28``). Cgroups do not matter: our components run without containers, for which alone Greengrass
needs version 1 of them.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from isthmus.model.core_device import Flavour
from isthmus.model.finding import BAD_SKEW_SECONDS, SKEW_SECONDS, Finding, Level
from isthmus.model.units import MIB, format_bytes

ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_GLIBC = (2, 28)
PYTHON = "python3.13"
"""The runtime of the edge Lambda: Greengrass starts a Lambda component with the device's own."""
MODEL_BYTES = 200 * MIB
"""For the runtime, two models of the usual size and what unpacks them, beside what the nucleus needs."""
DISK_BYTES: dict[Flavour, int] = {"classic": 256 * MIB, "lite": 5 * MIB}
MEMORY_BYTES: dict[Flavour, int] = {"classic": 96 * MIB, "lite": 5 * MIB}
SERVING_BYTES = 130 * MIB
"""What the edge's server takes while it serves a model of MobileNet's size."""


def examine(
    flavour: Flavour,
    root: Path,
    *,
    skew_seconds: float | None,
    which: Callable[[str], str | None] = shutil.which,
    memory_bytes: int | None = None,
    free_bytes: int | None = None,
) -> list[Finding]:
    """Look at this machine. ``skew_seconds``: its clock against AWS', None where nobody could be asked.

    ``memory_bytes``, ``free_bytes``: as they are told, for a machine other than this one.
    """
    return [
        _architecture(platform.machine()),
        _library(platform.libc_ver()),
        _python(which),
        _nucleus(flavour, which),
        _amount(
            "memory",
            memory_bytes or _memory_bytes(),
            MEMORY_BYTES[flavour] + SERVING_BYTES,
            "free some, or take a larger machine",
        ),
        _amount(
            "disk",
            free_bytes or _free_bytes(root),
            DISK_BYTES[flavour] + MODEL_BYTES,
            f"make room where {root} lies",
        ),
        _clock(skew_seconds),
    ]


def lacking(findings: Sequence[Finding]) -> str:
    """Return one sentence about what is missing; empty when nothing is."""
    missing = [
        f"{entry.check}: {entry.says} ({entry.mend})" for entry in findings if entry.level == "missing"
    ]
    return "; ".join(missing)


def _architecture(found: str) -> Finding:
    if found in ARCHITECTURES:
        return Finding("architecture", "ok", found)
    return Finding(
        "architecture",
        "missing",
        f"{found}; onnxruntime is there for {' and '.join(ARCHITECTURES)}",
        "another machine",
    )


def _library(found: tuple[str, str]) -> Finding:
    name, version = found
    if name != "glibc":
        return Finding(
            "C library", "missing", f"{name or 'not glibc'}; onnxruntime needs glibc 2.28", "another system"
        )
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers >= OLDEST_GLIBC:
        return Finding("C library", "ok", f"glibc {version}")
    return Finding("C library", "missing", f"glibc {version}; onnxruntime needs 2.28", "a newer system")


def _python(which: Callable[[str], str | None]) -> Finding:
    if found := which(PYTHON):
        return Finding("Python", "ok", found)
    return Finding(
        "Python",
        "missing",
        f"no {PYTHON}, with which the edge Lambda runs",
        f"install {PYTHON} for all users",
    )


def _nucleus(flavour: Flavour, which: Callable[[str], str | None]) -> Finding:
    command, what, mend = {
        "classic": (
            "java",
            "the nucleus runs in Java",
            "install a Java runtime, such as openjdk-17-jre-headless",
        ),
        "lite": ("systemctl", "nucleus lite runs its components by systemd", "a system with systemd"),
    }[flavour]
    if found := which(command):
        return Finding("nucleus", "ok", found)
    return Finding("nucleus", "missing", f"no {command}: {what}", mend)


def _amount(check: str, found: int, needed: int, mend: str) -> Finding:
    says = f"{format_bytes(found)}; {format_bytes(needed)} are needed"
    return Finding(check, "ok", says) if found >= needed else Finding(check, "missing", says, mend)


def _clock(skew_seconds: float | None) -> Finding:
    if skew_seconds is None:
        return Finding("clock", "unknown", "AWS could not be asked")
    says = f"{skew_seconds:+.0f} s against AWS"
    if abs(skew_seconds) <= SKEW_SECONDS:
        return Finding("clock", "ok", says)
    level: Level = "missing" if abs(skew_seconds) >= BAD_SKEW_SECONDS else "warn"
    return Finding("clock", level, says, "set it by NTP: sudo timedatectl set-ntp true")


def _memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _free_bytes(root: Path) -> int:
    there = root
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free
