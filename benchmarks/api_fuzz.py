"""api_fuzz: 100,000 requests that nobody would send; none may end in a 5xx, in a crash, or over the memory.

Hypothesis makes them: right ones, nearly right ones, lies about size, shape and type, depth, NaN, bytes
that are no text, broken pictures. Sixty thousand are events of API Gateway for the function that serves
a model, twenty for the router before it, and twenty are bytes on a connection to the server of a core
device. Each runs in a process that is held to the function's memory. ``ours`` counts what must never
be: answers of 500 and above, exceptions and crashes, and processes over the limit; the reference is the
number of requests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.report import report

SHARES = {"handler": 60_000, "router": 20_000, "edge": 20_000}
SEED = 2026
STEP = 10_000
"""Examples of one run: hypothesis remembers what it made, and a run of its own begins anew."""


def fuzz(surface: str, examples: int, seed: int) -> dict[str, Any]:
    """Fuzz one surface in a process of its own; return what it found. A crash is a finding too."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.fuzzing.child",
        surface,
        str(examples),
        str(seed),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    failure = f"the process ended with {done.returncode}: {done.stderr[-3000:]}"
    return {
        "surface": surface,
        "requests": 0,
        "statuses": {},
        "peak_mb": 0,
        "over_limit": False,
        "failure": failure,
    }


def count(runs: list[dict[str, Any]]) -> dict[str, int]:
    """Return the figures of some runs together."""
    statuses = [(status, times) for run in runs for status, times in run["statuses"].items()]
    return {
        "requests": sum(run["requests"] for run in runs),
        "server_errors": sum(
            times for status, times in statuses if status.isdecimal() and int(status) >= 500
        ),
        "failures": sum(bool(run["failure"]) for run in runs),
        "over_limit": sum(run["over_limit"] for run in runs),
        "refused": sum(times for status, times in statuses if status.startswith("4")),
        "answered": sum(times for status, times in statuses if status.startswith("2")),
    }


def main() -> None:
    """Fuzz and report; every finding goes to standard error."""
    runs = []
    for surface, examples in SHARES.items():
        for number in range(examples // STEP):
            runs.append(fuzz(surface, STEP, SEED + number))
            print({name: runs[-1][name] for name in ("surface", "requests", "peak_mb")}, file=sys.stderr)
            if runs[-1]["failure"]:
                print(runs[-1]["failure"], file=sys.stderr)
    figures = count(runs)
    report(
        "api_fuzz",
        ours=figures["server_errors"] + figures["failures"] + figures["over_limit"],
        reference=figures["requests"],
        unit="requests that ended in a 5xx, a crash or over the memory",
        **figures,
        peak_mb=max(run["peak_mb"] for run in runs),
        reference_is="the number of requests",
    )


if __name__ == "__main__":
    main()
