"""Which versions nothing refers to: a pure decision on what an account holds.

Anything that might be needed stays: a version that an alias, a champion, a roll-out or a core device
names, what such a version is made of, and the newest few of each name, to go back to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec


class FunctionVersion(msgspec.Struct, frozen=True):
    """A function's version; ``0`` is ``$LATEST``. ``layers``: ARNs of layer versions."""

    function: str
    number: int
    layers: tuple[str, ...] = ()
    size_bytes: int = 0


class LayerVersion(msgspec.Struct, frozen=True):
    """A layer's version."""

    layer: str
    number: int
    arn: str
    size_bytes: int = 0


class ComponentVersion(msgspec.Struct, frozen=True):
    """A Greengrass component's version, ``<release>.<lambda version>.0``."""

    component: str
    version: str
    arn: str

    @property
    def number(self) -> tuple[int, ...]:
        """The version in an order: 10.0.0 comes after 9.0.0."""
        return tuple(int(part) for part in self.version.split("-")[0].split("+")[0].split("."))

    @property
    def release(self) -> int:
        """The model's release."""
        return self.number[0]


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """What the account holds. ``functions`` are all of the region, whoever's: each may use a layer.

    ``candidates`` are the stack's own functions, of which versions may go, ``own_layers`` those
    layers that the stack's template has at present. ``named_functions`` and ``named_components`` are
    what something refers to, as name and version; ``edge_function`` is imported into components.
    """

    functions: tuple[FunctionVersion, ...]
    layers: tuple[LayerVersion, ...]
    components: tuple[ComponentVersion, ...]
    candidates: frozenset[str]
    model_layers: frozenset[str]
    own_layers: frozenset[str]
    named_functions: frozenset[tuple[str, int]]
    named_components: frozenset[tuple[str, str]]
    edge_function: str = ""


class Garbage(msgspec.Struct, frozen=True):
    """What can go, in the order in which it is removed."""

    components: tuple[ComponentVersion, ...] = ()
    functions: tuple[FunctionVersion, ...] = ()
    layers: tuple[LayerVersion, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of Lambda's code storage that it frees."""
        functions = sum(entry.size_bytes for entry in self.functions)
        return functions + sum(entry.size_bytes for entry in self.layers)

    def first(self, count: int) -> Garbage:
        """Return the ``count`` versions that are removed first."""
        functions = max(0, count - len(self.components))
        layers = max(0, functions - len(self.functions))
        return Garbage(self.components[:count], self.functions[:functions], self.layers[:layers])

    def __len__(self) -> int:
        return len(self.components) + len(self.functions) + len(self.layers)


def garbage(holdings: Holdings, keep: int) -> Garbage:
    """Return what nothing refers to, less the newest ``keep`` versions of each name; oldest first."""
    components = _components(holdings, keep)
    functions = _functions(holdings, keep, components)
    layers = _layers(holdings, keep, functions)
    return Garbage(
        tuple(sorted(components, key=lambda entry: (entry.component, entry.number))),
        tuple(sorted(functions, key=lambda entry: (entry.function, entry.number))),
        tuple(sorted(layers, key=lambda entry: (entry.layer, entry.number))),
    )


def _components(holdings: Holdings, keep: int) -> tuple[ComponentVersion, ...]:
    newest = _newest(holdings.components, keep, lambda entry: entry.component, lambda entry: entry.number)
    # Both components of a release go together, or stay: the edge Lambda depends on the model.
    used = {
        (_model(entry.component), entry.release)
        for entry in holdings.components
        if entry in newest or (entry.component, entry.version) in holdings.named_components
    }
    return tuple(
        entry for entry in holdings.components if (_model(entry.component), entry.release) not in used
    )


def _functions(
    holdings: Holdings, keep: int, gone: Sequence[ComponentVersion]
) -> tuple[FunctionVersion, ...]:
    mine = [entry for entry in holdings.functions if entry.function in holdings.candidates and entry.number]
    newest = _newest(mine, keep, lambda entry: entry.function, lambda entry: entry.number)
    imported = {entry.number[1] for entry in holdings.components if entry not in gone}
    return tuple(
        entry
        for entry in mine
        if entry not in newest
        and (entry.function, entry.number) not in holdings.named_functions
        and not (entry.function == holdings.edge_function and entry.number in imported)
    )


def _layers(holdings: Holdings, keep: int, gone: Sequence[FunctionVersion]) -> tuple[LayerVersion, ...]:
    used = {arn for entry in holdings.functions if entry not in gone for arn in entry.layers}
    models = [entry for entry in holdings.layers if entry.layer in holdings.model_layers]
    newest = _newest(models, keep, lambda entry: entry.layer, lambda entry: entry.number)
    return tuple(
        entry
        for entry in holdings.layers
        if entry.arn not in used and entry.arn not in holdings.own_layers and entry not in newest
    )


Entry = TypeVar("Entry")


def _newest(
    entries: Iterable[Entry], keep: int, name: Callable[[Entry], str], order: Callable[[Entry], object]
) -> list[Entry]:
    """Return the newest ``keep`` entries of each name."""
    families: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        families[name(entry)].append(entry)
    ordered = (sorted(family, key=order, reverse=True) for family in families.values())  # type: ignore[arg-type]
    return [entry for family in ordered for entry in family[:keep]]


def _model(component: str) -> str:
    return component.rpartition(".")[0]
