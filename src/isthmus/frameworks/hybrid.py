"""The imperative face: a script's own network, whose calls run in slices or on replicas, and its own loop.

This code runs in the script's process. Whatever the framework, the network stays the script's object: its parameters
are here, its optimizer steps here, and a call differs from one before only in where operators run.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.errors import InvalidInput
from isthmus.frameworks.parts import Place
from isthmus.frameworks.port import framework as framework_of
from isthmus.frameworks.port import known
from isthmus.frameworks.replicas import Sharing

HERE = "here"


@dataclass(frozen=True)
class Wishes:
    """``cuts``: where slices begin; ``places``: each slice's, None being this process; or ``replicas``: places of the
    whole network, and ``sharing``, how a batch is shared among them."""

    cuts: Sequence[Any] = ()
    places: Sequence[Place | None] = (None,)
    replicas: Sequence[Place | None] = ()
    sharing: Sharing | None = None


@dataclass(frozen=True)
class PlannedSlice:
    """Operators ``[start, end)``, by the names of the first and the last; ``gives``: tensors that leave it."""

    place: str
    start: int
    end: int
    first: str
    last: str
    parameter_bytes: int
    gives: tuple[str, ...]


@dataclass
class Plan:
    """What runs where; it is known once the network was called."""

    slices: tuple[PlannedSlice, ...] = ()
    sharing: Sharing | None = None

    def __str__(self) -> str:
        if not self.slices:
            return "the network is planned when it is first called"
        lines = []
        for number, each in enumerate(self.slices):
            line = f"slice {number} | {each.place} | operators [{each.start},{each.end}) {each.first} … {each.last}"
            lines.append(f"{line} | {each.parameter_bytes} bytes of parameters")
            lines[-1] += f" | gives {', '.join(each.gives)}" if each.gives else ""
        if self.sharing is not None and self.sharing.taken:
            lines.append(f"samples of the last step: {' + '.join(map(str, self.sharing.taken[-1].rows))}")
        return "\n".join(lines)


def name_of(place: Place | None) -> str:
    """Return how a place is called."""
    return HERE if place is None else place.name


def framework_of_network(net: object) -> str:
    """Return the framework of a script's network.

    Raises:
        InvalidInput: it is of none that is known.
    """
    modules = {each.__module__.partition(".")[0] for each in type(net).__mro__}
    for name in known():
        if framework_of(name).module in modules:
            return name
    raise InvalidInput(
        f"a network must be of {' or '.join(known())}; this is a {type(net).__module__}.{type(net).__qualname__}"
    )


def hybridize(net: Any, wishes: Wishes) -> Any:
    """Let a network's calls run as is wished; return the network.

    Raises:
        InvalidInput: it is no network of a known framework.
        InvalidModel: it cannot be cut.
    """
    module = importlib.import_module(f"isthmus.frameworks.{framework_of_network(net)}.hybrid")
    return module.hybridize(net, wishes)
