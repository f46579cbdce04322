"""From a ``torch.export`` file to a network profile: by way of PyTorch's own ONNX exporter.

PyTorch loads a copy without pickles and code (:mod:`archive`), never the file itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from isthmus.errors import EnvironmentProblem, InvalidModel
from isthmus.frameworks.onnx.profile import profile as profile_onnx
from isthmus.frameworks.torch import SAVED, archive
from isthmus.model.network import NetworkProfile

NEEDED = ("torch", "onnxscript")


def profile(path: Path, dimensions: Mapping[str, int] | None = None) -> NetworkProfile:
    """Read an exported program (``torch.export.save``, a ``.pt2`` file) and return its profile.

    Raises:
        InvalidModel: it needs what could run code, or PyTorch cannot read or export it.
        EnvironmentProblem: this interpreter lacks PyTorch or onnxscript.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise EnvironmentProblem(
            f"needs {' and '.join(missing)} to read {path.name}; install it, or export the model to ONNX where it was "
            f"trained (torch.onnx.export) and profile that"
        )
    path = path / SAVED if path.is_dir() else path
    torch = importlib.import_module("torch")
    with tempfile.TemporaryDirectory() as folder:
        safe, target = Path(folder) / "program.pt2", Path(folder) / f"{path.stem}.onnx"
        archive.copy(path, safe)
        try:
            program = torch.export.load(str(safe))
            torch.onnx.export(program, f=str(target), dynamo=True, verbose=False)
        except Exception as error:  # PyTorch's errors have no common base
            raise InvalidModel(f"PyTorch cannot export {path.name} to ONNX: {error!r}"[:400]) from error
        found = profile_onnx(target, dimensions, source="torch")
    return msgspec.structs.replace(found, name=path.stem)
