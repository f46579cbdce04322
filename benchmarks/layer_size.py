"""layer_size: what the runtime layer weighs unzipped, against ``pip install onnxruntime numpy`` with dependencies.

Both are installed from the same lock: the layer as ``sam build`` makes it, the reference untouched. Of x86_64 and arm64
the one with the larger ratio counts; both are printed. The layer of this machine's architecture then runs the models of
the test set in a Python that has nothing else, and each must give what the untouched libraries give: networks with
random weights (``benchmarks/networks.py``) and what the ``onnx`` package ships of the model zoo.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from benchmarks.networks import NETWORKS, write
from benchmarks.report import report

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = {"x86_64": ("X86", "x86_64-manylinux_2_28"), "aarch64": ("Arm", "aarch64-manylinux_2_28")}
PACKAGES = ("onnxruntime", "numpy")


RUN = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.path[:0] = [folder for folder in [sys.argv[1]] if folder]
import numpy, onnxruntime
if sys.argv[1]:
    assert onnxruntime.__file__.startswith(sys.argv[1]) and numpy.__file__.startswith(sys.argv[1])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
for path in sys.argv[3:]:
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    random, feeds = numpy.random.default_rng(11), {}
    for entry in session.get_inputs():
        shape = [size if isinstance(size, int) and size > 0 else 1 for size in entry.shape]
        whole = "int" in entry.type
        drawn = random.integers(0, 100, shape).astype("int64") if whole else random.random(shape, "float32")
        feeds[entry.name] = drawn
    name = os.path.basename(path) + ".npz"
    numpy.savez(os.path.join(sys.argv[2], name), *session.run(None, feeds))
"""


def uv() -> str:
    """Return the project's own uv."""
    return os.environ.get("ISTHMUS_UV") or str(ROOT / ".tools/bin/uv")


def weight(folder: Path) -> int:
    """Return the bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def build_layer(architecture: str, folder: Path) -> Path:
    """Build the layer as ``sam build`` does; return what is put on the path."""
    target = f"build-OnnxRuntimeLayer{ARCHITECTURES[architecture][0]}"
    command = ["make", "--silent", "--makefile", "layers/onnx_runtime/Makefile", target]
    environment = {**os.environ, "ARTIFACTS_DIR": str(folder), "UV": uv()}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)
    return folder / "python"


def install(architecture: str, folder: Path, scratch: Path) -> Path:
    """Install the packages and their dependencies, in the versions of the lock, and nothing taken away."""
    pins = scratch / "pins.txt"
    export = [
        "export",
        "--quiet",
        "--frozen",
        "--no-dev",
        "--no-emit-project",
        "--no-hashes",
        "--extra",
        "engine",
    ]
    subprocess.run([uv(), *export, "--output-file", pins], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    command = [
        uv(),
        "pip",
        "install",
        "--quiet",
        "--target",
        folder,
        "--only-binary",
        ":all:",
        "--link-mode",
        "copy",
    ]
    platform_ = ["--python-platform", ARCHITECTURES[architecture][1], "--python-version", "3.13"]
    subprocess.run([*command, *platform_, "--constraint", pins, *PACKAGES], check=True, cwd=ROOT)
    return folder


def models(folder: Path) -> list[Path]:
    """Write the networks; return them and the model zoo's."""
    zoo = Path(onnx.__file__).parent / "backend/test/data/light"
    found = sorted(zoo.glob("*.onnx"))
    if not found:
        raise SystemExit(f"needs the onnx package's models in {zoo}; there are none")
    return [*(write(name, folder) for name in NETWORKS), *found]


def served(layer: Path, scratch: Path) -> tuple[int, int]:
    """Return how many models the layer serves as the untouched libraries do, and how many there are."""
    paths = models(scratch)
    outputs = {}
    for name, python, path in (("plain", sys.executable, ""), ("layer", bare_python(), str(layer))):
        outputs[name] = scratch / name
        outputs[name].mkdir()
        flags = ["-I", "-S", "-B"] if path else ["-B"]
        command = [python, *flags, "-c", RUN, path, str(outputs[name]), *map(str, paths)]
        subprocess.run(command, check=True, cwd=scratch, stdout=sys.stderr)
    right = [
        same(outputs["plain"] / f"{path.name}.npz", outputs["layer"] / f"{path.name}.npz") for path in paths
    ]
    return sum(right), len(paths)


def bare_python() -> str:
    """Return the interpreter that this environment was made from."""
    return str(Path(sys.base_prefix) / f"bin/python{sys.version_info.major}.{sys.version_info.minor}")


def same(before: Path, after: Path) -> bool:
    """Return whether two runs gave the same arrays, NaN where NaN was."""
    with np.load(before) as one, np.load(after) as other:
        if set(one) != set(other):
            return False
        return all(np.allclose(one[name], other[name], rtol=1e-5, atol=1e-6, equal_nan=True) for name in one)


def main() -> None:
    """Build, weigh, run, and print the line."""
    with tempfile.TemporaryDirectory() as name:
        scratch, weights = Path(name), {}
        for architecture in ARCHITECTURES:
            layer = build_layer(architecture, scratch / f"layer-{architecture}")
            plain = install(architecture, scratch / f"plain-{architecture}", scratch)
            weights[architecture] = (weight(layer), weight(plain))
            if architecture == platform.machine():
                right, count = served(layer, scratch)
        heavier = max(weights, key=lambda name: weights[name][0] / weights[name][1])
        ours, reference = weights[heavier]
        if right != count:
            raise SystemExit(f"the layer must serve all {count} models, and serves {right}")
        report(
            "layer_size",
            ours=ours / 1e6,
            reference=reference / 1e6,
            unit="MB",
            architecture=heavier,
            ratios={name: round(own / other, 4) for name, (own, other) in weights.items()},
            megabytes={
                name: [round(own / 1e6, 2), round(other / 1e6, 2)] for name, (own, other) in weights.items()
            },
            models=count,
            served=right,
            reference_is="pip install onnxruntime numpy with their dependencies, in the versions of the lock",
        )


if __name__ == "__main__":
    main()
