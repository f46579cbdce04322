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
sys.path.insert(0, str(ROOT / "layers"))

from elf import LOAD, segments  # noqa: E402

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
        "images": build("layers/images", "ImagesLayerX86", folder / "images"),
        "images_arm": build("layers/images", "ImagesLayerArm", folder / "images_arm"),
        "quantization": build("layers/quantization", "QuantizationLayerX86", folder / "quantization"),
        "quantization_arm": build("layers/quantization", "QuantizationLayerArm", folder / "quantization_arm"),
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


DECODE = """
import io
from PIL import Image, ImageOps
for kind in ("JPEG", "PNG"):
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (255, 0, 0)).save(stream, kind, exif=Image.Exif())
    picture = Image.open(io.BytesIO(stream.getvalue()), formats=(kind,))
    picture.draft("RGB", (16, 16))
    print(ImageOps.fit(ImageOps.exif_transpose(picture).convert("L"), (2, 2)).getpixel((0, 0)), end=" ")
"""


@pytest.mark.parametrize("name", ["images", "edge"])
def test_pictures_are_decoded_with_nothing_else(built: dict[str, Path], name: str) -> None:
    folder = built[name] / "python" if name == "images" else built[name]
    assert in_bare_python(DECODE, folder) == "76 76"


def test_the_edge_package_holds_everything_and_starts_without_a_port(
    built: dict[str, Path], model: Path
) -> None:
    code = "import app, cryptography.hazmat.primitives.asymmetric.ec; from importlib.util import find_spec\n"
    code += "print(app.core.cache_info().currsize, find_spec('boto3'))\n" + INFER.format(model=str(model))
    assert in_bare_python(code, built["edge"]) == "0 None\n[[4.0, 6.0]]"


def test_nothing_is_compiled_when_a_function_starts(built: dict[str, Path]) -> None:
    code = """
import importlib.machinery, importlib.util, isthmus.inference.lambda_handler, onnxruntime, aws_lambda_powertools.logging
loaders = [getattr(module.__spec__, "loader", None) for module in list(sys.modules.values())]
files = [loader.path for loader in loaders if isinstance(loader, importlib.machinery.SourceFileLoader)]
cached = [importlib.util.cache_from_source(path) for path in files if path.startswith("/tmp") or "layers" in path]
import os
print(len(cached) > 40, [path for path in cached if not os.path.exists(path)])
"""
    assert in_bare_python(code, built["core"] / "python", built["x86"] / "python") == "True []"


BLAS = """
import numpy as n
a = n.arange(40000.0).reshape(200, 200) % 7 + n.eye(200)
print(round(float(n.linalg.solve(a, a @ a).sum() - a.sum()), 6), n.float32([1, 2]) @ n.float32([3, 4]))
"""


def test_blas_without_other_processors_kernels_still_computes(built: dict[str, Path]) -> None:
    assert in_bare_python(BLAS, built["x86"] / "python").replace("-0.0", "0.0") == "0.0 11.0"


def test_blas_at_the_edge_has_the_kernels_that_the_app_asks_for(built: dict[str, Path]) -> None:
    assert in_bare_python("import app\n" + BLAS, built["edge"]).replace("-0.0", "0.0") == "0.0 11.0"


def test_each_segment_lies_where_a_loader_maps_it(built: dict[str, Path]) -> None:
    for path in [
        file
        for name in ("x86", "arm", "images", "images_arm", "edge_arm")
        for file in built[name].rglob("*.so*")
    ]:
        loads = [segment for segment in segments(path.read_bytes()) if segment.kind == LOAD]
        assert loads, path
        assert all(load.offset % load.align == load.address % load.align for load in loads), path
        assert all(load.end <= path.stat().st_size for load in loads), path
        ends = [load.address + load.memory for load in loads]
        assert all(end <= after.address for end, after in zip(ends, loads[1:], strict=False)), path


QUANTIZE = """
from pathlib import Path
import numpy, isthmus.frameworks.onnx.quantize as module
module.LAYER = Path({layer!r})
batches = [{{"x": numpy.float32([[1, 2]])}}, {{"x": numpy.float32([[3, -4]])}}]
module.quantize(Path({model!r}), Path({out!r}), batches, Path({scratch!r}))
import onnxruntime
session = onnxruntime.InferenceSession({out!r}, providers=["CPUExecutionProvider"])
print(abs(session.run(None, {{"x": numpy.float32([[1, 2]])}})[0] - [[7, 10]]).max() < 0.5)
"""


def test_the_packagers_layers_quantise_with_nothing_else(
    built: dict[str, Path], model: Path, tmp_path: Path
) -> None:
    places = {"layer": built["quantization"] / "quantization", "model": model, "out": tmp_path / "q.onnx"}
    code = QUANTIZE.format(scratch=str(tmp_path), **{name: str(path) for name, path in places.items()})
    assert in_bare_python(code, built["core"] / "python", built["x86"] / "python") == "True"


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
        "images": {"x86_64"},
        "images_arm": {"aarch64"},
        "quantization": {"x86_64"},
        "quantization_arm": {"aarch64"},
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
        ("layers/images", "ImagesLayerX86", "images"),
        ("layers/quantization", "QuantizationLayerX86", "quantization"),
        ("edge_lambda", "EdgeInferFunction", "edge"),
    ],
)
def test_a_second_build_is_the_same_to_the_byte(
    built: dict[str, Path], tmp_path: Path, makefile: str, target: str, name: str
) -> None:
    again = build(makefile, target, tmp_path / "again")
    assert digest(again, "again") == digest(built[name], name)


def test_a_model_of_130_mb_still_fits_beside_the_layers(built: dict[str, Path]) -> None:
    parts = {name: unzipped_bytes(built[name]) for name in ("core", "x86", "images")}
    assert parts["x86"] < 71_000_000
    assert unzipped_bytes(built["arm"]) < 61_000_000
    assert parts["core"] < 30_000_000
    assert parts["images"] < 8_000_000
    check_unzipped({**parts, "model": 130_000_000, "function": 10_000})


@pytest.mark.parametrize(
    "requirements",
    ["layers/core", "layers/onnx_runtime", "layers/images", "layers/quantization", "edge_lambda"],
)
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
