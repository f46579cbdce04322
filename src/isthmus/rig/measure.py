"""Measures what nobody can read: rates by class of operators, memory bandwidth, the link to the region."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from isthmus.errors import EnvironmentProblem, IsthmusError, PermissionMissing, Unavailable
from isthmus.model.device import DeviceDescriptor, Link, Rate
from isthmus.model.units import GIB, KIB, MIB
from isthmus.planning.slicing.links import RELAY
from isthmus.ports import BlobStore
from isthmus.rig import hardware

T = TypeVar("T")
Timer = Callable[[], float]
SMALLEST_ARRAY_BYTES = 128 * MIB
CACHES = 4
"""An array is so many last-level caches large (https://www.cs.virginia.edu/stream/ref.html, run rules)."""
COPIES = 5
SMALL_BYTES = KIB
SIZES_BYTES = (256 * KIB, MIB, 4 * MIB)
ENOUGH_SECONDS = 1.0
"""Both ways; transfers that take so long say enough: over a slow line the largest would take a minute."""
ROUND_TRIPS = 7
SKIPPABLE = (Unavailable, PermissionMissing, EnvironmentProblem)
NOT_ASKED = "not asked for"
MEASURED = ("links", "memory_bandwidth", "rates")


def _calibrated(measured_at: str, report: Callable[[str], None]) -> dict[str, Rate]:
    from isthmus.frameworks.onnx.calibrate import calibrate

    return calibrate(measured_at=measured_at, report=report)


@dataclass(frozen=True)
class Measurer:
    """What a machine is measured with.

    ``blobs``: the region's bucket, None without a stack; ``probe``: the key there that may be written;
    ``rates``: whether to take the minute that rates take; ``report``: hears of progress.
    """

    blobs: BlobStore | None = None
    probe: str = ""
    rates: bool = True
    report: Callable[[str], None] = lambda line: None
    root: Path = Path("/")
    timer: Timer = time.perf_counter
    calibrate: Callable[[str, Callable[[str], None]], dict[str, Rate]] = _calibrated

    def measured(self, device: DeviceDescriptor) -> DeviceDescriptor:
        """Return the descriptor with all that could be measured; ``not_measured`` says what was not, and why."""
        missing = {what: why for what, why in device.not_measured.items() if what not in MEASURED}
        link = self._tried("links", self._link, missing)
        bandwidth = self._tried("memory_bandwidth", lambda: self._bandwidth(device), missing)
        rates = self._tried("rates", lambda: self._rates(device), missing)
        return msgspec.structs.replace(
            device,
            links=() if link is None else (link,),
            memory_bandwidth_bytes_per_second=bandwidth or 0.0,
            rates=rates or {},
            not_measured=missing,
        )

    def _tried(self, what: str, measure: Callable[[], T | str], missing: dict[str, str]) -> T | None:
        """``measure`` returns a reason, as text, where it was not to measure."""
        try:
            found = measure()
        except SKIPPABLE as error:
            found = str(error)
        if isinstance(found, str):
            missing[what] = found
            self.report(f"{what}: not measured: {found}")
            return None
        return found

    def _link(self) -> Link | str:
        if self.blobs is None:
            return "there is no stack to reach"
        self.report("measuring the link to the region")
        return link(self.blobs, self.probe, timer=self.timer)

    def _bandwidth(self, device: DeviceDescriptor) -> float | str:
        self.report("measuring memory bandwidth")
        size = max(SMALLEST_ARRAY_BYTES, CACHES * hardware.cache_bytes(self.root))
        if device.memory_bytes < 4 * size:
            return (
                f"it needs {4 * size / GIB:.1f} GiB of memory; there are {device.memory_bytes / GIB:.1f} GiB"
            )
        return memory_bandwidth(size, timer=self.timer)

    def _rates(self, device: DeviceDescriptor) -> dict[str, Rate] | str:
        if not self.rates:
            return NOT_ASKED
        self.report("measuring rates by class of operators, about a minute")
        return self.calibrate(device.seen_at, self.report)


def memory_bandwidth(size_bytes: int, *, timer: Timer = time.perf_counter, copies: int = COPIES) -> float:
    """Return bytes read plus bytes written in a second by the fastest copy of an array, on one core.

    What is written is counted once (STREAM's COPY, https://www.cs.virginia.edu/~mccalpin/papers/bandwidth/node2.html).

    Raises:
        EnvironmentProblem: numpy is not installed.
    """
    try:
        import numpy as np
    except ImportError as error:
        raise EnvironmentProblem("it needs numpy; install it with: pip install 'isthmus[engine]'") from error

    source = np.ones(size_bytes // 8)
    target = np.zeros_like(source)
    target.fill(0.0)  # zeros_like leaves pages that the first copy would pay for
    best = float("inf")
    for _ in range(copies):
        start = timer()
        np.copyto(target, source)
        best = min(best, timer() - start)
    return 2 * source.nbytes / best


def link(blobs: BlobStore, key: str, *, timer: Timer = time.perf_counter) -> Link:
    """Return the link to the region's bucket: the round trip of a small object, and the slower of up and down.

    What was written last at ``key`` is empty.

    Raises:
        Unavailable, PermissionMissing: the bucket does not answer, or not to this identity.
    """

    def seconds(call: Callable[[], object]) -> float:
        start = timer()
        call()
        return timer() - start

    small = partial(blobs.get, key, max_bytes=SMALL_BYTES)
    try:
        blobs.put(key, os.urandom(SMALL_BYTES))  # also opens the connection
        latency = statistics.median(seconds(small) for _ in range(ROUND_TRIPS))
        for size in SIZES_BYTES:
            data = os.urandom(size)  # what is random cannot be compressed on the way
            up = seconds(partial(blobs.put, key, data))
            down = seconds(partial(blobs.get, key, max_bytes=size))
            if up + down > ENOUGH_SECONDS:
                break
    finally:
        _emptied(blobs, key)
    # A fast link's transfer may take less than the median trip: a tenth of it is left as its own.
    slower = max(max(taken - latency, taken / 10) for taken in (up, down))
    return Link(to=RELAY, bytes_per_second=size / slower, latency_seconds=latency)


def _emptied(blobs: BlobStore, key: str) -> None:
    try:
        blobs.put(key, b"")
    except IsthmusError:
        return  # what failed before says why; the bucket's own rule removes what was left
