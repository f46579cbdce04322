"""Slices of a PyTorch program that learn, on the CPU.

The program's outputs are losses, each a mean over the samples that it was given: of a step's micro-batches the mean
is made small, as by ``(loss / microbatches).backward()`` for each of them and ``optimizer.step()``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.errors import InvalidInput, InvalidJob
from isthmus.frameworks.sliced import Operator, SliceForm
from isthmus.frameworks.torch import SAVED
from isthmus.frameworks.torch.cut import Cuttable, piece
from isthmus.frameworks.torch.saved import load
from isthmus.frameworks.trainable import Arrays, Recipe, check_weights, mask, writable

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad"}
"""Those whose state is tensors of each parameter."""


def read(model: Path) -> TorchNetwork:
    """Read an exported program (``torch.export.save``), by a copy without whatever would be unpickled (``archive``).

    Raises:
        InvalidModel: it cannot be read, or cannot be trained in slices.
    """
    return TorchNetwork(Cuttable.of(_program(model)))


def fill(served: Path, weights: Arrays, target: Path) -> None:
    """As ``trainable.fill``; ``served``: a ``.pt2`` file of the module in evaluation mode, or its folder."""
    torch = importlib.import_module("torch")
    program = _program(served)
    learned = {name for name, value in program.named_parameters() if value.requires_grad}
    # What nothing was learned of, such as a table of positions, no slice kept: it is as served.
    held = {name: value for name, value in program.state_dict.items() if name in learned or name in weights}
    check_weights({name: value.shape for name, value in held.items()}, weights)
    with torch.no_grad():
        for name, value in held.items():
            value.copy_(torch.from_numpy(writable(weights[name])))
    target.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, str(target / SAVED))


def _program(model: Path) -> Any:
    return load(model / SAVED if model.is_dir() else model)


@dataclass(frozen=True)
class TorchNetwork:
    """A program."""

    whole: Cuttable

    @property
    def operators(self) -> Sequence[Operator]:
        return self.whole.operators

    @property
    def digest(self) -> str:
        return self.whole.digest

    def divide(self, cuts: Sequence[int], recipe: Recipe) -> TorchDivision:
        return TorchDivision(self.whole, self.whole.divide(cuts), recipe)


@dataclass(frozen=True)
class TorchDivision:
    """A program with its slices."""

    whole: Cuttable
    forms: tuple[SliceForm, ...]
    recipe: Recipe

    def slice(self, number: int) -> TorchSlice:
        return TorchSlice(self.whole, self.forms[number], self.recipe)


class TorchSlice:
    """One slice."""

    def __init__(self, whole: Cuttable, form: SliceForm, recipe: Recipe) -> None:
        self.form = form
        self._torch = importlib.import_module("torch")
        self._recipe = recipe
        self._piece = piece(whole, form)
        self._names = {name: whole.names[name] for name in form.parameters}
        self._learned = [name for name in form.parameters if name in whole.learned]
        self._values = {
            name: whole.values[name].detach().clone().requires_grad_(name in whole.learned)
            for name in (*form.parameters, *self._piece.constants)
        }
        self._steps = 0
        self._optimizer = self._new_optimizer()
        self._under_way: dict[int, tuple[Any, dict[str, Any]]] = {}

    def forward(self, step: int, microbatch: int, tensors: Arrays) -> dict[str, Any]:
        if missing := [name for name in (*self.form.inputs, *self.form.reads) if name not in tensors]:
            raise InvalidInput(
                f"slice {self.form.number} needs {', '.join(missing)}; it got {sorted(tensors)}"
            )
        given: dict[str, Any] = {}
        back: dict[str, Any] = {}
        for name in (*self.form.inputs, *self.form.reads):
            given[name] = self._torch.from_numpy(writable(tensors[name]))
            if name in self.form.reads and name in self.form.differentiable:
                given[name].requires_grad_(True)
                # A leaf's own sum would be laid out as the leaf is; what comes to it is not.
                given[name].register_hook(lambda gradient, name=name: back.__setitem__(name, gradient))
        for name, dropout in self._piece.dropouts.items():
            values = mask(self._recipe.seed, step, microbatch, *dropout)
            given[name] = self._torch.from_numpy(values)
        placed = {**given, **self._values}
        try:
            outputs = self._piece.module(*[placed[name] for name in self._piece.arguments])
        except RuntimeError as error:
            raise InvalidInput(f"slice {self.form.number} cannot compute this: {error}") from error
        self._under_way[microbatch] = (outputs, back)
        return {
            name: output.detach().numpy() for name, output in zip(self._piece.heads, outputs, strict=True)
        }

    def backward(self, microbatch: int, gradients: Arrays) -> dict[str, Any]:
        outputs, back = self._under_way.pop(microbatch)
        roots, sums = [], []
        for name, output in zip(self._piece.heads, outputs, strict=True):
            if not output.requires_grad:
                continue
            if name in gradients:
                roots.append(output)
                sums.append(self._torch.from_numpy(writable(gradients[name])))
            elif name in self.form.outputs:
                roots.append(output)
                sums.append(self._torch.full_like(output, 1 / self._recipe.microbatches))
        if roots:
            self._torch.autograd.backward(roots, sums)
        return {name: gradient.numpy() for name, gradient in back.items()}

    def step(self) -> None:
        if self._optimizer is not None:
            self._optimizer.step()
            self._optimizer.zero_grad()
        self._steps += 1

    def state(self) -> dict[str, Any]:
        import numpy as np

        found: dict[str, Any] = {"steps": np.array(self._steps)}
        for name, own in self._names.items():
            kind = "parameter" if name in self._learned else "statistic"
            found[f"{kind}:{own}"] = _copied(self._values[name])
        for name in self._learned if self._optimizer is not None else ():
            for key, value in sorted(self._optimizer.state[self._values[name]].items()):
                if value is not None:
                    found[f"optimizer:{self._names[name]}:{key}"] = _copied(value)
        return found

    def load(self, state: Arrays) -> None:
        with self._torch.no_grad():
            for name, own in self._names.items():
                key = f"{'parameter' if name in self._learned else 'statistic'}:{own}"
                if key not in state or tuple(state[key].shape) != tuple(self._values[name].shape):
                    raise InvalidInput(
                        f"slice {self.form.number} has no {key} in this state; it is another slice's"
                    )
                self._values[name].copy_(self._torch.from_numpy(writable(state[key])))
        self._steps = int(state["steps"])
        for name in self._learned:
            self._values[name].grad = None
        self._optimizer = self._new_optimizer()
        for name in self._learned:
            prefix = f"optimizer:{self._names[name]}:"
            held = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
            if held:
                self._optimizer.state[self._values[name]] = {
                    key: self._torch.from_numpy(writable(value).copy()) for key, value in held.items()
                }
        self._under_way = {}

    def gradients(self) -> dict[str, Any]:
        """Return copies of the sums so far, by parameter."""
        return {self._names[name]: _copied(self._values[name].grad) for name in self._learned}

    def _new_optimizer(self) -> Any:
        if self._recipe.optimizer not in OPTIMIZERS:
            raise InvalidJob(
                f"slices learn by {', '.join(OPTIMIZERS)}; {self._recipe.optimizer!r} is none of them, or keeps what "
                "cannot be written as plain arrays"
            )
        if not self._learned:
            return None
        make = getattr(self._torch.optim, OPTIMIZERS[self._recipe.optimizer])
        try:
            return make([self._values[name] for name in self._learned], **self._recipe.options)
        except (TypeError, ValueError) as error:
            raise InvalidJob(
                f"PyTorch's {self._recipe.optimizer} does not take {dict(self._recipe.options)}: {error}"
            ) from error


def _copied(tensor: Any) -> Any:
    return tensor.detach().clone().numpy()
