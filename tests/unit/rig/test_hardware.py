from __future__ import annotations

from pathlib import Path

import pytest
from recorded import (
    BROADWELL,
    EPYC_9R14,
    GRAVITON_2,
    GRAVITON_3,
    HYBRID,
    MEMORY_BYTES,
    RASPBERRY_PI_2,
    UNLIMITED_V1,
    V1_DOCKER,
    V2_SERVICE,
    machine,
)

from isthmus.rig import hardware

GIB = 2**30
CASES = {
    "no control groups": ("", {}, 8, MEMORY_BYTES),
    "v2, no limit": ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, 8, MEMORY_BYTES),
    "v2, both limits": (
        V2_SERVICE,
        {
            "system.slice/isthmus-rig.service/cpu.max": "250000 100000\n",
            "system.slice/isthmus-rig.service/memory.max": f"{4 * GIB}\n",
        },
        2,
        4 * GIB,
    ),
    "v2, limits of a group above": (
        V2_SERVICE,
        {
            "system.slice/cpu.max": "300000 100000\n",
            "system.slice/memory.max": f"{2 * GIB}\n",
            "system.slice/isthmus-rig.service/cpu.max": "max 100000\n",
            "system.slice/isthmus-rig.service/memory.max": f"{4 * GIB}\n",
        },
        3,
        2 * GIB,
    ),
    "v2, less than a processor": ("0::/\n", {"cpu.max": "50000 100000\n"}, 1, MEMORY_BYTES),
    "v2, a quota above the affinity": ("0::/\n", {"cpu.max": "3200000 100000\n"}, 8, MEMORY_BYTES),
    "v1, in a container that sees its own groups as the topmost": (
        V1_DOCKER,
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": f"{8 * GIB}\n",
        },
        4,
        8 * GIB,
    ),
    "v1, no limit": (
        V1_DOCKER,
        {
            "cpu,cpuacct/docker/0aeb/cpu.cfs_quota_us": "-1\n",
            "cpu,cpuacct/docker/0aeb/cpu.cfs_period_us": "100000\n",
            "memory/docker/0aeb/memory.limit_in_bytes": UNLIMITED_V1,
        },
        8,
        MEMORY_BYTES,
    ),
    "v1 for memory and v2 for processors": (
        HYBRID,
        {
            "memory/user.slice/memory.limit_in_bytes": f"{GIB}\n",
            "unified/user.slice/user-1000.slice/cpu.max": "600000 100000\n",
        },
        6,
        GIB,
    ),
}


@pytest.mark.parametrize(("cgroup", "files", "cores", "memory"), CASES.values(), ids=CASES)
def test_limits_of_control_groups_count(
    cgroup: str, files: dict[str, str], cores: int, memory: int, tmp_path: Path
) -> None:
    root = machine(tmp_path, {f"fs/cgroup/{path}": text for path, text in files.items()}, cgroup=cgroup)
    assert hardware.cores(root, 8) == cores
    assert hardware.memory_bytes(root) == memory


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        (EPYC_9R14, ("avx2", "avx512", "bf16", "vnni")),
        (BROADWELL, ("avx2",)),
        (GRAVITON_2, ("fp16", "neon")),
        (GRAVITON_3, ("bf16", "fp16", "neon", "sve")),
        (RASPBERRY_PI_2, ("neon",)),
        ("", ()),
    ],
    ids=["epyc", "broadwell", "graviton 2", "graviton 3", "raspberry pi 2", "nothing told"],
)
def test_features_are_read_off_the_kernels_flags(
    cpuinfo: str, found: tuple[str, ...], tmp_path: Path
) -> None:
    assert hardware.features(machine(tmp_path, {}, cpuinfo=cpuinfo)) == found


def test_a_feature_is_one_that_every_processor_has(tmp_path: Path) -> None:
    assert hardware.features(machine(tmp_path, {}, cpuinfo=f"{GRAVITON_3}\n{GRAVITON_2}")) == ("fp16", "neon")


def test_the_largest_cache_is_the_last(tmp_path: Path) -> None:
    cache = "devices/system/cpu/cpu0/cache/index{}/size"
    sizes = {cache.format(0): "32K\n", cache.format(2): "1024K\n", cache.format(3): "32M\n"}
    assert hardware.cache_bytes(machine(tmp_path, sizes)) == 32 * 2**20
    assert hardware.cache_bytes(tmp_path / "nothing") == 0
