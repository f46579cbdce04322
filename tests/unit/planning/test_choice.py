"""Rig first if it can in time, else SageMaker's spot, else on demand; and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from isthmus.errors import NoPlacement
from isthmus.model.blob import BlobRef
from isthmus.model.cloud import CloudTraining
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Framework, Job, Training, Wishes
from isthmus.model.policy import DataPolicy
from isthmus.planning.choice import Choice, Outlook, choose
from isthmus.planning.cloud_devices import cloud_device, training_devices

URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/isthmus-training:mxnet-1.9.1"
CPU, GPU = "sagemaker-ml-m5-xlarge", "sagemaker-ml-g4dn-xlarge"
MINUTE, HOUR = 60, 3600


def device(name: str = "rig-1", **changes: Any) -> DeviceDescriptor:
    values: dict[str, Any] = {
        "id": name,
        "kind": "rig",
        "zone": "onprem-milan",
        "arch": "x86_64",
        "cores": 8,
        "memory_bytes": 16 << 30,
        "disk_free_bytes": 1 << 40,
        "frameworks": {"mxnet": ("1.9.1",)},
    }
    return DeviceDescriptor(**(values | changes))


def cloud(**changes: Any) -> list[DeviceDescriptor]:
    return training_devices(CloudTraining(images={"mxnet-1.9.1": URI}, **changes), "aws:eu-west-1")


def a_job(*, deadline: int = HOUR, queue: int = 86_400, image: str = "", **wishes: Any) -> Job:
    code = BlobRef(key="code/c.zip", sha256="0" * 64, size_bytes=1)
    more = {"image": image} if image else {}
    source = Training(
        framework=Framework(name="mxnet", version="1.9.1"),
        entry_point="train.py",
        code=code,
        deadline_seconds=deadline,
        queue_deadline_seconds=queue,
        **more,  # type: ignore[arg-type]
    )
    return Job(model="digits", source=source, wishes=Wishes(**wishes))


def chosen(
    job: Job,
    devices: list[DeviceDescriptor],
    *,
    policy: DataPolicy | None = None,
    **outlook: Any,
) -> Choice:
    assert isinstance(job.source, Training)
    return choose(job, job.source, devices, policy or DataPolicy(), Outlook(**outlook))


def reasons(choice: Choice) -> dict[str, str]:
    return {entry.device: entry.reason for entry in choice.refusals}


def test_a_rig_comes_first_and_every_other_offer_is_told_why_it_did_not() -> None:
    found = chosen(a_job(), [device(), *cloud()])
    assert (found.device.id, found.spot, found.wait_seconds) == ("rig-1", False, 0.0)
    assert found.reason == "a rig that may and can comes first; it is free at once"
    assert set(reasons(found)) == {CPU, f"{CPU} spot", GPU, f"{GPU} spot"}
    assert "rig-1 is a rig, which comes before SageMaker spot" in reasons(found)[f"{CPU} spot"]


def test_without_a_rig_spot_comes_before_on_demand_and_the_cheapest_first() -> None:
    found = chosen(a_job(), [device(frameworks={}), *cloud()])
    assert (found.device.id, found.spot) == (CPU, True)
    price = cloud_device("sagemaker:ml.m5.xlarge").price_per_hour_usd
    assert found.cost_usd == pytest.approx(price)
    assert found.reason == f"no rig may and can in time; spot costs at most ${price:g} an hour"
    assert "costs $0.7364 an hour" in reasons(found)[f"{GPU} spot"]
    assert chosen(a_job(), cloud(), spot=False).spot is False


def test_a_rig_that_is_busy_for_longer_than_the_job_waits_is_passed_over() -> None:
    job, devices = a_job(queue=10 * MINUTE), [device(), *cloud()]
    assert chosen(job, devices, waits={"rig-1": 600.0}).device.id == "rig-1"
    found = chosen(job, devices, waits={"rig-1": 601.0})
    assert (found.device.id, found.spot) == (CPU, True)
    assert "what it has to do before takes about 10 min 01 s; the job waits 10 min" in reasons(found)["rig-1"]


def test_where_nobody_else_may_a_job_waits_for_the_rig_that_is_free_soonest() -> None:
    """What it waits for is an estimate: fifty jobs of an unknown length would else be refused by a rig of their own."""
    job = a_job(queue=10 * MINUTE)
    found = chosen(job, [device("a"), device("b")], waits={"a": 9000.0, "b": 8000.0})
    assert (found.device.id, found.wait_seconds) == ("b", 8000.0)
    assert found.reason.startswith("nobody else may and can; what it has to do before may take 133 min 20 s")
    assert "takes about 150 min" in reasons(found)["a"]


def test_of_rigs_as_cheap_the_one_that_is_free_sooner_wins() -> None:
    devices = [device("a"), device("b"), device("dear", price_per_hour_usd=1.0)]
    found = chosen(a_job(), devices, waits={"a": 100.0, "b": 10.0})
    assert (found.device.id, found.wait_seconds) == ("b", 10.0)
    assert reasons(found)["a"] == "could run it; b is as cheap, and free 90.0 s sooner"
    assert found.reason.endswith("it is free about 10.0 s from now")


def test_the_wish_for_a_time_counts_the_wait_and_the_training() -> None:
    devices, waits = [device(), *cloud()], {"rig-1": 500.0}
    known = {"took": {"rig-1": 400.0}, "waits": waits}
    assert chosen(a_job(), devices, left=900.0, **known).device.id == "rig-1"
    found = chosen(a_job(deadline=800), devices, left=899.0, **known)
    assert (found.device.id, found.spot, found.expected_seconds) == (CPU, True, 400.0)
    assert found.basis == "as long as on rig-1"
    assert "starts in about 8 min 20 s and takes about 6 min 40 s" in reasons(found)["rig-1"]


def test_spot_needs_room_for_its_whole_deadline_else_it_is_on_demand() -> None:
    found = chosen(a_job(deadline=HOUR), cloud(), left=HOUR - 1.0, took={CPU: 60.0})
    assert (found.device.id, found.spot) == (CPU, False)
    assert "spot may wait for capacity, and needs its whole deadline" in reasons(found)[f"{CPU} spot"]
    assert found.reason.startswith("neither a rig nor spot may and can in time")


def test_a_training_that_nobody_knows_is_taken_to_last_until_its_deadline() -> None:
    with pytest.raises(
        NoPlacement, match=r"takes about 60 min 00 s \(its deadline, since none of this model"
    ):
        chosen(a_job(), [device()], left=600.0)


def test_wishes_and_policy_are_kept() -> None:
    devices = [device(), *cloud()]
    assert chosen(a_job(run_on="sagemaker"), devices).device.id == CPU
    with pytest.raises(NoPlacement, match="wishes to run on a rig; this is a sagemaker"):
        chosen(a_job(run_on="rig"), cloud())
    with pytest.raises(
        NoPlacement, match=r"lets raw data lie in onprem-\* alone; this device is in aws:eu-west-1"
    ):
        chosen(a_job(run_on="sagemaker"), devices, policy=DataPolicy(zones=("onprem-*",)))


def test_what_was_tried_in_vain_is_not_asked_for_again() -> None:
    tried = {f"{CPU} spot": "attempt 1: SageMaker took back the spot capacity of j"}
    found = chosen(a_job(), cloud(instance_types=("ml.m5.xlarge",)), tried=tried)
    assert (found.device.id, found.spot) == (CPU, False)
    assert reasons(found)[f"{CPU} spot"] == tried[f"{CPU} spot"]


def test_sagemaker_needs_an_image_that_it_can_pull() -> None:
    bare = training_devices(CloudTraining(), "aws:eu-west-1")
    with pytest.raises(NoPlacement, match=r"isthmus sagemaker set --image mxnet-1\.9\.1=URI"):
        chosen(a_job(), bare)
    elsewhere = f"registry.example/trainer@sha256:{'0' * 64}"
    with pytest.raises(NoPlacement, match="pulls images from Amazon ECR alone"):
        chosen(a_job(image=elsewhere), bare)
    own = f"{URI.partition(':')[0]}@sha256:{'0' * 64}"
    assert chosen(a_job(image=own), bare).device.id == CPU


def test_fifty_jobs_on_one_rig_spill_over_by_deadline_and_budget() -> None:
    """Each takes ten minutes and has two hours: twelve fit on the rig. What may cost nothing stays out."""
    devices = [device(), *cloud()]
    waits: dict[str, float] = {}
    places: Counter[str] = Counter()
    refused: list[str] = []
    for number in range(50):
        wishes = {"max_cost_usd": 0.01} if number % 5 == 0 else {}
        try:
            found = chosen(
                a_job(within_seconds=2 * HOUR, **wishes),
                devices,
                left=2.0 * HOUR,
                waits=waits,
                took={"rig-1": 600.0},
            )
        except NoPlacement as error:
            refused.append(str(error))
            continue
        places[f"{found.device.id}{' spot' if found.spot else ''}"] += 1
        if found.device.kind == "rig":
            waits["rig-1"] = waits.get("rig-1", 0.0) + found.expected_seconds
    assert places == {"rig-1": 12, f"{CPU} spot": 31}
    assert len(refused) == 7
    assert all("the job allows $0.01" in said and "rig-1: starts in about" in said for said in refused)
