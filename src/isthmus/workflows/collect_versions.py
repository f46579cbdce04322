"""Remove the versions of layers, functions and components that nothing refers to."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from isthmus.errors import RolloutBusy
from isthmus.model import layout
from isthmus.planning.collection import (
    ComponentVersion,
    FunctionVersion,
    Garbage,
    Holdings,
    LayerVersion,
    garbage,
)
from isthmus.ports import Clock, Item, Records
from isthmus.workflows.deploy_edge import CANARY, EDGE
from isthmus.workflows.rollout_lock import acquire, give_back

HOLDER = "isthmus-collect"
"""What a run holds locks as, with a part of its own: of two at a time, the second is refused."""
LOCK_SECONDS = 900
"""How long the locks hold; a roll-out may begin afterwards, also when a collection was killed."""
REMOVING_SECONDS = 600
"""How long versions are removed: the last call, with all its retries, ends while the locks still hold."""


class Storage(msgspec.Struct, frozen=True):
    """Lambda's code storage in the region, by all functions and layers of the account."""

    used_bytes: int
    limit_bytes: int


class Estate(Protocol):
    """A stack's versions on AWS, with everything that refers to them outside the table."""

    def models(self) -> set[str]: ...
    def holdings(self, models: Collection[str]) -> Holdings: ...
    def storage(self) -> Storage: ...
    def remove_component(self, version: ComponentVersion) -> None: ...
    def remove_function(self, version: FunctionVersion) -> None: ...
    def remove_layer(self, version: LayerVersion) -> None: ...


class Collected(msgspec.Struct, frozen=True):
    """What was found, or removed; ``busy`` models were left alone, since a roll-out is under way.

    ``left``: versions that were found and not removed, since the locks would have lapsed.
    """

    garbage: Garbage
    freed_bytes: int
    storage: Storage
    busy: tuple[str, ...] = ()
    left: int = 0


def plan_collection(stack: str, estate: Estate, records: Records, keep: int) -> Collected:
    """Return what ``collect`` would remove; nothing is changed."""
    found = _find(stack, estate, records, estate.models(), keep)
    return Collected(found, found.size_bytes, estate.storage())


def collect(
    stack: str, estate: Estate, records: Records, keep: int, *, clock: Clock, report: Callable[[str], None]
) -> Collected:
    """Remove what nothing refers to, under the locks that roll-outs take, for as long as they hold.

    Raises:
        RolloutBusy: a deployment to the core devices is being written, or another collection runs;
            wait for it.
    """
    models, began = estate.models(), clock.now()
    with _locked(models, records, began) as busy:
        found = _find(stack, estate, records, models, keep, busy)
        removals = _removals(found, estate)
        done = 0
        while done < len(removals) and clock.now() < began + REMOVING_SECONDS:
            name, remove = removals[done]
            report(name)
            remove()
            done += 1
    gone = found.first(done)
    return Collected(gone, gone.size_bytes, estate.storage(), busy, len(found) - done)


def _removals(found: Garbage, estate: Estate) -> list[tuple[str, Callable[[], None]]]:
    """Return each version's name and its removal, what refers before what is referred to."""
    components = [
        (f"component {entry.component} {entry.version}", functools.partial(estate.remove_component, entry))
        for entry in found.components
    ]
    functions = [
        (f"function {entry.function}:{entry.number}", functools.partial(estate.remove_function, entry))
        for entry in found.functions
    ]
    layers = [
        (f"layer {entry.layer}:{entry.number}", functools.partial(estate.remove_layer, entry))
        for entry in found.layers
    ]
    return [*components, *functions, *layers]


def _find(
    stack: str,
    estate: Estate,
    records: Records,
    models: Collection[str],
    keep: int,
    busy: Collection[str] = (),
) -> Garbage:
    """Return the garbage, after adding what the table refers to; a busy model's versions all stay."""
    held = estate.holdings(models)
    champions = records.query(layout.CHAMPIONS)
    functions = {pair for item in champions for pair in _in_service(stack, item)}
    components = {
        (name, version)
        for model in models
        for versions in _edge_records(model, records)
        for name, version in versions.items()
    }
    components |= {
        (entry.component, entry.version)
        for entry in held.components
        if layout.component_of(stack, entry.component) in busy
    }
    waiting = {layout.layer_name(stack, model) for model in busy}
    held = msgspec.structs.replace(
        held,
        candidates=held.candidates - {layout.function_name(stack, model) for model in busy},
        layers=tuple(entry for entry in held.layers if entry.layer not in waiting),
        named_functions=held.named_functions | functions,
        named_components=held.named_components | components,
    )
    return garbage(held, keep)


def _in_service(stack: str, champion: Item) -> Iterator[tuple[str, int]]:
    """Yield a model's version in service, and the one that was before it: a rollback finds it there."""
    function = layout.function_name(stack, str(champion["model"]))
    for name in ("version", "previous_version"):
        if champion.get(name):
            yield function, int(champion[name])


def _edge_records(model: str, records: Records) -> list[dict[str, str]]:
    """Return the component versions that the model has at the edge, and would go back to."""
    items = [records.get(layout.model_pk(model), kind) or {} for kind in (EDGE, CANARY)]
    return [item.get(name) or {} for item in items for name in ("current", "previous")]


@contextmanager
def _locked(models: Collection[str], records: Records, now: float) -> Iterator[tuple[str, ...]]:
    """Hold the edge's lock and that of each model that has none; yield the models that are busy."""
    holder = f"{HOLDER}-{uuid.uuid4().hex}"
    acquire(EDGE, holder, records=records, now=now, seconds=LOCK_SECONDS)
    held, busy = [EDGE], []
    try:
        for model in sorted(models):
            try:
                acquire(layout.model_pk(model), holder, records=records, now=now, seconds=LOCK_SECONDS)
            except RolloutBusy:
                busy.append(model)
            else:
                held.append(layout.model_pk(model))
        yield tuple(busy)
    finally:
        for pk in held:
            give_back(pk, holder, records=records)
