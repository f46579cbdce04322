"""Which samples a micro-batch has: for every worker the same, whatever inputs it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.errors import EnvironmentProblem, InvalidInput
from isthmus.frameworks.trainable import Recipe


class Batches:
    """Samples from arrays ``[rows, …]``, one for each of the network's inputs that this worker has. In each epoch
    they come in another order, by the recipe's seed; what is left over at its end, less than a step's samples, is
    left out.

    Raises:
        InvalidInput: an array has another number of rows, or there are fewer than a step needs.
    """

    def __init__(self, arrays: Mapping[str, Any], rows: int, recipe: Recipe) -> None:
        for name, array in arrays.items():
            if array.shape[:1] != (rows,):
                raise InvalidInput(
                    f"{name} must have {rows} rows, one for each sample; it has {array.shape[:1]}"
                )
        self._per_epoch = rows // recipe.samples
        if not self._per_epoch:
            raise InvalidInput(f"a step needs {recipe.samples} samples; there are {rows}")
        self._arrays = arrays
        self._rows = rows
        self._recipe = recipe
        self._order: tuple[int, Any] = (-1, None)

    def __call__(self, step: int, microbatch: int, names: Sequence[str]) -> dict[str, Any]:
        """Return the inputs of these names.

        Raises:
            InvalidInput: this worker does not have one of them.
        """
        if missing := [name for name in names if name not in self._arrays]:
            raise InvalidInput(
                f"a slice of this worker reads {', '.join(missing)}; it was given "
                f"{', '.join(sorted(self._arrays)) or 'none'}"
            )
        if not names:
            return {}
        size = self._recipe.samples // self._recipe.microbatches
        first = step % self._per_epoch * self._recipe.samples + microbatch * size
        rows = self._order_of(step // self._per_epoch)[first : first + size]
        return {name: self._arrays[name][rows] for name in names}

    def _order_of(self, epoch: int) -> Any:
        import numpy as np

        if self._order[0] != epoch:
            bits = np.random.Philox(key=[self._recipe.seed % 2**64, epoch]).random_raw(self._rows)
            self._order = epoch, np.argsort(bits, kind="stable")
        return self._order[1]


def open_arrays(files: Mapping[str, Path]) -> dict[str, Any]:
    """Open ``.npy`` files, mapped into memory and without pickles.

    Raises:
        EnvironmentProblem: one cannot be read.
    """
    import numpy as np

    found = {}
    for name, path in files.items():
        try:
            found[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise EnvironmentProblem(f"{name} needs an array in {path}: {error}") from error
    return found
