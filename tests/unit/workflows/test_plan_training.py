from __future__ import annotations

from typing import Any

import pytest
from workflow_world import GPU, World, device

from isthmus import documents
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import AttemptLost, InvalidJob, NoPlacement
from isthmus.model import layout
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Import, Resources, Wishes
from isthmus.model.messages import AttemptState, Work
from isthmus.model.plan import Plan
from isthmus.ports import Item
from isthmus.rig import lease, orphans
from isthmus.workflows.devices import RegisteredDevices
from isthmus.workflows.plan_training import Planned, check_lost, loss, plan_training

IMAGE = f"registry.example/trainer@sha256:{'0' * 64}"


def plan(world: World, key: str, *devices: DeviceDescriptor) -> Planned:
    registered = RegisteredDevices(world.records)
    for entry in devices:
        registered.register(entry)
    return plan_training(key, blobs=world.blobs, records=world.records, devices=registered)


def read_plan(world: World, planned: Planned) -> Plan:
    return documents.decode(Plan, world.blobs.get(planned.plan, max_bytes=10_000), "plan")


def allow_zones(world: World, *zones: str) -> None:
    item = {"pk": layout.dataset_pk("digits"), "sk": layout.POLICY, "policy": {"zones": list(zones)}}
    world.records.put(item)


@pytest.mark.parametrize(
    ("job", "rig", "said"),
    [
        ({}, {"usage": ("inference",)}, "needs a device for training; this one is for inference"),
        ({}, {"frameworks": {"mxnet": ("1.8.0",)}}, "needs mxnet 1.9.1; the device has mxnet 1.8.0"),
        ({}, {"frameworks": {}}, "the device has no mxnet"),
        (
            {},
            {"frameworks": {}, "unfit_frameworks": {"mxnet 1.9.1": "mxnet 1.9.1 needs glibc 2.28 or newer"}},
            r"mxnet 1\.9\.1 needs glibc 2\.28",
        ),
        (
            {"image": IMAGE},
            {},
            "needs Docker or Podman for the job's container image; the device has neither",
        ),
        ({"resources": Resources(accelerators=2)}, {"accelerators": (GPU,)}, "needs 2 accelerators"),
        (
            {"resources": Resources(memory_bytes=32 << 30)},
            {},
            "needs 32.0 GiB of memory; the device has 16.0 GiB",
        ),
    ],
    ids=["usage", "version", "framework", "unfit", "engine", "accelerators", "memory"],
)
def test_a_refusal_says_what_was_needed_and_what_there_was(
    world: World, job: dict[str, Any], rig: dict[str, Any], said: str
) -> None:
    key = world.registered(world.job(world.training(**job)))
    with pytest.raises(NoPlacement, match=rf"rig-1: .*{said}"):
        plan(world, key, device(**rig))


def test_the_policy_refuses_a_zone_by_name(world: World) -> None:
    key = world.registered()
    allow_zones(world, "onprem-turin", "aws:*")
    with pytest.raises(NoPlacement, match=r"onprem-turin, aws:\* alone; this device is in onprem-milan"):
        plan(world, key, device())
    allow_zones(world, "onprem-*")
    assert plan(world, key, device()).rig == "rig-1"


def test_a_wish_is_kept_but_never_overrides_the_policy(world: World) -> None:
    key = world.registered(world.job(wishes=Wishes(run_on="sagemaker")))
    with pytest.raises(NoPlacement, match="wishes to run on a sagemaker; this is a rig"):
        plan(world, key, device())
    allow_zones(world, "onprem-milan")
    with pytest.raises(NoPlacement, match="the data policy"):
        plan(world, key, device("cloud", kind="sagemaker", zone="aws:eu-west-1"))


def test_a_cost_limit_refuses_what_could_cost_more_within_its_deadline(world: World) -> None:
    job = world.job(world.training(deadline_seconds=7200), wishes=Wishes(max_cost_usd=1.0))
    key = world.registered(job)
    with pytest.raises(NoPlacement, match=r"could cost \$1\.20 .* the job allows \$1\.00"):
        plan(world, key, device(price_per_hour_usd=0.6))
    assert plan(world, key, device("cheap", price_per_hour_usd=0.5)).rig == "cheap"


def test_without_a_device_the_sentence_says_what_to_do(world: World) -> None:
    with pytest.raises(NoPlacement, match="isthmus rig join"):
        plan(world, world.registered())


def test_the_cheapest_wins_then_the_largest_then_the_name(world: World) -> None:
    key = world.registered()
    devices = [
        device("dear", price_per_hour_usd=2.0, cores=64),
        device("small", price_per_hour_usd=0.5, cores=4),
        device("twin-b", price_per_hour_usd=0.5, cores=16),
        device("twin-a", price_per_hour_usd=0.5, cores=16),
    ]
    planned = plan(world, key, *devices)
    assert (planned.rig, planned.queue_url) == ("twin-a", "https://sqs/twin-a")
    refusals = {entry.device: entry.reason for entry in read_plan(world, planned).refusals}
    assert set(refusals) == {"dear", "small", "twin-b"}
    assert "costs $2.0000 an hour" in refusals["dear"]
    assert "at least as large" in refusals["small"]


def test_the_plan_carries_the_jobs_times(world: World) -> None:
    source = world.training(offline_tolerance_seconds=20, queue_deadline_seconds=300, deadline_seconds=1000)
    planned = plan(world, world.registered(world.job(source)), device())
    assert (planned.heartbeat_seconds, planned.queue_deadline_seconds) == (20, 300)
    assert planned.deadline_seconds == 1900


def test_an_image_needs_an_engine_and_no_environment(world: World) -> None:
    key = world.registered(world.job(world.training(image=IMAGE)))
    assert plan(world, key, device(frameworks={}, containers={"podman": "5.4.2"})).rig == "rig-1"


def test_the_plan_says_how_many_gpus_an_agent_must_have(world: World) -> None:
    source = world.training(resources=Resources(accelerators=2))
    assert plan(world, world.registered(world.job(source)), device(accelerators=(GPU, GPU))).accelerators == 2


def test_an_import_is_not_planned(world: World) -> None:
    artifact = world.put_blob("code/m.onnx", b"m")
    with pytest.raises(InvalidJob, match="nothing to train"):
        plan(world, world.registered(world.job(Import(artifact=artifact))), device())


def take(key: str, fencing: int, records: MemoryRecords, rig: str = "rig-1") -> str:
    work = Work(job_key=key, fencing=fencing, job="", manifest="", token="t", execution="e")
    return lease.take(work, rig, records)


def test_fencing_rises_and_the_lost_lease_is_marked(world: World) -> None:
    key = world.registered()
    first = plan(world, key, device())
    assert (first.fencing, first.replaces_lost) == (1, False)
    assert take(key, 1, world.records) == "fresh"
    second = plan(world, key, device())
    assert (second.fencing, second.replaces_lost) == (2, True)
    assert world.lease(key)["state"] == AttemptState.LOST
    assert take(key, 2, world.records, "rig-2") == "fresh"
    assert take(key, 1, world.records) == "no", "the old attempt cannot come back"


def test_an_outcome_that_was_committed_before_stands(world: World) -> None:
    key = world.registered()
    plan(world, key, device())
    take(key, 1, world.records)
    outcome = {"state": "FAILED", "cause": "boom"}
    values = {"outcome": outcome, "state": "FAILED"}
    world.records.update(layout.job_pk(key), layout.LEASE, values)
    plan(world, key, device())
    assert world.lease(key)["state"] == "FAILED"


class LateRig(MemoryRecords):
    """The rig commits its outcome after the planner has read the lease, before it writes."""

    def get(self, pk: str, sk: str) -> Item | None:
        found = super().get(pk, sk)
        if sk == layout.LEASE and found is not None and not found.get("outcome"):
            values = {"outcome": {"state": "SUCCEEDED"}, "state": "SUCCEEDED"}
            super().update(pk, sk, values, expect={"fencing": found["fencing"], "outcome": None})
        return found


def test_an_outcome_that_comes_between_read_and_write_wins(world: World) -> None:
    world.records = LateRig()
    key = world.registered()
    plan(world, key, device())
    take(key, 1, world.records)
    plan(world, key, device())
    assert world.lease(key)["state"] == AttemptState.SUCCEEDED


def plan_after_loss(world: World, key: str) -> Planned:
    return plan_training(
        key,
        after_loss=loss(1, SILENT),
        blobs=world.blobs,
        records=world.records,
        devices=RegisteredDevices(world.records),
    )


def test_a_lost_lease_says_why(world: World) -> None:
    key = world.registered()
    plan(world, key, device())
    take(key, 1, world.records)
    plan_after_loss(world, key)
    assert world.lease(key)["cause"] == "the rig fell silent for longer than the job's offline tolerance"


@pytest.mark.parametrize("records", [MemoryRecords, LateRig])
def test_a_result_that_came_after_its_attempt_was_given_up_is_kept_as_an_orphan(
    world: World, records: type[MemoryRecords]
) -> None:
    world.records = records()
    key = world.registered()
    plan(world, key, device())
    take(key, 1, world.records)
    values = {"outcome": {"state": "SUCCEEDED", "output": "jobs/x/", "metrics": {"loss": 0.5}}}
    if records is MemoryRecords:
        world.records.update(layout.job_pk(key), layout.LEASE, {**values, "state": "SUCCEEDED"})
    assert not plan_after_loss(world, key).replaces_lost
    (orphan,) = orphans.of_rig("rig-1", world.records)
    assert (orphan.job_key, orphan.fencing, orphan.told) == (key, 1, True)
    assert "fell silent" in orphan.cause


def test_a_retry_of_a_job_that_succeeded_makes_no_orphan_of_it(world: World) -> None:
    key = world.registered()
    plan(world, key, device())
    take(key, 1, world.records)
    done = {"outcome": {"state": "SUCCEEDED"}, "state": "SUCCEEDED"}
    world.records.update(layout.job_pk(key), layout.LEASE, done)
    plan(world, key, device())
    assert orphans.of_rig("rig-1", world.records) == []


def test_every_attempt_keeps_the_jobs_team_and_place(world: World) -> None:
    key = world.registered()
    world.records.update(layout.job_pk(key), layout.STATE, {"team": "vision", "priority": 8})
    registered = RegisteredDevices(world.records)
    registered.register(device())
    places = []
    for _ in range(2):
        planned = plan_training(
            key,
            submitted_at="2026-11-22T12:00:00+01:00",
            blobs=world.blobs,
            records=world.records,
            devices=registered,
        )
        places.append((planned.fencing, planned.team, planned.priority, planned.submitted_at))
    since = "2026-11-22T11:00:00.000Z"
    assert places == [(1, "vision", 8, since), (2, "vision", 8, since)]


def test_a_job_that_was_registered_before_teams_is_the_default_teams(world: World) -> None:
    planned = plan(world, world.registered(), device())
    assert (planned.team, planned.priority, planned.submitted_at) == ("default", 5, "")


SILENT = {"Error": "States.HeartbeatTimeout", "Cause": ""}


@pytest.mark.parametrize(("lost", "redrives"), [(0, 0), (2, 0), (3, 1), (5, 1)])
def test_another_attempt_is_planned_while_not_too_many_were_lost(lost: int, redrives: int) -> None:
    check_lost(lost, redrives, SILENT)


@pytest.mark.parametrize(("lost", "redrives"), [(3, 0), (4, 0), (6, 1)])
def test_too_many_lost_attempts_end_the_pipeline_where_it_can_be_redriven(lost: int, redrives: int) -> None:
    with pytest.raises(
        AttemptLost, match=f"{lost} attempts were lost .*HeartbeatTimeout: the rig fell silent"
    ):
        check_lost(lost, redrives, SILENT)
