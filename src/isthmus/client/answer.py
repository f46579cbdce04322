"""What a client returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from isthmus.inference.messages import Guess

if TYPE_CHECKING:
    from numpy.typing import NDArray

Where = Literal["edge", "cloud"]


@dataclass(frozen=True, kw_only=True)
class Trip:
    """How an answer came: from where, in how many sends (one, unless something failed) and seconds."""

    place: Where
    attempts: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Answer(Trip):
    """A model's outputs by name, each a numpy array of the shape and dtype that the server said.

    Strings are ``str`` objects. With ``postprocess`` the bundle's own results are among them, for example
    ``class``, ``score`` and ``label``, each ``[N, k]``.
    """

    model: str
    version: str
    outputs: Mapping[str, NDArray[Any]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the server tells of it; of a split model where it ran and why: ``isthmus_placement``, ``isthmus_reason``."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.outputs[name]


@dataclass(frozen=True, kw_only=True)
class Classification(Trip):
    """What a picture shows, best guess first; a guess has ``index``, ``score`` and, if named, ``label``."""

    model: str
    version: str
    classes: tuple[Guess, ...]
