"""A budget and an attempt on SageMaker: the time that it may run, what it billed, and how its end is told."""

from __future__ import annotations

import pytest
from test_train_on_sagemaker import NOW, Cloud
from workflow_world import World, onnx_model

from isthmus.errors import BudgetExceeded, TrainingFailed
from isthmus.model.ledger import Budget, Entry, Used
from isthmus.workflows import cost_settings, keep_ledger

BILLED = 61
"""Seconds, of the training that ``known`` ends."""


@pytest.fixture
def known(world: World) -> World:
    """A world in which a training of the model has ended on SageMaker."""
    before = Cloud(world)
    before.complete(before.begin().name, model__onnx=onnx_model(), export__json=b"{}")
    before.collect()
    keep_ledger.settle(before.key, Used(state_transitions=45), now=NOW, records=world.records)
    return world


@pytest.fixture
def cloud(known: World) -> Cloud:
    return Cloud(known, {"hyperparameters": {"epochs": 2}})


def entry(cloud: Cloud, fencing: int = 1) -> Entry:
    found = keep_ledger.read_entry(cloud.key, fencing, cloud.world.records)
    assert found is not None
    return found


def test_without_a_budget_it_may_run_for_its_deadline(cloud: Cloud) -> None:
    assert cloud.begin().stopping["MaxRuntimeInSeconds"] == 3600
    found = entry(cloud)
    assert (found.runs_on, found.spot, found.limit_seconds) == ("sagemaker", True, 0)
    assert found.estimate.used.training_seconds == BILLED
    assert found.estimate.used.sent_bytes == 0, "SageMaker reads in the bucket's own region"


def test_a_budget_becomes_the_longest_that_it_may_run(cloud: Cloud) -> None:
    cost_settings.set_budget(Budget(month_usd=5.0), cloud.world.records)
    stopping = cloud.begin().stopping
    assert stopping["MaxRuntimeInSeconds"] == 3 * BILLED
    assert stopping["MaxWaitTimeInSeconds"] >= stopping["MaxRuntimeInSeconds"]


def test_an_end_at_that_time_is_told_as_the_budgets(cloud: Cloud) -> None:
    cost_settings.set_budget(Budget(month_usd=5.0), cloud.world.records)
    name = cloud.begin().name
    cloud.ends(name, "Stopped", secondary="MaxRuntimeExceeded", billed_seconds=183.0)
    with pytest.raises(BudgetExceeded, match="needs more than the 3 min 03 s of training that its budget"):
        cloud.collect()
    assert cloud.world.lease(cloud.key)["state"] == "FAILED"
    assert entry(cloud).reported is not None


def test_an_end_at_the_deadline_is_the_scripts(cloud: Cloud) -> None:
    name = cloud.begin().name
    cloud.ends(name, "Stopped", secondary="MaxRuntimeExceeded", billed_seconds=3600.0)
    with pytest.raises(TrainingFailed, match="deadline"):
        cloud.collect()


def test_what_it_billed_is_what_it_cost_however_it_ended(cloud: Cloud) -> None:
    name = cloud.begin().name
    cloud.ends(name, "Failed", reason="AlgorithmError: no such class", billed_seconds=120.0)
    with pytest.raises(TrainingFailed, match="no such class"):
        cloud.collect()
    keep_ledger.settle(cloud.key, Used(state_transitions=30), now=NOW, records=cloud.world.records)
    found = entry(cloud)
    assert found.settlement is not None
    price = found.estimate.used.price_per_hour_usd
    assert price > 0
    assert found.settlement.charges.training_usd == pytest.approx(120 / 3600 * price)
    assert found.settlement.used.state_transitions == 30
    assert found.settlement.as_estimated == ()


def test_what_is_too_dear_for_the_budget_is_not_begun(cloud: Cloud) -> None:
    cost_settings.set_budget(Budget(month_usd=0.001, model="digits"), cloud.world.records)
    with pytest.raises(BudgetExceeded, match="for the model digits"):
        cloud.plan()
