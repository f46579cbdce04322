"""A model as a SageMaker MXNet script saves it.

``model-symbol.json`` and ``model-0000.params`` come from ``HybridBlock.export``; ``model-shapes.json``
is a list of ``{"name": …, "shape": […]}``, the file that SageMaker's MXNet images write and read
(sagemaker-mxnet-inference-toolkit, ``DEFAULT_MODEL_FILENAMES``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.errors import InvalidModel
from isthmus.frameworks.port import Arrays, Input

SYMBOL_FILE = "model-symbol.json"
PARAMS_FILE = "model-0000.params"
SHAPES_FILE = "model-shapes.json"


def read_shapes(path: Path) -> tuple[Input, ...]:
    """Return the network's inputs.

    Raises:
        InvalidModel: the file is not a non-empty list of names and shapes of positive integers.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        inputs = tuple(Input(str(entry["name"]), tuple(map(int, entry["shape"]))) for entry in entries)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidModel(f"{path.name} cannot be read: {error!r}") from error
    if not inputs or any(size < 1 for entry in inputs for size in entry.shape):
        example = '[{"name": "data", "shape": [1, 3, 224, 224]}]'
        raise InvalidModel(f"{path.name} must list inputs with positive shapes, for example {example}")
    return inputs


@dataclass(frozen=True)
class SavedModel:
    """A symbol, its parameters by plain name (arguments and auxiliary states alike), and its inputs."""

    symbol: Any
    params: dict[str, Any]
    inputs: tuple[Input, ...]

    @classmethod
    def read(cls, model_dir: Path) -> SavedModel:
        """Load the three files.

        Raises:
            InvalidModel: one is missing, cannot be read, or does not fit the others.
        """
        missing = [
            name for name in (SYMBOL_FILE, PARAMS_FILE, SHAPES_FILE) if not (model_dir / name).is_file()
        ]
        if missing:
            raise InvalidModel(f"the script left no {' and no '.join(missing)} in SM_MODEL_DIR")
        import mxnet

        inputs = read_shapes(model_dir / SHAPES_FILE)
        try:
            symbol = mxnet.sym.load(str(model_dir / SYMBOL_FILE))
            # A network without parameters saves, and so loads, an empty list.
            stored = mxnet.nd.load(str(model_dir / PARAMS_FILE)) or {}
        except mxnet.MXNetError as error:
            raise InvalidModel(f"the saved model cannot be read: {error}") from error
        # Names are stored as "arg:dense0_weight" and "aux:batchnorm0_running_mean".
        model = cls(symbol, {name.partition(":")[2] or name: value for name, value in stored.items()}, inputs)
        model._check()
        return model

    def _check(self) -> None:
        free = [name for name in self.symbol.list_inputs() if name not in self.params]
        named = [entry.name for entry in self.inputs]
        if sorted(free) != sorted(named):
            raise InvalidModel(f"the network's inputs are {free}, but {SHAPES_FILE} lists {named}")

    def run(self, arrays: Arrays) -> list[Any]:
        """Compute the outputs with MXNet, in inference mode, on the CPU."""
        import mxnet

        bound = {name: mxnet.nd.array(value) for name, value in arrays.items()}
        arguments = {name: (bound | self.params)[name] for name in self.symbol.list_arguments()}
        states = {name: self.params[name] for name in self.symbol.list_auxiliary_states()}
        executor = self.symbol.bind(mxnet.cpu(), arguments, aux_states=states, grad_req="null")
        return [output.asnumpy() for output in executor.forward(is_train=False)]

    def output_shapes(self, batch: int) -> list[tuple[int, ...]]:
        """Return the outputs' shapes for a batch size, without computing anything."""
        shapes = {entry.name: (batch, *entry.shape[1:]) for entry in self.inputs}
        _, outputs, _ = self.symbol.infer_shape(**shapes, **{n: v.shape for n, v in self.params.items()})
        return [tuple(shape) for shape in outputs]
