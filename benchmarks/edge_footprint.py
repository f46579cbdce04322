"""edge_footprint: what a core device is sent, and what it holds in memory while it serves, against pip's onnxruntime.

Megabytes of the edge function's package as a zip file, with MobileNet-v2's artifact: of x86_64 and arm64 the larger
one counts. ``ours`` is with the model's 8-bit variant, as the pipeline makes it for jobs that ask for it;
``float32_mb`` is with 32-bit weights. The reference is ``pip install onnxruntime`` with its dependencies, as a zip file
too, and with the same model. ``rss_mb``: the most memory that the process held after any of a hundred requests with
pictures, the model of 32 bits, on this machine, ``peak_mb`` ever, its start included; ``reference_rss_mb``: the same of
a process that imports pip's onnxruntime, opens a session and runs it, with nothing around it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.cold import build_plain
from benchmarks.devices.package import ARCHITECTURES, build, compressed_bytes, device
from benchmarks.layer_size import bare_python, install
from benchmarks.networks import write
from benchmarks.report import report
from isthmus.frameworks.onnx.quantize import quantize
from isthmus.inference.onnx_model import describe_onnx

GOAL_MB, RSS_GOAL_MB, REQUESTS = 35, 130, 100
SERVING = """
import json, sys
from app import handler
with open(sys.argv[1]) as file:
    event = json.load(file)
def held(name):
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(name)).split()[1])
most = 0
for _ in range(int(sys.argv[2])):
    assert handler(event, None)["statusCode"] == 200
    most = max(most, held("VmRSS"))
print(most, held("VmHWM"))
"""
PLAIN = """
import numpy, onnxruntime, sys
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
picture = numpy.zeros((1, 3, 224, 224), "float32")
def held(name):
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(name)).split()[1])
most = 0
for _ in range(int(sys.argv[2])):
    session.run(None, {session.get_inputs()[0].name: picture})
    most = max(most, held("VmRSS"))
print(most, held("VmHWM"))
"""


def memory_mb(code: str, package: Path, variables: dict[str, str], given: Path) -> tuple[float, float]:
    """Return the most megabytes that a process held between requests, and ever."""
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(package)}
    environment |= {"ORT_DISABLE_TELEMETRY": "1", **variables}
    command = [bare_python(), "-S", "-c", code, str(given), str(REQUESTS)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    serving, ever = (int(kib) * 1024 / 1e6 for kib in done.stdout.split())
    return serving, ever


def eight_bits(scratch: Path) -> Path:
    """Return the model's 8-bit variant; which pictures the quantiser is shown changes no size."""
    model = write(
        "mobilenet_v2", scratch
    )  # as it was exported: the quantiser takes no model that is optimised
    (name,) = (entry.name for entry in describe_onnx(model)[0])
    pictures = np.random.default_rng(0).random((2, 3, 224, 224), np.float32)
    (scratch / "quantising").mkdir()
    quantize(model, scratch / "int8.onnx", [{name: pictures}], scratch / "quantising")
    return scratch / "int8.onnx"


def compressed_file_bytes(path: Path, scratch: Path) -> int:
    """Return what a file weighs in a zip file."""
    folder = scratch / f"only {path.stem}"
    folder.mkdir()
    os.link(path, folder / path.name)
    return compressed_bytes(folder, scratch)


def main() -> None:
    """Build, weigh, serve, and print the line."""
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as name:
        scratch = Path(name)
        variables, request, model = device(scratch)
        small, large = (compressed_file_bytes(path, scratch) / 1e6 for path in (eight_bits(scratch), model))
        runtimes, plain = {}, {}
        for architecture, kernels in ARCHITECTURES.items():
            package = build(architecture, scratch / architecture)
            runtimes[architecture] = compressed_bytes(package, scratch) / 1e6
            installed = install(kernels, scratch / f"plain {architecture}", scratch)
            plain[architecture] = compressed_bytes(installed, scratch) / 1e6
        machine = {"aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        rss, peak = memory_mb(SERVING, scratch / machine, variables, request)
        reference_rss, reference_peak = memory_mb(
            PLAIN, build_plain(scratch / "compiled", scratch), {}, model
        )
        largest = max(runtimes, key=lambda architecture: runtimes[architecture])
        report(
            "edge_footprint",
            ours=runtimes[largest] + small,
            reference=plain[largest] + small,
            unit="MB",
            architecture=largest,
            runtime_mb={key: round(value, 2) for key, value in runtimes.items()},
            plain_mb={key: round(value, 2) for key, value in plain.items()},
            model_mb={"int8": round(small, 2), "float32": round(large, 2)},
            float32_mb={key: round(value + large, 2) for key, value in runtimes.items()},
            float32_holds=runtimes[largest] + large <= GOAL_MB,
            rss_mb=round(rss, 1),
            rss_goal_mb=RSS_GOAL_MB,
            rss_holds=rss <= RSS_GOAL_MB,
            peak_mb=round(peak, 1),
            reference_rss_mb=round(reference_rss, 1),
            reference_peak_mb=round(reference_peak, 1),
            reference_is="pip install onnxruntime numpy with their dependencies, and the same model",
        )


if __name__ == "__main__":
    main()
