"""The layers as `sam build` makes them: real wheels, trimmed, used by a Python that has nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isthmus.inference.archive import pack_bundle
from isthmus.inference.limits import check_unzipped, unzipped_bytes

ROOT = Path(__file__).parents[3]
MACHINES = {0x3E: "x86_64", 0xB7: "aarch64"}
"""``e_machine`` of ELF headers (System V ABI)."""

pytestmark = pytest.mark.slow


def build(makefile: str, target: str, folder: Path, **environment: str) -> Path:
    command = ["make", "--silent", "--makefile", f"{makefile}/Makefile", f"build-{target}"]
    variables = {**os.environ, "ARTIFACTS_DIR": str(folder), **environment}
    subprocess.run(command, cwd=ROOT, env=variables, check=True, capture_output=True, text=True)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("layers")
    return {
        "core": build("layers/core", "CoreLayer", folder / "core"),
        "x86": build("layers/onnx_runtime", "OnnxRuntimeLayerX86", folder / "x86"),
        "arm": build("layers/onnx_runtime", "OnnxRuntimeLayerArm", folder / "arm"),
        "edge": build("edge_lambda", "EdgeInferFunction", folder / "edge"),
        "edge_arm": build("edge_lambda", "EdgeInferFunction", folder / "edge_arm", EDGE_ARCH="arm64"),
    }


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.float32([[1, 2], [3, 4]]), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def in_bare_python(code: str, *paths: Path) -> str:
    """Run in a Python that finds the standard library and ``paths``, nothing else."""
    start = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n"
    command = [str(Path(sys.base_prefix) / "bin/python3.13"), "-I", "-S", "-B", "-c", start + code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    # A warning here would stand in the log of every cold start.
    assert result.stderr == ""
    return result.stdout.strip()


INFER = """
import numpy, onnxruntime
session = onnxruntime.InferenceSession({model!r}, providers=["CPUExecutionProvider"])
print(session.run(None, {{"x": numpy.ones((1, 2), "float32")}})[0].tolist())
"""


def test_the_trimmed_layer_infers_with_nothing_else(built: dict[str, Path], model: Path) -> None:
    assert in_bare_python(INFER.format(model=str(model)), built["x86"] / "python") == "[[4.0, 6.0]]"


def test_numpy_keeps_what_processing_and_others_may_use(built: dict[str, Path]) -> None:
    code = "import numpy as n, numpy.testing, numpy.lib.format\n"
    code += "print(n.linalg.det(n.eye(2)), n.fft.fft([1]), n.random.default_rng(1).integers(9))"
    assert in_bare_python(code, built["x86"] / "python").startswith("1.0")


def test_core_has_what_the_functions_import_and_boto3_is_lambdas(built: dict[str, Path]) -> None:
    code = """
import aws_lambda_powertools, cryptography.hazmat.primitives.asymmetric.ec, msgspec, yaml
import isthmus.inference.lambda_handler, isthmus.workflows
from importlib.util import find_spec
print([name for name in ("boto3", "botocore", "numpy", "onnxruntime") if find_spec(name)])
"""
    assert in_bare_python(code, built["core"] / "python") == "[]"


def test_the_edge_package_holds_everything_and_starts_without_a_port(
    built: dict[str, Path], model: Path
) -> None:
    code = "import app, cryptography.hazmat.primitives.asymmetric.ec; from importlib.util import find_spec\n"
    code += "print(app.core.cache_info().currsize, find_spec('boto3'))\n" + INFER.format(model=str(model))
    assert in_bare_python(code, built["edge"]) == "0 None\n[[4.0, 6.0]]"


def machines(folder: Path) -> set[str]:
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and (head := path.open("rb").read(20))[:4] == b"\x7fELF":
            found.add(MACHINES[int.from_bytes(head[18:20], "little")])
    return found


def test_each_architecture_is_of_one_kind(built: dict[str, Path]) -> None:
    kinds = {name: machines(folder) for name, folder in built.items()}
    assert kinds == {
        "core": {"x86_64"},
        "x86": {"x86_64"},
        "arm": {"aarch64"},
        "edge": {"x86_64"},
        "edge_arm": {"aarch64"},
    }


def digest(folder: Path, name: str) -> str:
    """Content, names, modes and times: all that a zip archive of the folder would hold."""
    content = hashlib.sha256(pack_bundle(folder, folder.parent / f"{name}.zip").path.read_bytes())
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        status = path.stat()
        content.update(f"{path.relative_to(folder)} {status.st_mode} {status.st_mtime}".encode())
    return content.hexdigest()


@pytest.mark.parametrize(
    ("makefile", "target", "name"),
    [
        ("layers/core", "CoreLayer", "core"),
        ("layers/onnx_runtime", "OnnxRuntimeLayerX86", "x86"),
        ("layers/onnx_runtime", "OnnxRuntimeLayerArm", "arm"),
        ("edge_lambda", "EdgeInferFunction", "edge"),
    ],
)
def test_a_second_build_is_the_same_to_the_byte(
    built: dict[str, Path], tmp_path: Path, makefile: str, target: str, name: str
) -> None:
    again = build(makefile, target, tmp_path / "again")
    assert digest(again, "again") == digest(built[name], name)


def test_a_model_of_130_mb_still_fits_beside_the_layers(built: dict[str, Path]) -> None:
    parts = {name: unzipped_bytes(built[name]) for name in ("core", "x86")}
    assert parts["x86"] < 82_000_000
    assert unzipped_bytes(built["arm"]) < 73_000_000
    assert parts["core"] < 26_000_000
    check_unzipped({**parts, "model": 130_000_000, "function": 10_000})


@pytest.mark.parametrize("requirements", ["layers/core", "layers/onnx_runtime", "edge_lambda"])
def test_requirements_are_what_the_lock_says(requirements: str) -> None:
    lock = (ROOT / "uv.lock").read_text()
    lines = (ROOT / requirements / "requirements.txt").read_text().splitlines()
    pins = [line.split(" ")[0] for line in lines if "==" in line.split(" ")[0]]
    hashes = [word.removeprefix("--hash=") for line in lines for word in line.split() if "sha256:" in word]
    assert pins
    assert hashes
    for name, _, version in (pin.partition("==") for pin in pins):
        assert f'name = "{name}"\nversion = "{version}"' in lock, f"run `make -C layers lock`: {name}"
    for value in hashes:
        assert value in lock
