"""What this process may use of the machine: read from ``/proc`` and ``/sys``, limits of control groups included.

Each function takes ``root``, below which ``proc`` and ``sys`` lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from isthmus.model.units import GIB, KIB, MIB

FLAGS: dict[str, frozenset[str]] = {
    "amx": frozenset({"amx_tile"}),
    "avx2": frozenset({"avx2"}),
    "avx512": frozenset({"avx512f"}),
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "fp16": frozenset({"avx512_fp16", "asimdhp"}),
    "neon": frozenset({"asimd", "neon"}),
    "sve": frozenset({"sve"}),
    "vnni": frozenset({"avx512_vnni", "avx_vnni"}),
}
"""Feature of a descriptor to the kernel's flags, one of which stands for it. ``f16c`` only converts, so it is not
``fp16`` (Linux, ``arch/x86/include/asm/cpufeatures.h``; ``Documentation/arch/arm64/elf_hwcaps.rst``)."""
UNITS = {"K": KIB, "M": MIB, "G": GIB}


def cores(root: Path, affinity: int) -> int:
    """Return how many processors' time may be used: ``affinity``, or the whole ones within a smaller quota.

    Sources: Linux, ``Documentation/admin-guide/cgroup-v2.rst`` (``cpu.max``) and
    ``Documentation/scheduler/sched-bwc.rst`` (``cpu.cfs_quota_us``).
    """
    quotas = [affinity * 1.0]
    for folder in _groups(root, "cpu"):
        quota, period = _quota(folder)
        if quota > 0 and period > 0:
            quotas.append(quota / period)
    return max(1, int(min(quotas)))


def memory_bytes(root: Path) -> int:
    """Return the memory there is, or the smallest limit of the control groups that this process is in.

    Sources: Linux, ``Documentation/admin-guide/cgroup-v2.rst`` (``memory.max``) and
    ``Documentation/admin-guide/cgroup-v1/memory.rst`` (``memory.limit_in_bytes``; without a limit it is larger
    than any machine's memory).
    """
    limits = [_total_memory(root)]
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name).strip()
            if text.isdecimal():
                limits.append(int(text))
    return min(limits)


def features(root: Path) -> tuple[str, ...]:
    """Return what every processor computes with, of those in ``FLAGS``, in alphabetical order."""
    sets = [
        set(value.split())
        for key, _, value in (line.partition(":") for line in _read(root / "proc/cpuinfo").splitlines())
        if key.strip() in ("flags", "Features")
    ]
    common = set.intersection(*sets) if sets else set()
    return tuple(sorted(name for name, flags in FLAGS.items() if common & flags))


def cache_bytes(root: Path) -> int:
    """Return the size of the first processor's last-level cache; 0 where the kernel does not say."""
    sizes = [0]
    for file in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = _read(file).strip()
        number, unit = text[:-1], text[-1:]
        if number.isdecimal() and unit in UNITS:
            sizes.append(int(number) * UNITS[unit])
    return max(sizes)


def _total_memory(root: Path) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        key, _, value = line.partition(":")
        if key == "MemTotal":
            return int(value.split()[0]) * KIB
    return 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that hold this process for a controller, and those above them.

    Inside of a container the path may be the host's, of which only the topmost folder is seen.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names == "":
            tops = (mounts, mounts / "unified")
        elif controller in names.split(","):
            tops = (mounts / names, mounts / controller)
        else:
            continue
        inside = Path(path.strip().lstrip("/"))
        for top in dict.fromkeys(tops):
            for part in (inside, *inside.parents):
                if ".." not in part.parts and (top / part).is_dir():
                    yield top / part


def _quota(folder: Path) -> tuple[int, int]:
    """Return microseconds of processor time in each period; (0, 0) without a limit."""
    both = _read(folder / "cpu.max").split()
    if not both:
        both = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(both) == 2 and all(text.isdecimal() for text in both):
        return int(both[0]), int(both[1])
    return 0, 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
