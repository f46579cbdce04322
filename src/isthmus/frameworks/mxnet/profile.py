"""From what an MXNet script saved to a network profile: by way of its ONNX export, which is what is served."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from isthmus.errors import EnvironmentProblem
from isthmus.frameworks.mxnet import FRAMEWORK
from isthmus.frameworks.onnx.profile import profile as profile_onnx
from isthmus.model.network import NetworkProfile

EXPORTED = "model.onnx"


def profile(model_dir: Path, dimensions: Mapping[str, int] | None = None) -> NetworkProfile:
    """Read ``model-symbol.json`` and its companions. Where ``model.onnx`` lies beside them, as after a training, it is
    taken; else MXNet exports it.

    Raises:
        InvalidModel: a file is missing or cannot be read, or an operator cannot be exported.
        EnvironmentProblem: it is not exported yet, and this interpreter has no MXNet.
    """
    if (model_dir / EXPORTED).is_file():
        return _named(profile_onnx(model_dir / EXPORTED, dimensions, source="mxnet"), model_dir)
    if importlib.util.find_spec(FRAMEWORK.module) is None:
        raise EnvironmentProblem(
            f"needs MXNet, or the model as {EXPORTED}; there is neither: export it in MXNet's environment with "
            f"`python -m isthmus.frameworks.export --framework mxnet --model-dir {model_dir} --tolerance 1e-4`"
        )
    FRAMEWORK.prepare()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / EXPORTED
        FRAMEWORK.export(model_dir, target)
        return _named(profile_onnx(target, dimensions, source="mxnet"), model_dir)


def _named(found: NetworkProfile, model_dir: Path) -> NetworkProfile:
    return msgspec.structs.replace(found, name=model_dir.absolute().name)
