"""Any model that can be planned with, to its profile: the reader is chosen by what the file is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from isthmus.errors import InvalidModel
from isthmus.frameworks.port import framework, known
from isthmus.model.network import NetworkProfile

TORCH = ".pt2"
Reader = Callable[[Path, Mapping[str, int] | None], NetworkProfile]


def profile(path: Path, dimensions: Mapping[str, int] | None = None) -> NetworkProfile:
    """Return the profile of an ONNX file, of a folder that an MXNet script left, or of a ``torch.export`` file.

    ``dimensions``: sizes of named open dimensions other than the batch.

    Raises:
        InvalidModel: it is none of them, or cannot be read.
        EnvironmentProblem: what reads it is not installed.
    """
    return _reader(_kind(path))(path, dimensions)


def _kind(path: Path) -> str:
    if path.is_dir():
        found = [name for name in known() if framework(name).is_saved(path)]
        if not found:
            raise InvalidModel(f"{path} is a folder that holds no saved network; name a model file")
        return found[0]
    return "torch" if path.suffix == TORCH else "onnx"


def _reader(kind: str) -> Reader:
    # By name: what plans with profiles must not depend on the frameworks that some of them come from.
    found: Reader = importlib.import_module(f"isthmus.frameworks.{kind}.profile").profile
    return found
