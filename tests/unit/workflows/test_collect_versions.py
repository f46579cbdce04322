"""A collection under the locks of roll-outs, with what the table refers to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from isthmus.adapters.local.estate import MemoryEstate
from isthmus.adapters.local.queue import ManualClock
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import RolloutBusy
from isthmus.model import layout
from isthmus.planning.collection import ComponentVersion, FunctionVersion, Holdings, LayerVersion
from isthmus.workflows.collect_versions import LOCK_SECONDS, REMOVING_SECONDS, collect, plan_collection
from isthmus.workflows.deploy_edge import EDGE
from isthmus.workflows.rollout_lock import ROLLOUT, acquire
from isthmus.workflows.shift_traffic import commit_champion

NOW = 1_800_000_000.0


def holdings(*models: str) -> Holdings:
    """Five versions of everything that each model has; each function version with its own layer."""
    functions, layers, components = [], [], []
    for model in models:
        name = layout.function_name("shop", model)
        for number in range(1, 6):
            functions.append(FunctionVersion(name, number, (f"{name}:{number}",), 10))
            layers.append(LayerVersion(name, number, f"{name}:{number}", 1000))
            component = layout.component_name("shop", model, "model")
            components.append(ComponentVersion(component, f"{number}.0.0", f"{component}:{number}"))
    names = frozenset(layout.function_name("shop", model) for model in models)
    return Holdings(
        functions=tuple(functions),
        layers=tuple(layers),
        components=tuple(components),
        candidates=names,
        model_layers=names,
        own_layers=frozenset(),
        named_functions=frozenset(),
        named_components=frozenset(),
    )


@pytest.fixture
def records() -> MemoryRecords:
    return MemoryRecords()


def estate(*models: str) -> MemoryEstate:
    return MemoryEstate(models, holdings(*models))


def run(found: MemoryEstate, records: MemoryRecords, keep: int = 3, clock: ManualClock | None = None) -> Any:
    clock = clock or ManualClock(NOW)
    return collect("shop", found, records, keep, clock=clock, report=lambda line: None)


def test_a_plan_removes_nothing_and_takes_no_lock(records: MemoryRecords) -> None:
    found = estate("pear")
    planned = plan_collection("shop", found, records, 3)
    assert len(planned.garbage) == 6
    assert planned.freed_bytes == 2 * 1010
    assert planned.storage.used_bytes == 5 * 1010
    assert found.removed == []
    assert records.get(EDGE, ROLLOUT) is None


def test_what_refers_goes_before_what_is_referred_to(records: MemoryRecords) -> None:
    found = estate("pear")
    done = run(found, records)
    assert found.removed == [
        "shop.pear.model 1.0.0",
        "shop.pear.model 2.0.0",
        "shop-model-pear:1",
        "shop-model-pear:2",
        "shop-model-pear:1",
        "shop-model-pear:2",
    ]
    assert done.storage.used_bytes == 3 * 1010
    assert len(run(found, records).garbage) == 0, "a second one finds nothing"


def test_the_champion_and_the_one_before_it_stay(records: MemoryRecords) -> None:
    for version in ("1", "2", "2"):
        commit_champion("pear", "b", int(version), "k", version, records=records, now="t")
    assert plan_collection("shop", estate("pear"), records, 1).garbage.functions == tuple(
        FunctionVersion("shop-model-pear", number, (f"shop-model-pear:{number}",), 10) for number in (3, 4)
    )


def test_what_is_at_the_edge_or_would_be_again_stays(records: MemoryRecords) -> None:
    name = layout.component_name("shop", "pear", "model")
    item = {"current": {name: "2.0.0"}, "previous": {name: "1.0.0"}}
    records.update(layout.model_pk("pear"), EDGE, item)
    gone = plan_collection("shop", estate("pear"), records, 1).garbage.components
    assert [entry.version for entry in gone] == ["3.0.0", "4.0.0"]


def test_a_model_that_is_being_rolled_out_is_left_alone(records: MemoryRecords) -> None:
    acquire(layout.model_pk("pear"), "roll-out", records=records, now=NOW, seconds=60)
    found = estate("pear", "plum")
    done = run(found, records)
    assert done.busy == ("pear",)
    assert found.removed
    assert not [name for name in found.removed if "pear" in name]
    assert (records.get(layout.model_pk("pear"), ROLLOUT) or {})["holder"] == "roll-out"


def test_a_deployment_that_is_being_written_is_waited_for(records: MemoryRecords) -> None:
    acquire(EDGE, "roll-out", records=records, now=NOW, seconds=60)
    found = estate("pear")
    with pytest.raises(RolloutBusy):
        run(found, records)
    assert found.removed == []


class Beside(MemoryEstate):
    """Runs something when a function is removed first."""

    def __init__(self, records: MemoryRecords, then: Callable[[], object]) -> None:
        super().__init__({"pear"}, holdings("pear"))
        self.records, self.then = records, then

    def remove_function(self, version: FunctionVersion) -> None:
        then, self.then = self.then, lambda: None
        then()
        super().remove_function(version)


def test_a_second_collection_does_not_share_the_firsts_locks(records: MemoryRecords) -> None:
    refused: list[RolloutBusy] = []

    def second() -> None:
        with pytest.raises(RolloutBusy) as raised:
            run(estate("pear"), records)
        refused.append(raised.value)
        for pk in (EDGE, layout.model_pk("pear")):
            assert (records.get(pk, ROLLOUT) or {})["holder"], "the first still holds it"

    run(Beside(records, second), records)
    assert len(refused) == 1


def test_nothing_is_removed_when_the_locks_are_about_to_lapse(records: MemoryRecords) -> None:
    clock = ManualClock(NOW)
    found = Beside(records, lambda: clock.sleep(REMOVING_SECONDS))
    done = run(found, records, clock=clock)
    assert found.removed == ["shop.pear.model 1.0.0", "shop.pear.model 2.0.0", "shop-model-pear:1"]
    assert ([entry.number for entry in done.garbage.functions], done.garbage.layers) == ([1], ())
    assert (done.freed_bytes, done.left) == (10, 3)
    assert REMOVING_SECONDS < LOCK_SECONDS
    assert run(found, records, clock=clock).left == 0, "the next run goes on"


class Breaking(MemoryEstate):
    """The first removal of a function fails."""

    def remove_function(self, version: FunctionVersion) -> None:
        raise ConnectionError("the line was cut")


def test_locks_are_given_back_however_it_ends(records: MemoryRecords) -> None:
    with pytest.raises(ConnectionError):
        run(Breaking({"pear"}, holdings("pear")), records)
    for pk in (EDGE, layout.model_pk("pear")):
        acquire(pk, "roll-out", records=records, now=NOW, seconds=60)
