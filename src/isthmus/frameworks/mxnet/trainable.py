"""Slices of an MXNet symbol that learn: an executor for each micro-batch under way, one set of parameters.

The loss is a part of the symbol: each of its outputs is one, and what they add up to, over the samples, is made small,
as by ``loss.backward()`` and ``trainer.step(samples)`` of Gluon.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.errors import InvalidInput, InvalidJob
from isthmus.frameworks.mxnet.cut import Cuttable, piece
from isthmus.frameworks.mxnet.saved import PARAMS_FILE, SHAPES_FILE, SYMBOL_FILE, SavedModel
from isthmus.frameworks.sliced import Operator, SliceForm
from isthmus.frameworks.trainable import Arrays, Recipe, check_weights, mask

OPTIMIZERS = ("sgd", "nag", "adam", "rmsprop", "adagrad", "adadelta")
"""Those whose state is arrays for each parameter, and a count of steps."""


def read(model: Path) -> MXNetNetwork:
    """Read what ``saved.SavedModel`` reads: a symbol with its losses as outputs, its parameters, and its inputs.

    Raises:
        InvalidModel: it cannot be read, or cannot be trained in slices.
    """
    saved = SavedModel.read(model)
    return MXNetNetwork(Cuttable.of(saved.symbol, saved.params), saved.params)


def fill(served: Path, weights: Arrays, target: Path) -> None:
    """As ``trainable.fill``."""
    import mxnet

    saved = SavedModel.read(served)
    check_weights({name: value.shape for name, value in saved.params.items()}, weights)
    states = set(saved.symbol.list_auxiliary_states())
    stored = {
        f"{'aux' if name in states else 'arg'}:{name}": mxnet.nd.array(weights[name], dtype=value.dtype)
        for name, value in saved.params.items()
    }
    target.mkdir(parents=True, exist_ok=True)
    for name in (SYMBOL_FILE, SHAPES_FILE):
        shutil.copyfile(served / name, target / name)
    mxnet.nd.save(str(target / PARAMS_FILE), stored)


@dataclass(frozen=True)
class MXNetNetwork:
    """A symbol. ``params``: NDArrays by name, arguments and auxiliary states alike."""

    whole: Cuttable
    params: Mapping[str, Any]

    @property
    def operators(self) -> Sequence[Operator]:
        return self.whole.operators

    @property
    def digest(self) -> str:
        return self.whole.digest

    def divide(self, cuts: Sequence[int], recipe: Recipe) -> MXNetDivision:
        return MXNetDivision(*self.whole.divide(cuts), self.params, recipe)


@dataclass(frozen=True)
class MXNetDivision:
    """A symbol with its slices."""

    whole: Cuttable
    forms: tuple[SliceForm, ...]
    params: Mapping[str, Any]
    recipe: Recipe

    def slice(self, number: int) -> MXNetSlice:
        form = self.forms[number]
        own = {name: self.params[name].copy() for name in form.parameters}
        return MXNetSlice(self.whole, form, self.recipe, own)


class MXNetSlice:
    """One slice, computed on the CPU."""

    def __init__(self, whole: Cuttable, form: SliceForm, recipe: Recipe, own: Mapping[str, Any]) -> None:
        import mxnet

        self.form = form
        self._recipe = recipe
        self._piece = piece(whole, form)
        self._symbol = mxnet.sym.load_json(self._piece.text)
        states = set(self._symbol.list_auxiliary_states())
        self._parameters = {name: value for name, value in own.items() if name not in states}
        self._statistics = {name: value for name, value in own.items() if name in states}
        self._gradients = {name: mxnet.nd.zeros_like(value) for name, value in self._parameters.items()}
        self._learning = _Learning(recipe, self._parameters)
        self._idle: list[Any] = []
        self._under_way: dict[int, Any] = {}

    def forward(self, step: int, microbatch: int, tensors: Arrays) -> dict[str, Any]:
        import mxnet

        if missing := [name for name in (*self.form.inputs, *self.form.reads) if name not in tensors]:
            raise InvalidInput(
                f"slice {self.form.number} needs {', '.join(missing)}; it got {sorted(tensors)}"
            )
        executor = self._idle.pop() if self._idle else self._bind(tensors)
        try:
            for name in (*self.form.inputs, *self.form.reads):
                _fill(executor.arg_dict[name], tensors[name], name)
            for name, rate in self._piece.dropouts.items():
                target = executor.arg_dict[name]
                layer = name.rpartition(":")[0]
                target[:] = mask(self._recipe.seed, step, microbatch, layer, target.shape, rate, target.dtype)
            outputs = executor.forward(is_train=True)
        except mxnet.MXNetError as error:
            raise InvalidInput(f"slice {self.form.number} cannot compute this: {error}") from error
        self._under_way[microbatch] = executor
        return {name: found.asnumpy() for name, found in zip(self._piece.heads, outputs, strict=True)}

    def backward(self, microbatch: int, gradients: Arrays) -> dict[str, Any]:
        import mxnet

        executor = self._under_way.pop(microbatch)
        heads = []
        for name, output in zip(self._piece.heads, executor.outputs, strict=True):
            if name in gradients:
                heads.append(mxnet.nd.array(gradients[name], dtype=output.dtype))
            else:
                fill = mxnet.nd.ones_like if name in self.form.outputs else mxnet.nd.zeros_like
                heads.append(fill(output))
        executor.backward(heads)
        found = {
            name: executor.grad_dict[name].asnumpy()
            for name in self.form.reads
            if name in self.form.differentiable
        }
        self._idle.append(executor)
        return found

    def step(self) -> None:
        self._learning.step(self._parameters, self._gradients)

    def state(self) -> dict[str, Any]:
        found = {f"parameter:{name}": value.asnumpy() for name, value in self._parameters.items()}
        found.update({f"statistic:{name}": value.asnumpy() for name, value in self._statistics.items()})
        return {**found, **self._learning.state()}

    def load(self, state: Arrays) -> None:
        for kind, values in (("parameter", self._parameters), ("statistic", self._statistics)):
            for name, value in values.items():
                key = f"{kind}:{name}"
                if key not in state:
                    raise InvalidInput(
                        f"slice {self.form.number} has no {key} in this state; it is another slice's"
                    )
                _fill(value, state[key], key)
        self._learning.load(state)
        self._idle += self._under_way.values()
        self._under_way = {}
        for gradient in self._gradients.values():
            gradient[:] = 0

    def gradients(self) -> dict[str, Any]:
        """Return copies of the sums so far, by parameter."""
        return {name: value.asnumpy() for name, value in self._gradients.items()}

    def _bind(self, tensors: Arrays) -> Any:
        """Return an executor that shares parameters, statistics and the sums of gradients with all others."""
        import mxnet

        given = {name: tensors[name] for name in (*self.form.inputs, *self.form.reads)}
        shapes = {name: value.shape for name, value in {**given, **self._parameters}.items()}
        found, _, _ = self._symbol.infer_shape(**shapes)
        kinds, _, _ = self._symbol.infer_type(**{name: value.dtype for name, value in given.items()})
        names = self._symbol.list_arguments()
        arguments, sums, wanted = {}, dict(self._gradients), {}
        for name, shape, kind in zip(names, found, kinds, strict=True):
            if name in self._parameters:
                arguments[name], wanted[name] = self._parameters[name], "add"
                continue
            arguments[name] = mxnet.nd.zeros(shape, dtype=kind)
            wanted[name] = "null"
            if name in self.form.reads and name in self.form.differentiable:
                sums[name], wanted[name] = mxnet.nd.zeros(shape, dtype=kind), "write"
        return self._symbol.bind(mxnet.cpu(), arguments, sums, wanted, self._statistics)


def _fill(target: Any, array: Any, name: str) -> None:
    if target.shape != array.shape:
        raise InvalidInput(
            f"{name} is {array.shape}; it must be {target.shape}, as in the micro-batch before"
        )
    target[:] = array


class _Learning:
    """The optimizer of a slice. Its state is arrays, and the number of steps, which MXNet counts for each
    parameter."""

    def __init__(self, recipe: Recipe, parameters: Mapping[str, Any]) -> None:
        if recipe.optimizer not in OPTIMIZERS:
            raise InvalidJob(
                f"slices learn by {', '.join(OPTIMIZERS)}; {recipe.optimizer!r} is none of them, or keeps what cannot "
                "be written as plain arrays"
            )
        self._recipe = recipe
        self._names = list(parameters)
        self._start(parameters, 0)

    def _start(self, parameters: Mapping[str, Any], steps: int) -> None:
        import mxnet

        try:
            self._optimizer = mxnet.optimizer.create(
                self._recipe.optimizer,
                rescale_grad=1.0 / self._recipe.samples,
                begin_num_update=steps,
                **self._recipe.options,
            )
        except (TypeError, ValueError) as error:
            raise InvalidJob(
                f"MXNet's {self._recipe.optimizer} does not take {dict(self._recipe.options)}: {error}"
            ) from error
        self._steps = steps
        self._states = [
            self._optimizer.create_state_multi_precision(k, parameters[name])
            for k, name in enumerate(self._names)
        ]

    def step(self, parameters: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        for k, name in enumerate(self._names):
            self._optimizer.update_multi_precision(k, parameters[name], gradients[name], self._states[k])
            gradients[name][:] = 0
        self._steps += 1

    def state(self) -> dict[str, Any]:
        import numpy as np

        found: dict[str, Any] = {"steps": np.array(self._steps)}
        for name, state in zip(self._names, self._states, strict=True):
            for k, value in enumerate(_flat(state)):
                found[f"optimizer:{name}:{k}"] = value.asnumpy()
        return found

    def load(self, state: Arrays) -> None:
        self._start({name: _like(state[f"parameter:{name}"]) for name in self._names}, int(state["steps"]))
        for name, held in zip(self._names, self._states, strict=True):
            for k, value in enumerate(_flat(held)):
                key = f"optimizer:{name}:{k}"
                if key not in state:
                    raise InvalidInput(f"the state has no {key}; it is of another optimizer")
                _fill(value, state[key], key)


def _like(array: Any) -> Any:
    import mxnet

    return mxnet.nd.array(array, dtype=array.dtype)


def _flat(state: Any) -> list[Any]:
    if state is None:
        return []
    return [value for part in state for value in _flat(part)] if isinstance(state, tuple | list) else [state]
