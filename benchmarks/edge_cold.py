"""edge_cold: from the start of the edge function's process to its first prediction, against the engine alone.

Ours: a Python that has the edge function's package alone, as a core device gets it, starts with a model that is in
service: it verifies its signature and its digests, opens a session, listens on loopback, and answers an event with a
picture. The reference: the same Python imports onnxruntime as pip installs it, of the same version, and opens a session
on the same model; it runs nothing. The model is MobileNet-v2. The device's folders are read-only to the function, so
nothing compiles bytecode. Both take turns; of each the quickest round counts. ``parts_ms`` says where the time of ours
goes; ``one_core_ratio`` is the ratio where there is one core alone.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.cold import ROUNDS, Starter, build_plain, turns
from benchmarks.devices.package import build, device
from benchmarks.report import report

OURS = """
import time; begun = time.perf_counter()
import json, sys
from app import handler
served = time.perf_counter()
with open(sys.argv[1]) as file:
    answer = handler(json.load(file), None)
replied = time.perf_counter()
assert answer["statusCode"] == 200, answer
print(json.dumps({"in_service": served - begun, "first_prediction": replied - served}), flush=True)
"""


def main() -> None:
    """Build, measure, and print the line."""
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as name:
        scratch = Path(name)
        machine = {"aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        package = build(machine, scratch / "package")
        variables, request, model = device(scratch)
        ours, reference = (
            Starter([package], variables),
            Starter([build_plain(scratch / "plain", scratch)], {}),
        )
        ours.milliseconds(OURS, request)  # brings the model into service
        first = min(os.sched_getaffinity(0))
        single = Starter([package], {**variables, "ISTHMUS_EDGE_THREADS": "1"})
        one = turns(single, [reference], request, model, first, OURS)
        everywhere = turns(ours, [reference], request, model, None, OURS)
        quickest = [min(values) for values in everywhere]
        report(
            "edge_cold",
            ours=quickest[0],
            reference=quickest[1],
            unit="ms",
            ratio_of_medians=round(statistics.median(everywhere[0]) / statistics.median(everywhere[1]), 4),
            one_core_ratio=round(min(one[0]) / min(one[1]), 4),
            one_core_ms=[round(min(values), 1) for values in one],
            parts_ms={part: round(min(said[part] for said in ours.said) * 1000, 1) for part in ours.said[0]},
            rounds=ROUNDS,
            reference_is="python, import onnxruntime as pip installs it, and a session on the same model",
        )


if __name__ == "__main__":
    main()
