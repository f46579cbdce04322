"""The one line of JSON with which each benchmark ends, and whether its goal holds."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

GOALS = Path(__file__).with_name("goals.json")


def machine() -> str:
    """Return what the figures were measured on."""
    cores = len(os.sched_getaffinity(0))
    model = next((line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    return f"{cores} cores, {model or platform.machine()}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def holds(name: str, figures: dict[str, Any], goals: dict[str, Any]) -> bool:
    """Return whether a benchmark's figure is on the right side of its goal."""
    goal = goals[name]
    value = figures[goal["figure"]]
    return bool(value <= goal["goal"]) if goal["direction"] == "at_most" else bool(value >= goal["goal"])


def report(
    name: str, *, ours: float, reference: float, unit: str, speedup: bool = False, **more: Any
) -> None:
    """Print the last line of a benchmark. ``speedup``: its ratio is the reference over ours."""
    goals = json.loads(GOALS.read_text())
    figures: dict[str, Any] = {
        "name": name,
        "ours": round(ours, 4),
        "reference": round(reference, 4),
        "unit": unit,
        "ratio": round(reference / ours if speedup else ours / reference, 4),
    }
    figures["goal"] = goals[name]
    figures["holds"] = holds(name, figures, goals)
    if speedup:
        figures["ratio_is"] = "the reference over ours"
    print(json.dumps({**figures, "machine": machine(), **more}), flush=True)
