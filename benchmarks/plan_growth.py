"""plan_growth: seconds of a whole plan against operators (100 to 5,000) and devices (2 to 64).

Networks and devices are generated (``benchmarks/generated.py``): four families of networks; devices in two or three
zones, of nine speeds, or all beside each other (``rack``). Each case is planned as ``isthmus plan`` does it: numbers,
search, verifier, comparison with single devices, reasons. In some, memory is so short that many devices are needed.
``ours`` is the slowest case. A plan that is not proven the best has to say what was given up, or the script fails.

Most cases have a time limit of a few seconds, so that all take minutes; a middle and the largest one of each
objective have the default of a minute as well. ``--quick`` plans a few; ``--picture`` writes the curves.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import generated
from benchmarks.report import report
from isthmus.model.policy import DataPolicy
from isthmus.planning.slicing.planner import make_plan
from isthmus.planning.slicing.request import Request

OPERATORS = (100, 300, 1000, 2000, 5000)
DEVICES = (2, 4, 8, 16, 32, 64)
COARSE = ((100, 1000, 5000), (2, 8, 64))
WHOLE = ((1000, 16), (5000, 64))
LIMIT_SECONDS, WHOLE_SECONDS = 4.0, 60.0
"""Time limits: of most cases, so that all take minutes, and the default."""
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "growth"


class Case(NamedTuple):
    """``kind``: the objective, and how slices may lie. ``tight``: memory is short."""

    kind: str
    family: str
    operators: int
    devices: int
    tight: bool
    rack: bool
    limit_seconds: float


def cases(*, quick: bool) -> Iterator[Case]:
    """Return the grid; families, short memory and racks take turns over it."""
    families = itertools.cycle(generated.FAMILIES)
    for kind in ("latency", "throughput", "throughput, free", "step"):
        coarse = quick or kind == "throughput, free"
        grid = list(itertools.product(*(COARSE if coarse else (OPERATORS, DEVICES))))
        for number, (operators, devices) in enumerate(grid[:: 4 if quick else 1]):
            turn = number % 5
            yield Case(kind, next(families), operators, devices, turn in (1, 3), turn == 4, LIMIT_SECONDS)
        for operators, devices in () if quick else WHOLE:
            yield Case(kind, "transformer", operators, devices, False, False, WHOLE_SECONDS)


def planned(case: Case) -> dict[str, Any]:
    """Plan a case, and return its row.

    Raises:
        SystemExit: the plan is not proven the best, and does not say what was given up.
    """
    network = generated.network(case.family, case.operators)
    training = case.kind == "step"
    memory = generated.short_memory(network, case.devices, training=training) if case.tight else None
    devices = generated.devices(case.devices, memory_bytes=memory, zones=1 if case.rack else 3)
    objective, _, free = case.kind.partition(", ")
    request = Request(
        objective=objective,  # type: ignore[arg-type]
        usage="training" if training else "inference",
        policy=DataPolicy(may_leave="everything"),
        contiguous=not free,
        time_limit_seconds=case.limit_seconds,
    )
    started = time.perf_counter()
    plan = make_plan(network, devices, request)
    seconds = time.perf_counter() - started
    if not plan.exact and not plan.given_up:
        raise SystemExit(f"{case} is not proven the best, and the plan does not say what was given up")
    return {
        **case._asdict(),
        "seconds": round(seconds, 3),
        "method": plan.method,
        "exact": plan.exact,
        "gap": round(plan.gap, 6),
        "slices": sum(entry.works for entry in plan.slices),
        "given_up": plan.given_up,
    }


def draw(rows: list[dict[str, Any]], stem: Path) -> None:
    """Write the curves as PNG and SVG: seconds against operators, a line for each number of devices."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9})
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(3.2 * len(kinds), 3.4), sharey=True, squeeze=False)
    shades = pyplot.get_cmap("viridis")
    for axis, kind in zip(axes[0], kinds, strict=True):
        mine = [row for row in rows if row["kind"] == kind and row["limit_seconds"] == LIMIT_SECONDS]
        counts = sorted({row["devices"] for row in mine})
        for k, count in enumerate(counts):
            line = sorted(
                (row["operators"], row["seconds"], row["exact"]) for row in mine if row["devices"] == count
            )
            color = shades(0.9 * k / max(len(counts) - 1, 1))
            axis.plot(
                [x for x, _, _ in line],
                [y for _, y, _ in line],
                color=color,
                label=f"{count} devices",
                lw=1.2,
            )
            for x, y, exact in line:
                axis.plot([x], [y], "o", ms=4.5, color=color, mfc=color if exact else "white")
        for row in rows:
            if row["kind"] == kind and row["limit_seconds"] != LIMIT_SECONDS:
                axis.plot([row["operators"]], [row["seconds"]], "s", ms=5, color="#b03a2e")
        axis.axhline(60, color="#b03a2e", lw=0.8, ls="--")
        axis.set(xscale="log", yscale="log", title=kind, xlabel="operators")
        axis.grid(which="major", lw=0.3)
    axes[0][0].set_ylabel("seconds of a plan")
    figure.legend(*axes[0][0].get_legend_handles_labels(), fontsize=7, frameon=False, loc="center right")
    figure.text(
        0.01,
        0.01,
        f"filled: proven the best; hollow: not; time limit {LIMIT_SECONDS:g} s, squares {WHOLE_SECONDS:g} s (dashed)",
        fontsize=7,
    )
    figure.tight_layout(rect=(0, 0.04, 0.925, 1))
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        figure.savefig(stem.with_suffix(suffix), dpi=88, metadata=metadata)


def main() -> None:
    """Plan every case, print a line for each, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few cases")
    parser.add_argument("--picture", type=Path, help=f"path without its suffix; such as {PICTURE}")
    options = parser.parse_args()
    planned(Case("throughput", "chain", 100, 4, False, False, 1.0))  # compiles the inner loops
    planned(Case("throughput, free", "chain", 100, 2, False, True, 1.0))
    rows = []
    for case in cases(quick=options.quick):
        row = planned(case)
        rows.append(row)
        print(
            f"{row['kind']:16} {row['family']:11} {row['operators']:5} {row['devices']:3} {row['seconds']:7.2f} s  "
            f"gap {row['gap']:8.4f}  {row['method']}; {row['given_up'] or 'exact'}",
            file=sys.stderr,
        )
    if options.picture:
        draw(rows, options.picture)
    slowest = max(rows, key=lambda row: row["seconds"])
    report(
        "plan_growth",
        ours=slowest["seconds"],
        reference=WHOLE_SECONDS,
        unit="s",
        slowest={name: slowest[name] for name in ("kind", "family", "operators", "devices")},
        cases=len(rows),
        exact=sum(row["exact"] for row in rows),
        rows=[
            {name: value for name, value in row.items() if name not in ("method", "given_up")} for row in rows
        ],
        given_up=sorted({row["given_up"] for row in rows if row["given_up"]})[:12],
        reference_is="a minute: the time limit of a plan, by default",
    )


if __name__ == "__main__":
    main()
