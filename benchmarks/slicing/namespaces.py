"""Two network namespaces with a link between them that ``tc`` shapes, and a share of a core that a cgroup holds.

Needs root, iproute2 and the kernel's tbf; a delay needs its netem too. What is made here is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NETWORK = "10.213.71"
BURST_BYTES, QUEUE_SECONDS = 32 * 1024, 0.4
"""Of the token bucket (tc-tbf(8)): what goes at once, and the longest wait in its queue."""
PERIOD_MICROSECONDS = 10_000
"""Of the processor's quota: short, so that a share of a core is slow, and not fast and then halted for long."""
GROUPS_V2, GROUPS_V1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu")


@dataclass(frozen=True)
class Pair:
    """Two namespaces by name, and their addresses."""

    near: str
    far: str
    near_address: str = f"{NETWORK}.1"
    far_address: str = f"{NETWORK}.2"

    def within(self, name: str) -> tuple[str, ...]:
        """Return what stands before a command that is to run in a namespace."""
        return ("ip", "netns", "exec", name)


def check() -> None:
    """Raises SystemExit where namespaces cannot be made."""
    lacks = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if os.geteuid() != 0 or lacks:
        has = "no root" if os.geteuid() != 0 else f"no {' and no '.join(lacks)}"
        raise SystemExit(
            f"needs root, ip and tc, to shape a link between two network namespaces; there is {has}"
        )


@contextlib.contextmanager
def shaped_pair(bits_per_second: float) -> Iterator[Pair]:
    """Make two namespaces with a link of that rate in each direction.

    Raises:
        SystemExit: they cannot be made here; the sentence says what is missing.
    """
    check()
    pair = Pair(f"isthmus-{os.getpid()}-near", f"isthmus-{os.getpid()}-far")
    try:
        _ip("netns", "add", pair.near)
        _ip("netns", "add", pair.far)
        _ip(
            "-n",
            pair.near,
            "link",
            "add",
            "shaped",
            "type",
            "veth",
            "peer",
            "name",
            "shaped",
            "netns",
            pair.far,
        )
        for name, address in ((pair.near, pair.near_address), (pair.far, pair.far_address)):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "shaped")
            for device in ("lo", "shaped"):
                _ip("-n", name, "link", "set", device, "up")
        shape(pair, bits_per_second)
        yield pair
    finally:
        for name in (pair.near, pair.far):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def shape(pair: Pair, bits_per_second: float) -> None:
    """Set the link's rate anew, in both directions."""
    for name in (pair.near, pair.far):
        bucket = ("rate", f"{round(bits_per_second)}bit", "burst", f"{BURST_BYTES}b")
        _run("tc", "-n", name, "qdisc", "replace", "dev", "shaped", "root", "tbf", *bucket, "latency",
             f"{round(QUEUE_SECONDS * 1e3)}ms")  # fmt: skip


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Put this thread, and the threads and processes that it starts meanwhile, into a namespace."""
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{name}") as there:
        os.setns(there.fileno(), os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(before.fileno(), os.CLONE_NEWNET)


@contextlib.contextmanager
def share_of_a_core(share: float, process: int) -> Iterator[None]:
    """Hold a process, by id, to a share of one core: a CPU quota of a cgroup, version 2 or 1.

    Raises:
        SystemExit: there is no cgroup whose quota can be set.
    """
    quota = str(round(share * PERIOD_MICROSECONDS))
    version_2 = (GROUPS_V2 / "cgroup.controllers").is_file()
    group = (GROUPS_V2 if version_2 else GROUPS_V1) / f"isthmus-{os.getpid()}"
    try:
        group.mkdir()
        if version_2:
            (group / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
            (group / "cpu.cfs_quota_us").write_text(quota)
        (group / "cgroup.procs").write_text(str(process))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        raise SystemExit(
            f"needs a cgroup with a CPU quota, to hold the edge to a share of a core: {error}"
        ) from error
    try:
        yield
    finally:
        _leave(group)


def _leave(group: Path) -> None:
    """Remove a cgroup; who is still in it moves to the one above."""
    with contextlib.suppress(OSError):
        for process in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(process)
    until = time.monotonic() + 5
    while group.exists() and time.monotonic() < until:
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.05)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"needs namespaces and shaped links; `{' '.join(command)}` says: {done.stderr.strip()}"
        )
