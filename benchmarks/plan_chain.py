"""plan_chain: the busiest stage of chains of layers on typed devices, against the exact optimum.

PipeEdge's ViT profiles on 4 + 4 boards (its published optimum, 1.5488 s for ViT-base), and random chains against a
search of every partition and every order of kinds, written here without the planner's code. `ratio` is the worst.
"""

from __future__ import annotations

import functools
import random
import sys
import time

import numpy as np

from benchmarks import workloads
from benchmarks.report import report
from isthmus.planning.slicing import lattice, verify
from isthmus.planning.slicing.case import Graph, LoadCase, Signal

BOARDS = {"Minnowboard-E3845": 4, "RCC-VE-C2000": 4}
VITS = {"google/vit-base-patch16-224": 1.5488, "google/vit-large-patch16-224": None}
CHAINS = 200


def main() -> None:
    """Plan each chain, and print the worst ratio."""
    ratios, slowest = [], 0.0
    for model, known in VITS.items():
        case = workloads.pipeedge(model, BOARDS)
        value, seconds = timed(case)
        exact = best_by_search(case)
        slowest = max(slowest, seconds)
        ratios.append(value / exact)
        print(f"{model:32} {value:.6f} s (exact {exact:.6f}) in {seconds * 1e3:.1f} ms", file=sys.stderr)
        if known is not None and abs(value - known) > 5e-5:
            raise SystemExit(f"{model}: {value:.6f} s where {known} s is the published optimum")
    dice = random.Random(1)
    for _ in range(CHAINS):
        case = chain(dice)
        value, _ = timed(case)
        ratios.append(value / best_by_search(case))
    report(
        "plan_chain",
        ours=max(ratios),
        reference=1.0,
        unit="of the optimum",
        vit_milliseconds=round(slowest * 1e3, 2),
        chains=len(ratios),
        reference_is="a search of every partition and order of kinds, memoised, without the planner's code",
    )


def timed(case: LoadCase) -> tuple[float, float]:
    """Return the verified value and the fastest of five runs."""
    took = []
    for _ in range(5):
        started = time.perf_counter()
        found = lattice.solve(case)
        took.append(time.perf_counter() - started)
    return verify.verify(case, found), min(took)


def chain(dice: random.Random) -> LoadCase:
    """A chain of 8 to 30 layers on two or three kinds of devices; memory binds in some."""
    n, kinds = dice.randint(8, 30), [dice.randint(1, 3) for _ in range(dice.randint(2, 3))]
    kind_of = [k for k, count in enumerate(kinds) for _ in range(count)]
    base, pace = [dice.uniform(0.5, 10) for _ in range(n)], [dice.uniform(0.3, 3) for _ in kinds]
    sides = [dice.uniform(0, 0.5) for _ in kinds]
    memory = np.array([float(dice.randint(1, 9)) for _ in range(n)])
    rooms = [dice.uniform(0.3, 0.8) * memory.sum() for _ in kinds]
    return LoadCase(
        graph=Graph(
            tuple(f"layer{v}" for v in range(n)),
            tuple(Signal(v, (v + 1,), dice.uniform(0, 5)) for v in range(n - 1)),
        ),
        devices=tuple(f"d{d}" for d in range(len(kind_of))),
        seconds=np.array([[base[v] * pace[k] for k in kind_of] for v in range(n)]),
        memory_bytes=memory,
        capacity_bytes=np.array([max(rooms[k], memory.sum() / len(kind_of) + 9) for k in kind_of]),
        send_seconds=np.array([[sides[k]] * len(kind_of) for k in kind_of]),
        receive_seconds=np.array([[sides[k] for k in kind_of]] * len(kind_of)),
        overlap=dice.random() < 0.5,
    )


def best_by_search(case: LoadCase) -> float:
    """Return the optimum: from the last layer back, over the next stage's end and kind, and the devices left."""
    n, kinds = len(case.graph.names), {}
    for d in range(len(case.devices)):
        key = (tuple(case.seconds[:, d]), case.capacity_bytes[d], case.send_seconds[d].max())
        kinds.setdefault(key, []).append(d)
    first, counts = [members[0] for members in kinds.values()], tuple(map(len, kinds.values()))
    size = [signal.size for signal in case.graph.signals]

    def load(start: int, end: int, d: int) -> float:
        if case.memory_bytes[start:end].sum() > case.capacity_bytes[d]:
            return float("inf")
        others = [e for e in range(len(case.devices)) if e != d]
        sent = size[end - 1] * case.send_seconds[d, others].max() if end < n else 0.0
        received = size[start - 1] * case.receive_seconds[others, d].max() if start else 0.0
        computing = case.seconds[start:end, d].sum()
        return float(max(computing, sent, received) if case.overlap else computing + sent + received)

    table = {(i, j, d): load(i, j, d) for i in range(n) for j in range(i + 1, n + 1) for d in first}

    @functools.cache
    def best(start: int, left: tuple[int, ...]) -> float:
        if start == n:
            return 0.0
        found = float("inf")
        for k, d in enumerate(first):
            if left[k]:
                fewer = (*left[:k], left[k] - 1, *left[k + 1 :])
                for end in range(start + 1, n + 1):
                    if table[start, end, d] < found:
                        found = min(found, max(table[start, end, d], best(end, fewer)))
        return found

    return best(0, counts)


if __name__ == "__main__":
    main()
