"""Machines as their kernels describe them, to lay out below a folder, and an NVML that answers as recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MEMINFO = "MemTotal:       24684084 kB\nMemFree:        11204204 kB\nMemAvailable:   21004148 kB\n"
MEMORY_BYTES = 24684084 * 1024

EPYC_9R14 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9R14
flags\t\t: fpu vme sse sse2 ht syscall nx fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c avx2 bmi2 avx512f \
avx512dq avx512ifma avx512cd avx512bw avx512vl avx512_bf16 avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg
"""
BROADWELL = """processor\t: 0
model name\t: Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz
flags\t\t: fpu sse sse2 ht fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand bmi1 hle avx2 bmi2
"""
GRAVITON_2 = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU part\t: 0xd0c
"""
GRAVITON_3 = """processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop \
sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs paca pacg dcpodp svei8mm svebf16 i8mm bf16 dgh rng
"""
RASPBERRY_PI_2 = """processor\t: 0
model name\t: ARMv7 Processor rev 5 (v7l)
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm
"""

V2_SERVICE = "0::/system.slice/isthmus-rig.service\n"
V1_DOCKER = "".join(
    f"{number}:{names}:/docker/0aeb\n"
    for number, names in ((11, "cpu,cpuacct"), (9, "memory"), (4, "cpuset"), (1, "name=systemd"))
)
HYBRID = "3:memory:/user.slice\n1:cpu:/\n0::/user.slice/user-1000.slice\n"
UNLIMITED_V1 = "9223372036854771712\n"


def machine(
    root: Path, files: Mapping[str, str], *, cpuinfo: str = EPYC_9R14, cgroup: str = "0::/\n"
) -> Path:
    """Lay a machine out below ``root``: ``files`` by path below ``/sys``."""
    proc = {"proc/cpuinfo": cpuinfo, "proc/meminfo": MEMINFO, "proc/self/cgroup": cgroup}
    for path, text in (proc | {f"sys/{path}": text for path, text in files.items()}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


class NVMLError(Exception):
    """As ``pynvml`` raises."""


@dataclass
class Nvml:
    """``pynvml`` as far as it is asked. ``cards``: model, bytes of memory (None: not told), compute capability."""

    cards: list[tuple[str, int | None, tuple[int, int] | None]] = field(default_factory=list)
    driver: str | None = "550.127.05"
    cuda: int | None = 12040
    opened: int = 0
    NVMLError: type[Exception] = NVMLError

    def nvmlInit(self) -> None:
        if self.driver is None:
            raise NVMLError("NVML Shared Library Not Found")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlSystemGetDriverVersion(self) -> str | None:
        return self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self._told(self.cuda)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self.cards[handle][0]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=self._told(self.cards[handle][1]))

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        found: tuple[int, int] = self._told(self.cards[handle][2])
        return found

    def _told(self, value: Any) -> Any:
        if value is None:
            raise NVMLError("Not Supported")
        return value
