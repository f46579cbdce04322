"""Samples on which slices are compared with the whole: from a file of numbers, or made up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from isthmus.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

MOST_SAMPLES = 256
"""Of a file with more, so many are taken, evenly spread."""
MADE_UP_SAMPLES = 8
SEED = 7
AT_ONCE = 4
"""Samples of a run, where the batch is open; the first run has one, so that both are seen to work."""


@dataclass(frozen=True)
class InputForm:
    """One input of the whole model: its dtype, its shape for one sample, and whether its first axis is an open
    batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    batched: bool


@dataclass(frozen=True)
class Samples:
    """``count`` samples; ``runs`` gives, anew each time, how many samples each run has, and its inputs by name.
    ``origin`` says in words where they come from."""

    runs: Callable[[], Iterator[tuple[int, Arrays]]]
    count: int
    source: Literal["file", "synthetic"]
    origin: str


def made_up(forms: Sequence[InputForm], seed: int = SEED, count: int = MADE_UP_SAMPLES) -> Samples:
    """Return samples of random numbers: normal, or whole numbers of 0 and 1, which index any table."""
    import numpy as np

    random = np.random.default_rng(seed)
    arrays = {
        form.name: _random(random, form, (count, *(form.shape[1:] if form.batched else form.shape)))
        for form in forms
    }
    return _samples(forms, arrays, "synthetic", f"random numbers, seed {seed}")


def given(forms: Sequence[InputForm], arrays: Mapping[str, Any], origin: str) -> Samples:
    """Return samples that a person gave: of each input an array ``[samples, ...]``, as the model takes them. Of a
    model with one input, the only array is that, whatever its name.

    Raises:
        InvalidInput: an input has no array, or one of another shape or kind of number.
    """
    if len(forms) == 1 and len(arrays) == 1:
        arrays = {forms[0].name: next(iter(arrays.values()))}
    missing = [form.name for form in forms if form.name not in arrays]
    if missing:
        names = ", ".join(form.name for form in forms)
        raise InvalidInput(
            f"{origin} must hold an array for each input, {names}; it lacks {', '.join(missing)}: write them with "
            "numpy.savez"
        )
    fitting = {form.name: _fitting(form, arrays[form.name], origin, len(forms) == 1) for form in forms}
    return _samples(forms, fitting, "file", origin)


def _random(random: Any, form: InputForm, shape: tuple[int, ...]) -> Any:
    import numpy as np

    if form.dtype.startswith("float"):
        return random.standard_normal(shape).astype(form.dtype)
    return np.ones(shape, bool) if form.dtype == "bool" else random.integers(0, 2, shape).astype(form.dtype)


def _fitting(form: InputForm, array: Any, origin: str, alone: bool) -> Any:
    """Check an array; return the samples that are taken, in the model's dtype. Of a fixed batch of the only input, an
    array's first axis may run through several batches."""
    import numpy as np

    joined = form.batched or (alone and form.shape and array.ndim == len(form.shape))
    sample = form.shape[1:] if joined else form.shape
    fits = array.ndim > 0 and array.shape[1:] == sample
    if not fits or array.dtype.kind not in ("biuf" if form.dtype.startswith("float") else "biu"):
        sizes = "".join(f", {size}" for size in sample)
        raise InvalidInput(
            f"{origin} must hold {form.name} as {form.dtype} [samples{sizes}]; it holds {array.dtype} "
            f"{list(array.shape)}"
        )
    if not len(array):
        raise InvalidInput(f"{origin} holds no sample of {form.name}")
    if len(array) > MOST_SAMPLES:
        array = array[np.linspace(0, len(array) - 1, MOST_SAMPLES).astype(int)]
    return np.ascontiguousarray(array, dtype=form.dtype)


def _samples(
    forms: Sequence[InputForm], arrays: Arrays, source: Literal["file", "synthetic"], origin: str
) -> Samples:
    counts = {name: len(array) for name, array in arrays.items()}
    count = min(counts.values())
    if len(set(counts.values())) > 1:
        raise InvalidInput(f"{origin} must hold as many samples of each input; it holds {counts}")
    only = forms[0]
    if all(form.batched for form in forms):
        ends = [0, *range(1, count, AT_ONCE), count]
    elif len(forms) == 1 and arrays[only.name].ndim == len(only.shape):
        size = only.shape[0]
        if count < size:
            raise InvalidInput(f"the model takes {size} samples at a time; {origin} holds {count}")
        ends = list(range(0, count + 1, size))
    else:
        ends = list(range(count + 1))

    def runs() -> Iterator[tuple[int, Arrays]]:
        for start, end in itertools.pairwise(ends):
            yield end - start, {form.name: _fed(form, arrays[form.name][start:end]) for form in forms}

    return Samples(runs, ends[-1], source, origin)


def _fed(form: InputForm, piece: Any) -> Any:
    return piece if form.batched or piece.ndim == len(form.shape) else piece.reshape(form.shape)
