"""Training jobs that nobody waits for any more, ends that look like others, and what is learned of an end."""

from __future__ import annotations

from typing import Any

import pytest
from test_train_on_sagemaker import CPU, Cloud, plain
from workflow_world import World, onnx_model

from isthmus import documents
from isthmus.errors import AttemptLost, BudgetExceeded, IsthmusError, NoPlacement, TrainingFailed, Unavailable
from isthmus.model import layout
from isthmus.model.ledger import Budget
from isthmus.model.plan import Plan
from isthmus.workflows import attempts_planned, cost_settings, keep_ledger

TIMEOUT = {"Error": "States.Timeout", "Cause": ""}
TAKEN = {"Error": "SageMaker.ResourceInUseException", "Cause": "Training job names must be unique"}
UNREACHED = {"Error": "SageMaker.SdkClientException", "Cause": "Read timed out"}
THROTTLED = {
    "Error": "SageMaker.AmazonSageMakerException",
    "Cause": "Rate exceeded (Service: AmazonSageMaker; Status Code: 400; Error Code: ThrottlingException)",
}
RUNS: dict[str, Any] = {"status": "InProgress", "passed": ("Starting", "Training")}


@pytest.fixture
def cloud(world: World) -> Cloud:
    return Cloud(world)


def next_plan(cloud: Cloud, redrives: int = 0) -> Plan:
    raw = cloud.world.blobs.get(cloud.plan(redrives=redrives).plan, max_bytes=10_000)
    return documents.decode(Plan, raw, "plan")


# ------------------------------------------------------------------ nobody waits for it


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (TIMEOUT, TrainingFailed, "had not ended when its deadline was long over"),
        (TAKEN, AttemptLost, "did not hear that .* was made"),
        (UNREACHED, AttemptLost, "did not hear that .* was made"),
    ],
)
def test_a_job_that_runs_after_its_wait_is_over_is_stopped_and_waited_for(
    cloud: Cloud, failure: dict[str, str], kind: type[IsthmusError], said: str
) -> None:
    name = cloud.begin().name
    cloud.ends(name, **RUNS)
    with pytest.raises(Unavailable, match="is InProgress"):
        cloud.collect(failure=failure)
    assert cloud.jobs.jobs[name].status == "Stopped"
    with pytest.raises(kind, match=said):
        cloud.collect(failure=failure)
    assert next_plan(cloud).spot, "the offer is not to blame"


def test_one_that_runs_when_its_execution_is_redriven_is_stopped(cloud: Cloud) -> None:
    name = cloud.begin().name
    cloud.ends(name, **RUNS)
    with pytest.raises(Unavailable):
        cloud.collect(redrives=1)
    assert cloud.jobs.jobs[name].status == "Stopped"


@pytest.mark.parametrize("error", ["", "AttemptLost", "States.HeartbeatTimeout", "PolicyViolation"])
def test_what_befell_the_attempt_before_stops_nothing(cloud: Cloud, error: str) -> None:
    name = cloud.begin().name
    cloud.ends(name, **RUNS)
    with pytest.raises(Unavailable):
        cloud.collect(failure={"Error": error, "Cause": "of the attempt before"})
    assert cloud.jobs.jobs[name].status == "InProgress"


def test_two_jobs_never_write_to_the_same_checkpoints(cloud: Cloud) -> None:
    first = cloud.begin()
    cloud.ends(first.name, **RUNS)
    planned = cloud.plan()
    with pytest.raises(Unavailable, match=f"{first.name} of an attempt before is InProgress"):
        cloud.prepare(planned)
    assert cloud.world.lease(cloud.key)["fencing"] == 1
    second = cloud.prepare(planned)
    assert cloud.jobs.jobs[first.name].status == "Stopped"
    assert (second.checkpoints, second.name == first.name) == (first.checkpoints, False)
    assert cloud.prepare(planned).name == second.name, "called again it says the same"


def test_a_job_of_a_stack_that_is_gone_is_not_taken_for_this_attempts(world: World) -> None:
    gone, cloud = Cloud(world), Cloud(world)
    old = gone.begin().name
    gone.complete(old, model__onnx=onnx_model())
    cloud.jobs = gone.jobs
    for sk in (layout.LEASE, "FENCING"):
        world.records.delete(layout.job_pk(cloud.key), sk)
    name = cloud.begin().name
    assert (cloud.key, world.lease(cloud.key)["fencing"]) == (gone.key, 1)
    assert name != old


# ------------------------------------------------------------------ checkpoints that nobody committed


def test_a_stopped_jobs_checkpoints_are_what_a_retry_goes_on_from(cloud: Cloud) -> None:
    name, home = cloud.begin().name, layout.cloud_checkpoints(cloud.key)
    cloud.world.blobs.put(f"{home}epoch-40", b"40 epochs")
    cloud.ends(name, "Stopped", passed=("Training", "Stopping", "Stopped"))
    cloud.begin()
    assert plain(cloud) == {"epoch-40": b"40 epochs"}


def test_a_rigs_later_checkpoints_are_not_written_over(cloud: Cloud) -> None:
    world, home = cloud.world, layout.cloud_checkpoints(cloud.key)
    name = cloud.begin().name
    world.blobs.put(f"{home}epoch-40", b"40 epochs")
    cloud.ends(name, "Stopped", passed=("Training", "Interrupted", "Stopping", "Stopped"))
    with pytest.raises(AttemptLost):
        cloud.collect()
    rigs = {"fencing": 2, "rig": "rig-1", "outcome": None}
    world.records.update(layout.job_pk(cloud.key), layout.LEASE, rigs)
    world.records.update(layout.job_pk(cloud.key), layout.CHECKPOINT, {"fencing": 2})
    world.blobs.put(f"{home}epoch-41", b"of nobody")
    world.records.update(layout.job_pk(cloud.key), "FENCING", {"number": 2})
    cloud.begin()
    assert plain(cloud) == {"epoch-40": b"40 epochs"}


# ------------------------------------------------------------------ ends that look like others

AGAIN = ("Starting", "Training", "Interrupted", "Starting", "Training", "Stopping")


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ({"status": "Stopped", "passed": (*AGAIN, "Stopped")}, "was stopped"),
        ({"status": "Stopped", "secondary": "MaxRuntimeExceeded", "passed": AGAIN}, "within its deadline"),
        (
            {"status": "Stopped", "secondary": "MaxRuntimeExceeded", "passed": AGAIN[:3]},
            "within its deadline",
        ),
        (
            {"status": "Failed", "reason": "AlgorithmError: Insufficient capacity of the replay buffer"},
            "replay buffer",
        ),
        (
            {"status": "Failed", "reason": "AlgorithmError: CapacityError: of the replay buffer"},
            "replay buffer",
        ),
    ],
)
def test_an_end_of_the_jobs_own_is_not_told_as_sagemakers(
    cloud: Cloud, ended: dict[str, Any], said: str
) -> None:
    cloud.ends(cloud.begin().name, **ended)
    with pytest.raises(TrainingFailed, match=said):
        cloud.collect()


def test_a_throttled_request_is_made_again_for_the_same_offer(cloud: Cloud) -> None:
    cloud.begin()
    with pytest.raises(AttemptLost, match="did not come through"):
        cloud.collect(failure=THROTTLED)
    plan = next_plan(cloud)
    assert (plan.device, plan.spot, plan.fencing) == (CPU, True, 2)


def test_a_refusal_for_want_of_room_is_known_by_its_code(cloud: Cloud) -> None:
    cloud.begin()
    cause = "The limit is 0 (Service: AmazonSageMaker; Status Code: 400; Error Code: ResourceLimitExceeded)"
    with pytest.raises(AttemptLost, match="has no room"):
        cloud.collect(failure={"Error": "SageMaker.AmazonSageMakerException", "Cause": cause})
    assert not next_plan(cloud).spot


def test_a_raised_budget_and_a_redrive_go_on(world: World) -> None:
    before = Cloud(world)
    before.complete(before.begin().name, model__onnx=onnx_model(), export__json=b"{}")
    before.collect()
    cost_settings.set_budget(Budget(month_usd=5.0), world.records)
    cloud = Cloud(world, {"hyperparameters": {"epochs": 2}})
    cloud.ends(cloud.begin().name, "Stopped", secondary="MaxRuntimeExceeded", billed_seconds=183.0)
    with pytest.raises(BudgetExceeded):
        cloud.collect()
    with pytest.raises(AttemptLost, match="redriven"):
        cloud.collect(redrives=1)


def test_a_retry_asks_again_for_what_was_not_to_be_had(cloud: Cloud) -> None:
    for fencing in (1, 2):
        cloud.ends(cloud.begin().name, "Failed", reason="CapacityError: none")
        with pytest.raises(AttemptLost):
            cloud.collect(fencing)
    with pytest.raises(NoPlacement):
        cloud.plan()
    attempts_planned.forget(cloud.key, cloud.world.records)  # as the record of the execution's end does
    assert next_plan(cloud).spot


# ------------------------------------------------------------------ what is learned


def test_placement_learns_how_long_it_trained_and_the_ledger_what_was_billed(cloud: Cloud) -> None:
    name = cloud.begin().name
    cloud.complete(name, model__onnx=onnx_model())
    artifacts = cloud.jobs.jobs[name].artifacts
    cloud.ends(name, "Completed", seconds=500.0, billed_seconds=100.0, artifacts=artifacts)
    assert cloud.collect().seconds == 500.0
    assert attempts_planned.took("digits", cloud.world.records) == {CPU: 500.0}
    entry = keep_ledger.read_entry(cloud.key, 1, cloud.world.records)
    assert entry is not None
    assert entry.reported is not None
    assert entry.reported.seconds == 100.0


def test_nothing_is_learned_of_an_attempt_that_went_on_from_a_checkpoint(cloud: Cloud) -> None:
    name = cloud.begin().name
    cloud.world.blobs.put(f"{layout.cloud_checkpoints(cloud.key)}epoch-40", b"40 epochs")
    cloud.ends(name, "Stopped", passed=("Training", "Interrupted", "Stopping", "Stopped"), seconds=3500.0)
    with pytest.raises(AttemptLost):
        cloud.collect()
    cloud.complete(cloud.begin().name, fencing=2, model__onnx=onnx_model())
    cloud.collect(2)
    assert attempts_planned.took("digits", cloud.world.records) == {}
