"""The metrics that a training prints: ``name=value``, wherever it runs."""

from __future__ import annotations

import math
import re

METRIC = re.compile(
    r"(?:^|[\s,;])([A-Za-z_][\w.:/-]*)=([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=$|[\s,;])"
)
MAX_METRIC = 1e125
"""DynamoDB's numbers end at 9.99e125."""
MIN_METRIC = 1e-130
"""Below it they are zero."""
MAX_METRICS = 1000
MAX_METRIC_NAME_BYTES = 200
"""A table's item holds 400 KB: a script that prints ever other names must not make its outcome too large for one."""


def metrics_in(line: str) -> dict[str, float]:
    """Return the ``name=value`` pairs of a line whose values are numbers that DynamoDB takes."""
    if "=" not in line:  # a search takes forty times as long, and a line may be of gigabytes
        return {}
    found = {name: float(value) for name, value in METRIC.findall(line)}
    return {
        name: value if abs(value) >= MIN_METRIC else 0.0
        for name, value in found.items()
        if math.isfinite(value) and abs(value) < MAX_METRIC
    }


def keep_metrics(line: str, metrics: dict[str, float]) -> None:
    """Keep the last value of each metric in a line; of new names no more than there is room for."""
    for name, value in metrics_in(line).items():
        small = len(metrics) < MAX_METRICS and len(name.encode()) <= MAX_METRIC_NAME_BYTES
        if small or name in metrics:
            metrics[name] = value
