"""The port to the cloud's side of a split model, and what its answers must be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from isthmus.edge.race import Errand
from isthmus.edge.slices import fits
from isthmus.errors import InvalidAnswer
from isthmus.inference.datatypes import NUMPY
from isthmus.model.sliced import Cast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.model.bundle import TensorSpec


@dataclass(frozen=True)
class CloudAnswer:
    """Outputs by name; ``seconds`` that the model took there, when the cloud says so."""

    outputs: Mapping[str, NDArray[Any]]
    seconds: float | None = None


class Cloud(Protocol):
    """Asks the cloud for a model's outputs, until ``errand`` is given up: then the link is to be free at once.
    ``cast``: what 32-bit floats are sent as.

    Raises:
        Unavailable: no (right) answer came in time. InvalidRequest, PermissionMissing: it refuses.
    """

    def __call__(
        self,
        model: str,
        version: str | None,
        inputs: Mapping[str, NDArray[Any]],
        *,
        timeout_seconds: float,
        errand: Errand,
        cast: Cast,
    ) -> CloudAnswer: ...

    def latency(self, *, timeout_seconds: float) -> float:
        """Return the seconds of a request and an answer of next to no bytes, over an open connection."""


def checked(outputs: Mapping[str, Any], specs: Iterable[TensorSpec]) -> dict[str, NDArray[Any]]:
    """Return the outputs that a model has, once they are found to be what it gives.

    Raises:
        InvalidAnswer: one is missing, or of another type or shape.
    """
    found = {}
    for spec in specs:
        array = outputs.get(spec.name)
        if array is None:
            raise InvalidAnswer(f"the answer lacks {spec.name!r}")
        if str(array.dtype) != NUMPY[spec.datatype] or not fits(spec, tuple(array.shape)):
            is_there = f"{array.dtype} {list(array.shape)}"
            raise InvalidAnswer(
                f"the answer's {spec.name!r} is {is_there}, not {spec.datatype} {list(spec.shape)}"
            )
        found[spec.name] = array
    return found
