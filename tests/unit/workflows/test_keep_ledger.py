"""The ledger along a pipeline: frozen before the start, reported when a training ends, settled when all has."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from workflow_world import NOW, World, device

from isthmus import documents
from isthmus.adapters.local.events import MemoryEvents
from isthmus.adapters.local.queue import MemoryTasks
from isthmus.errors import BudgetExceeded, InvalidDocument
from isthmus.model import layout
from isthmus.model.dataset import InPlace
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Import
from isthmus.model.ledger import Budget, Entry, Reported, Used
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.model.plan import Plan
from isthmus.planning.cost import Price, PriceList, price_list
from isthmus.planning.ledger import FIRST
from isthmus.rig import lease
from isthmus.workflows import cost_settings, keep_ledger
from isthmus.workflows.devices import RegisteredDevices
from isthmus.workflows.plan_training import Planned, plan_training
from isthmus.workflows.read_costs import read_costs
from isthmus.workflows.record_outcome import Change, record_outcome
from isthmus.workflows.register_dataset import register_dataset
from isthmus.workflows.train_on_rig import finish_attempt, train_on_rig

BEGAN = 1_795_000_000.0  # 2026-11-18
MONTH = "2026-11"
PIPELINE = Used(state_transitions=60, lambda_requests=21, lambda_gb_seconds=9.0)
DEAR = device(price_per_hour_usd=2.0)


def plan(world: World, key: str, rig: DeviceDescriptor = DEAR, *, now: float = BEGAN) -> Planned:
    registered = RegisteredDevices(world.records)
    registered.register(rig)
    return plan_training(
        key, zone="aws:eu-west-1", now=now, blobs=world.blobs, records=world.records, devices=registered
    )


def job(world: World, seed: int = 0, team: str = "default") -> str:
    """A job that was not there before; its training may take an hour. Registered, its record alone names its team."""
    key = world.registered(world.job(world.training(hyperparameters={"seed": seed})))
    world.records.update(layout.job_pk(key), layout.STATE, {"team": team})
    return key


def train(world: World, key: str, planned: Planned, seconds: float, **outcome: Any) -> MemoryTasks:
    """What a rig and the state machine do of an attempt."""
    tasks, records = MemoryTasks(), world.records
    work = Work(job_key=key, fencing=planned.fencing, job="", manifest="", token="wait", execution="e")
    assert lease.take(work, planned.rig, records) == "fresh"
    train_on_rig(key, planned.fencing, tasks.open("train"), records=records, tasks=tasks, now=BEGAN + 1)
    said = Outcome(**({"state": AttemptState.SUCCEEDED, "seconds": seconds} | outcome))
    assert lease.commit(key, planned.fencing, planned.rig, said, records)
    finish_attempt(key, planned.fencing, records=records, tasks=tasks)
    return tasks


def entry(world: World, key: str, fencing: int = 1) -> Entry:
    found = keep_ledger.read_entry(key, fencing, world.records)
    assert found is not None
    return found


def through(world: World, seed: int, seconds: float) -> Entry:
    """A whole pipeline on the ledger."""
    key = job(world, seed)
    train(world, key, plan(world, key), seconds, fetched_bytes=0, output_bytes=1000)
    keep_ledger.settle(key, PIPELINE, now=BEGAN, records=world.records)
    return entry(world, key)


def test_the_first_training_of_a_model_is_estimated_by_its_deadline(world: World) -> None:
    key = job(world)
    plan(world, key)
    found = entry(world, key)
    assert (found.month, found.model, found.device, found.team) == (MONTH, "digits", "rig-1", "default")
    assert found.estimate.used.training_seconds == 3600
    assert found.estimate.charges.training_usd == pytest.approx(2.0)
    assert found.estimate.basis.startswith(keep_ledger.BY_DEADLINE)
    assert found.estimate.used.state_transitions == FIRST.state_transitions
    assert found.estimate.prices == price_list().name
    assert found.settlement is None


def test_an_imported_model_has_an_entry_without_a_training(world: World) -> None:
    artifact = world.put_blob("code/m.onnx", b"m")
    manifest_key, key = world.upload(world.manifest(world.job(Import(artifact=artifact), team="vision")))
    stored = {"blobs": world.blobs, "records": world.records}
    for _ in range(2):
        register_dataset(manifest_key, key, stack="shop", bucket_zone="aws:eu-west-1", now=NOW, **stored)
    keep_ledger.settle(key, PIPELINE, execution="e", now=BEGAN, records=world.records)
    (found,) = keep_ledger.read_job(key, world.records)
    assert (found.fencing, found.device, found.team, found.month) == (0, "import", "vision", NOW[:7])
    assert found.estimate.used.training_seconds == 0
    assert found.settlement is not None
    assert found.settlement.used.state_transitions == 60
    assert found.settlement.as_estimated == ()


def test_data_that_go_to_a_rig_leave_the_region_unless_they_are_there(world: World) -> None:
    key = job(world)
    size = sum(file.size_bytes for file in world.put_files())
    plan(world, key)
    assert entry(world, key).estimate.used.sent_bytes == size
    near = job(world, 1)
    plan(world, near, device(zone="aws:eu-west-1"))
    assert entry(world, near).estimate.used.sent_bytes == 0
    in_place = InPlace(zone="onprem-milan", root="scans")
    manifest = msgspec.structs.replace(world.manifest(), in_place=in_place)
    world.blobs.put(layout.registered_manifest(key), documents.encode(manifest))
    plan(world, key, device(data_roots=("scans",), software={"numpy": "2", "onnxruntime": "1"}))
    assert entry(world, key, 2).estimate.used.sent_bytes == 0


def test_later_ones_are_estimated_by_the_last_on_that_device(world: World) -> None:
    first = through(world, 0, 90.0)
    second = through(world, 1, 100.0)
    assert first.settlement is not None
    assert second.estimate.used.training_seconds == 90.0
    assert second.estimate.used.state_transitions == PIPELINE.state_transitions
    assert second.estimate.used.stored_bytes == 1000
    assert second.settlement is not None
    assert second.settlement.charges.training_usd == pytest.approx(100 / 3600 * 2)
    assert second.settlement.as_estimated == ()
    spent = read_costs([MONTH], "model", world.records)
    assert [line.attempts for line in spent.lines] == [2]
    assert spent.accuracy is not None
    assert (spent.accuracy.attempts, spent.accuracy.known) == (2, 1)


def test_an_estimate_is_frozen_and_a_settlement_is_written_once(world: World) -> None:
    key = job(world)
    planned = plan(world, key)
    before = entry(world, key).estimate
    train(world, key, planned, 60.0)
    own = PriceList(
        region="r", currency="USD", as_of="later", prices={"state_transition": Price(9.0, "ours")}
    )
    cost_settings.set_prices(own, world.records)
    keep_ledger.settle(key, PIPELINE, now=BEGAN, records=world.records)
    settled = entry(world, key)
    assert settled.estimate == before
    keep_ledger.settle(key, Used(state_transitions=999), now=BEGAN + 60, records=world.records)
    keep_ledger.report_training(key, 1, Reported(seconds=1.0), world.records)
    assert entry(world, key) == settled
    assert settled.settlement is not None
    assert settled.settlement.charges.step_functions_usd == pytest.approx(540), "at the prices of its end"


def test_prices_of_ones_own_count_until_the_listed_ones_do_again(world: World) -> None:
    own = PriceList(region="r", currency="USD", as_of="now", prices={"state_transition": Price(1.0, "ours")})
    assert cost_settings.set_prices(own, world.records).prices["state_transition"].usd == 1.0
    key = job(world)
    plan(world, key)
    assert entry(world, key).estimate.charges.step_functions_usd == FIRST.state_transitions
    assert cost_settings.set_prices(None, world.records) == price_list()
    assert cost_settings.load_prices(world.records) == price_list()
    with pytest.raises(InvalidDocument, match="no price gold"):
        cost_settings.set_prices(
            msgspec.structs.replace(own, prices={"gold": Price(1.0, "ours")}), world.records
        )


def test_a_redrive_is_charged_what_was_not_and_another_execution_all(world: World) -> None:
    key = job(world)
    train(world, key, plan(world, key), 10.0)
    keep_ledger.settle(key, PIPELINE, execution="first", now=BEGAN, records=world.records)
    train(world, key, plan(world, key), 10.0)
    more = msgspec.structs.replace(PIPELINE, state_transitions=75)
    keep_ledger.settle(key, more, execution="first", now=BEGAN, records=world.records)
    train(world, key, plan(world, key), 10.0)
    keep_ledger.settle(key, PIPELINE, execution="retry", now=BEGAN, records=world.records)
    found = [entry(world, key, fencing).settlement for fencing in (1, 2, 3)]
    assert [one.used.state_transitions for one in found if one] == [60, 15, 60]


def test_an_attempt_that_fell_silent_held_its_device_until_the_next_was_planned(world: World) -> None:
    key = job(world)
    first = plan(world, key)
    work = Work(job_key=key, fencing=1, job="", manifest="", token="wait", execution="e")
    lease.take(work, "rig-1", world.records)
    tasks = MemoryTasks()
    train_on_rig(key, first.fencing, tasks.open("t"), records=world.records, tasks=tasks, now=BEGAN + 10)
    second = plan(world, key, now=BEGAN + 110)
    said = entry(world, key).reported
    assert said == Reported(seconds=100.0, held=True)
    train(world, key, second, 50.0)
    keep_ledger.settle(key, PIPELINE, now=BEGAN, records=world.records)
    one, two = entry(world, key, 1).settlement, entry(world, key, 2).settlement
    assert one is not None
    assert two is not None
    assert (one.used.training_seconds, one.used.state_transitions) == (100.0, 0)
    assert (two.used.training_seconds, two.used.state_transitions) == (50.0, 60)


def test_a_stopped_pipeline_held_its_device_until_then(world: World) -> None:
    key = job(world)
    planned = plan(world, key)
    tasks = MemoryTasks()
    work = Work(job_key=key, fencing=1, job="", manifest="", token="wait", execution="e")
    lease.take(work, "rig-1", world.records)
    train_on_rig(key, planned.fencing, tasks.open("t"), records=world.records, tasks=tasks, now=0.0)
    change = Change(job_key=key, state="ABORTED", started=1, redrives=0)
    record_outcome(change, records=world.records, events=MemoryEvents(), now=NOW)
    said = entry(world, key).reported
    assert said is not None
    assert said.held


# ----------------------------------------------------------------------------------------- budgets


def test_a_budget_of_a_cent_stops_it_before_it_starts(world: World) -> None:
    cost_settings.set_budget(Budget(month_usd=0.01), world.records)
    key = job(world)
    with pytest.raises(BudgetExceeded, match=r"digits needs about \$2\.00.* on rig-1 .* \$0\.01 are left"):
        plan(world, key)
    assert world.records.get(layout.PLANNED, key) is None, "no rig waits for it"
    assert world.blobs.info(layout.plan_key(key, 1)) is None
    refused = entry(world, key)
    assert "needs about" in refused.refused
    assert read_costs([MONTH], "model", world.records).lines == ()
    cost_settings.set_budget(Budget(month_usd=5.0), world.records)
    assert plan(world, key).fencing == 2, "a redrive plans it again"


@pytest.mark.parametrize(
    ("budget", "stops"),
    [
        (Budget(month_usd=1.0, model="digits"), True),
        (Budget(month_usd=1.0, model="faces"), False),
        (Budget(month_usd=1.0, team="vision"), True),
        (Budget(month_usd=1.0, team="speech"), False),
    ],
)
def test_a_budget_of_a_model_or_a_team_stops_its_own_alone(world: World, budget: Budget, stops: bool) -> None:
    cost_settings.set_budget(budget, world.records)
    key = job(world, team="vision")
    if stops:
        with pytest.raises(BudgetExceeded, match=f"for {budget.name} in {MONTH}"):
            plan(world, key)
    else:
        plan(world, key)
    cost_settings.remove_budget(budget, world.records)
    assert cost_settings.read_budgets(world.records) == []
    plan(world, key)


def test_what_is_set_aside_is_given_back_when_less_was_used(world: World) -> None:
    cost_settings.set_budget(Budget(month_usd=3.0), world.records)
    key, other = job(world, 1), job(world, 2)
    planned = plan(world, key)
    with pytest.raises(BudgetExceeded, match="set aside for attempts that are not settled"):
        plan(world, other)
    train(world, key, planned, 36.0)
    keep_ledger.settle(key, PIPELINE, now=BEGAN, records=world.records)
    plan(world, other)


def test_another_month_has_a_budget_of_its_own(world: World) -> None:
    cost_settings.set_budget(Budget(month_usd=3.0), world.records)
    plan(world, job(world, 1))
    with pytest.raises(BudgetExceeded):
        plan(world, job(world, 2))
    plan(world, job(world, 2), now=BEGAN + 20 * 86_400)


def read_plan(world: World, planned: Planned) -> Plan:
    return documents.decode(Plan, world.blobs.get(planned.plan, max_bytes=100_000), "plan")


def test_a_training_gets_no_more_time_than_the_budget_pays_for(world: World) -> None:
    through(world, 0, 90.0)
    cost_settings.set_budget(Budget(month_usd=0.5), world.records)
    key = job(world, 1)
    planned = plan(world, key)
    # Three times the ninety seconds of the one before it.
    assert planned.max_seconds == 270
    assert read_plan(world, planned).max_runtime_seconds == 270
    found = entry(world, key)
    assert found.limit_seconds == 270
    assert found.estimate.used.training_seconds == 90.0
    exceeded = keep_ledger.over_limit(key, 1, world.records)
    assert "more than the 4 min 30 s of training that its budget sets aside" in str(exceeded)


def test_a_later_attempt_gets_all_that_is_left(world: World) -> None:
    through(world, 0, 90.0)
    cost_settings.set_budget(Budget(month_usd=0.5), world.records)
    key = job(world, 1)
    train(world, key, plan(world, key), 270.0, state=AttemptState.ABORTED, cause="BudgetExceeded: why")
    again = plan(world, key)
    assert 270 < again.max_seconds < 3600
    left = 0.5 - sum(
        one.settlement.total_usd
        for one in keep_ledger.read_month(MONTH, world.records)
        if one.settlement is not None
    )
    first = entry(world, key, 1)
    rest = first.estimate.total_usd - first.estimate.charges.training_usd
    assert entry(world, key, 2).at_most_usd == pytest.approx(left - rest - 270 / 3600 * 2)


def test_without_a_budget_the_deadline_is_the_limit(world: World) -> None:
    through(world, 0, 90.0)
    key = job(world, 1)
    assert plan(world, key).max_seconds == 3600
    assert keep_ledger.over_limit(key, 1, world.records) is None


def test_spot_waits_no_longer_when_its_time_is_cut() -> None:
    spot = Plan(
        job_key="k",
        fencing=1,
        device="d",
        zone="z",
        queue_url="",
        spot=True,
        max_runtime_seconds=3600,
        max_wait_seconds=5000,
    )
    cut = keep_ledger.with_limit(spot, 600)
    assert (cut.max_runtime_seconds, cut.max_wait_seconds) == (600, 2000)
    assert keep_ledger.with_limit(spot, 9000) == spot


def test_a_training_that_a_budget_ended_fails_its_state_by_that_name(world: World) -> None:
    key = job(world)
    tasks = train(
        world, key, plan(world, key), 5.0, state=AttemptState.ABORTED, cause="BudgetExceeded: needs more"
    )
    kind, (error, cause) = tasks.answers["train"]
    assert (kind, error) == ("failed", "BudgetExceeded")
    assert "needs more" in cause
