"""cold: from the start of a process to a function's first reply, against the engine alone.

Ours: a Python with the two layers and ``functions/serve_model`` alone, as Lambda has them, takes an event of API
Gateway with a picture in base64, verifies the bundle, and answers. The reference: the same Python imports
onnxruntime as pip installs it, of the same version, and opens a session on the same model; it runs nothing. Neither
compiles anything, and one BLAS thread is as quick as it gets for both. The model is MobileNet-v2, whose first run is
part of ours.
``same_layer_ratio`` is against the same process with the engine from our trimmed layer, which imports faster.

Both take turns; of each the quickest round counts. ``parts_ms`` says where the time of ours goes, by its own clock; and
``one_core_ratio`` is the ratio where there is one core alone, so that nothing can be done beside the import.
"""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.handler import SHAPE, event, make_bundle, settings
from benchmarks.layer_size import bare_python, build_layer, install, uv
from benchmarks.report import report
from isthmus.documents import sha256
from isthmus.inference.runtime import MEMORY_MB_PER_VCPU
from isthmus.model.bundle import MANIFEST_FILE, MODEL_FILE

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 25

OURS = """
import time; begun = time.perf_counter()
import json, sys
from app import handler
imported = time.perf_counter()
class Context:
    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "cold"
with open(sys.argv[1]) as file:
    answer = handler(json.load(file), Context())
replied = time.perf_counter()
assert answer["statusCode"] == 200, answer
print(json.dumps({"imports": imported - begun, "first_reply": replied - imported}), flush=True)
"""
REFERENCE = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print("{}", flush=True)
"""


def build_core(folder: Path) -> Path:
    """Build the core layer as ``sam build`` does."""
    command = ["make", "--silent", "--makefile", "layers/core/Makefile", "build-CoreLayer"]
    environment = {**os.environ, "ARTIFACTS_DIR": str(folder), "UV": uv()}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)
    return folder / "python"


class Starter:
    """Starts processes that know nothing but what Lambda would tell them."""

    def __init__(self, paths: list[Path], variables: dict[str, str]) -> None:
        fixed = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._environment = {**fixed, "ORT_DISABLE_TELEMETRY": "1", **variables}
        self._environment["PYTHONPATH"] = ":".join(map(str, paths))
        self.said: list[dict[str, float]] = []

    def milliseconds(self, code: str, *arguments: object, core: int | None = None) -> float:
        """Return how long it took from a process's start to its line: the reply, or that the session is there."""
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        command = [*pinned, bare_python(), "-S", "-c", code, *map(str, arguments)]
        begun = time.perf_counter()
        with subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            taken = (time.perf_counter() - begun) * 1000
        if process.returncode:
            raise SystemExit("the process ended badly")
        self.said.append(json.loads(line))
        return taken


def turns(
    ours: Starter, references: list[Starter], request: Path, model: Path, core: int | None, code: str = OURS
) -> list[list[float]]:
    """Return the milliseconds of ours and of each reference, from rounds in which they take turns."""
    threads = 1 if core is not None else len(os.sched_getaffinity(0))
    rounds = [
        [
            ours.milliseconds(code, request, core=core),
            *(entry.milliseconds(REFERENCE, model, threads, core=core) for entry in references),
        ]
        for _ in range(ROUNDS + 1)
    ]
    # The first of each found nothing in the machine's own cache.
    return [list(column) for column in zip(*rounds[1:], strict=True)]


def build_plain(folder: Path, scratch: Path) -> Path:
    """Install onnxruntime as pip does: everything, and its bytecode beside it."""
    install(os.uname().machine, folder, scratch)
    compileall.compile_dir(folder, quiet=1)
    return folder


def main() -> None:
    """Build, measure, and print the line."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        engine = build_layer(os.uname().machine, scratch / "engine")
        core = build_core(scratch / "core")
        folder, request = scratch / "bundle", scratch / "event.json"
        variables = settings(folder, make_bundle(folder))
        variables["ISTHMUS_BUNDLE_SHA256"] = sha256((folder / MANIFEST_FILE).read_bytes())
        picture = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
        request.write_text(json.dumps(event(picture)))
        paths = [ROOT / "functions/serve_model", core, engine]
        ours = Starter(paths, variables)
        references = [Starter([build_plain(scratch / "plain", scratch)], {}), Starter([engine], {})]
        small = {**variables, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB_PER_VCPU)}
        first = min(os.sched_getaffinity(0))
        one = turns(Starter(paths, small), references[:1], request, folder / MODEL_FILE, first)
        everywhere = turns(ours, references, request, folder / MODEL_FILE, None)
        quickest = [min(values) for values in everywhere]
        report(
            "cold",
            ours=quickest[0],
            reference=quickest[1],
            unit="ms",
            ratio_of_medians=round(statistics.median(everywhere[0]) / statistics.median(everywhere[1]), 4),
            same_layer_ratio=round(quickest[0] / quickest[2], 4),
            one_core_ratio=round(min(one[0]) / min(one[1]), 4),
            one_core_ms=[round(min(values), 1) for values in one],
            parts_ms={part: round(min(said[part] for said in ours.said) * 1000, 1) for part in ours.said[0]},
            rounds=ROUNDS,
            reference_is="python, import onnxruntime as pip installs it, and a session on the same model",
        )


if __name__ == "__main__":
    main()
