"""A model as a PyTorch script saves it: an exported program (``torch.export.save``)."""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.errors import InvalidModel
from isthmus.frameworks.port import Arrays, Input
from isthmus.frameworks.torch import archive


def load(path: Path) -> Any:
    """Return the program of a ``.pt2`` file, read from a copy without whatever PyTorch would unpickle (``archive``).

    Raises:
        InvalidModel: it cannot be read.
    """
    torch = importlib.import_module("torch")
    try:
        with tempfile.TemporaryDirectory() as folder:
            clean = Path(folder) / path.name
            archive.copy(path, clean)
            return torch.export.load(str(clean))
    except InvalidModel:
        raise
    except Exception as error:  # PyTorch's errors have no common base
        raise InvalidModel(f"{path.name} cannot be read: {error!r}"[:400]) from error


@dataclass(frozen=True)
class SavedProgram:
    """An exported program and its inputs, each with the shape that it was exported for."""

    program: Any
    inputs: tuple[Input, ...]

    @classmethod
    def read(cls, path: Path) -> SavedProgram:
        """Load a ``.pt2`` file, by a copy without whatever PyTorch would unpickle (``archive``).

        Raises:
            InvalidModel: it cannot be read, or takes something else than tensors.
        """
        program = load(path)
        return cls(program, _inputs(program))

    def run(self, arrays: Arrays) -> list[Any]:
        """Compute the outputs on the CPU."""
        torch = importlib.import_module("torch")
        tensors = [torch.from_numpy(arrays[entry.name]) for entry in self.inputs]
        with torch.no_grad():
            found = self.program.module()(*tensors)
        outputs = found if isinstance(found, tuple | list) else [found]
        return [output.numpy() for output in outputs]

    def export(self, target: Path) -> None:
        """Write it as ONNX, with its weights in the one file.

        Raises:
            InvalidModel: PyTorch's exporter refuses it.
        """
        torch = importlib.import_module("torch")
        try:
            torch.onnx.export(self.program, f=str(target), dynamo=True, verbose=False, external_data=False)
        except Exception as error:  # PyTorch's errors have no common base
            raise InvalidModel(f"PyTorch cannot export {target.stem} to ONNX: {error!r}"[:400]) from error


def _inputs(program: Any) -> tuple[Input, ...]:
    """Return the inputs in the order in which the program takes them; sizes left open as they were in the example.

    Source: docs.pytorch.org, "torch.export", ``ExportGraphSignature.user_inputs``.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    found = []
    for name in program.graph_signature.user_inputs:
        shape = getattr(values.get(name), "shape", None)
        if shape is None:
            raise InvalidModel(f"the network's input {name} is no tensor, and only tensors are served")
        found.append(Input(name, tuple(_example_size(size) for size in shape)))
    return tuple(found)


def _example_size(size: Any) -> int:
    """An open dimension has no size of its own: 1, which is replaced by each batch size that is tried."""
    return size if isinstance(size, int) else 1
