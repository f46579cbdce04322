"""The system's clock."""

from __future__ import annotations

import time


class SystemClock:
    """UTC seconds since the epoch, and real waiting."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
