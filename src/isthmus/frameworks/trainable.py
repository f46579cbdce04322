"""A slice of a network that learns: what a framework must offer, and what every slice has to be told alike.

This code runs inside a training environment (``isthmus.frameworks``). A slice's parameters, statistics and
optimizer state belong to it alone. Names of tensors are those of the whole network, in every slice.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from isthmus.errors import InvalidCase, InvalidJob, InvalidModel
from isthmus.frameworks.port import framework as framework_of
from isthmus.frameworks.port import known
from isthmus.frameworks.sliced import Operator, SliceForm

Arrays = Mapping[str, Any]
"""Name to numpy array."""


@dataclass(frozen=True)
class Recipe:
    """How a network learns; the same for every slice of it.

    ``samples``: of one step, in all of its ``microbatches``. ``optimizer``: a name that the framework knows;
    ``options``: its arguments. ``seed``: of the dropout masks.
    """

    samples: int
    microbatches: int
    optimizer: str = "sgd"
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.microbatches < 1 or self.samples < 1 or self.samples % self.microbatches:
            raise InvalidCase(
                f"a step needs as many samples in each of its micro-batches; it has {self.samples} samples "
                f"in {self.microbatches}"
            )


class TrainableSlice(Protocol):
    """One slice. Its passes come in the order of a schedule: the forward passes of micro-batches 0, 1, …,
    and the backward passes of 0, 1, …, each after its forward pass."""

    @property
    def form(self) -> SliceForm: ...

    def forward(self, step: int, microbatch: int, tensors: Arrays) -> dict[str, Any]:
        """Take the network's inputs and other slices' tensors, by ``form``; keep what the backward pass needs.

        Return ``form.gives`` and ``form.outputs``: copies, which the slice does not write to later.

        Raises:
            InvalidInput: a tensor is missing, or has another shape than in the micro-batch before.
        """

    def backward(self, microbatch: int, gradients: Arrays) -> dict[str, Any]:
        """Take gradients of ``form.gives`` where they are differentiable; the outputs' own are the losses'.

        Return gradients of ``form.reads`` where they are differentiable. A tensor that is read here and given on
        has the later slices' gradient first in its sum, as in the whole network.
        """

    def step(self) -> None:
        """Let the optimizer use what the micro-batches' gradients add up to, and begin the next sum at zero."""

    def state(self) -> dict[str, Any]:
        """Return copies of all that has to be kept: ``parameter:NAME``, ``statistic:NAME``,
        ``optimizer:NAME:KEY`` and ``steps``."""

    def load(self, state: Arrays) -> None:
        """Go on from what ``state`` returned once; passes under way are forgotten.

        Raises:
            InvalidInput: it is another slice's.
        """


class Division(Protocol):
    """A network that is cut."""

    @property
    def forms(self) -> tuple[SliceForm, ...]: ...

    def slice(self, number: int) -> TrainableSlice:
        """Return a slice with its own parameters.

        Raises:
            InvalidJob: the framework has no such optimizer, or its state cannot be kept as plain arrays.
        """


class SlicedNetwork(Protocol):
    """A network that can be cut, with its losses as outputs."""

    @property
    def operators(self) -> Sequence[Operator]: ...

    @property
    def digest(self) -> str:
        """SHA-256 of what computes: slices of one network have one."""

    def divide(self, cuts: Sequence[int], recipe: Recipe) -> Division:
        """Return the slices that begin at operator 0 and at each of ``cuts``.

        Raises:
            InvalidCase: as ``sliced.cut``.
        """


def open_network(framework: str, model: Path) -> SlicedNetwork:
    """Read a network with its loss, as the framework saves it; no code of it is run.

    Raises:
        InvalidModel: it cannot be read, or cannot be trained in slices; the message says why.
        InvalidJob: there is no such framework.
    """
    if framework not in known():
        raise InvalidJob(f"slices of {framework!r} cannot be trained; there are: {', '.join(known())}")
    framework_of(framework).prepare()
    found: SlicedNetwork = importlib.import_module(f"isthmus.frameworks.{framework}.trainable").read(model)
    return found


def fill(framework: str, served: Path, weights: Arrays, target: Path, prefix: str = "") -> None:
    """Write a network as a script saves it for serving, with other weights: ``served``, of the network without its
    loss, to the folder ``target``. ``prefix``: what the names of ``weights`` have before those of the served network.

    Raises:
        InvalidModel: ``served`` cannot be read, or needs a weight that is not there, or of another shape.
        InvalidJob: there is no such framework.
    """
    if framework not in known():
        raise InvalidJob(f"there are no slices of {framework!r}; there are: {', '.join(known())}")
    framework_of(framework).prepare()
    module = importlib.import_module(f"isthmus.frameworks.{framework}.trainable")
    module.fill(served, {name.removeprefix(prefix): array for name, array in weights.items()}, target)


def check_weights(needed: Mapping[str, Sequence[int]], weights: Arrays) -> None:
    """Compare weights with names and shapes that a network needs.

    Raises:
        InvalidModel: one is not there, or has another shape.
    """
    for name, shape in needed.items():
        there = tuple(weights[name].shape) if name in weights else None
        if there != tuple(shape):
            raise InvalidModel(
                f"the served network needs {name} {tuple(shape)}; the slices learned "
                f"{'none of that name' if there is None else there}: it must be the network that was trained"
            )


def mask(
    seed: int,
    step: int,
    microbatch: int,
    layer: str,
    shape: Sequence[int],
    rate: float,
    dtype: Any = "float32",
) -> Any:
    """Return a dropout mask: 0 with probability ``rate``, else ``1 / (1 - rate)``.

    It depends on its arguments alone, whatever process asks. Bits are Philox's (Salmon et al. 2011, "Parallel random
    numbers: as easy as 1, 2, 3"), which numpy keeps the same in all versions, unlike what ``Generator`` makes of them.

    Raises:
        InvalidCase: ``rate`` is not in [0, 1).
    """
    import numpy as np

    if not 0 <= rate < 1:
        raise InvalidCase(f"the dropout {layer} needs a rate in [0, 1); it has {rate}")
    key = hashlib.sha256(f"{seed}/{step}/{microbatch}/{layer}".encode()).digest()[:16]
    count = int(np.prod(shape, dtype=np.int64))
    bits = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)
    kept = bits >= np.uint64(int(rate * 2**64))
    scale = np.asarray(1 / (1 - rate), dtype)
    return np.where(kept, scale, np.zeros((), dtype)).reshape(tuple(shape))


def writable(array: Any) -> Any:
    """Return an array that may be written to, laid out in memory as it is: itself, or a copy."""
    return array if array.flags.writeable else laid_out(array, strides_of(array))


def strides_of(array: Any) -> tuple[int, ...]:
    """Return an array's strides in elements."""
    return tuple(stride // array.itemsize for stride in array.strides)


def laid_out(array: Any, strides: Sequence[int]) -> Any:
    """Return a copy of an array with these strides, in elements, all of them at least 0.

    What reads a tensor may add in another order where it lies otherwise in memory.
    """
    import numpy as np

    size = 1 + sum((length - 1) * stride for length, stride in zip(array.shape, strides, strict=True))
    memory = np.zeros(max(1, size) if array.size else 0, array.dtype)
    found = np.lib.stride_tricks.as_strided(
        memory, array.shape, [stride * array.itemsize for stride in strides], writeable=True
    )
    if array.size:
        found[...] = array
    return found
