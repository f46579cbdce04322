"""An attempt on SageMaker: what is laid out for it, how its end is judged, and where what it left goes."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from typing import Any

import pytest
from botocore.session import Session
from botocore.validate import ParamValidator
from msgspec import UNSET
from msgspec.structs import replace
from workflow_world import World, device, onnx_model

from isthmus import documents
from isthmus.adapters.local.training_jobs import MemoryTrainingJobs
from isthmus.errors import (
    AttemptLost,
    EnvironmentProblem,
    InvalidJob,
    NoPlacement,
    PermissionMissing,
    PolicyViolation,
    TrainingFailed,
    Unavailable,
)
from isthmus.frameworks.contained import JOB_FILE
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.checkpoint import Checkpoint, CheckpointFile
from isthmus.model.cloud import CloudTraining
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Framework, Job, Training, Wishes
from isthmus.model.messages import Work
from isthmus.model.plan import Plan
from isthmus.model.slices import Slices
from isthmus.planning.training_request import unfit
from isthmus.ports import TrainingJobStatus
from isthmus.rig import lease
from isthmus.workflows import attempts_planned, cloud_checkpoints
from isthmus.workflows.collect_model import Collected, collect_model
from isthmus.workflows.devices import RegisteredDevices
from isthmus.workflows.evaluate_model import fetch_candidate
from isthmus.workflows.plan_training import Planned, plan_training
from isthmus.workflows.prepare_sagemaker import Prepared, job_name, prepare_sagemaker
from isthmus.workflows.stop_interrupted import stop_interrupted

URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/isthmus-training:mxnet-1.9.1"
ZONE, NOW = "aws:eu-west-1", 1_000_000.0
SILENT: dict[str, str] = {"Error": "", "Cause": ""}
CPU = "sagemaker-ml-m5-xlarge"


def code(**files: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", ".").replace("_in_", "/"), text)
    return stream.getvalue()


class Cloud:
    """A world with SageMaker set up, and one job of it."""

    def __init__(self, world: World, source: dict[str, Any] | None = None, **job: Any) -> None:
        self.world, self.jobs = world, MemoryTrainingJobs()
        settings = {"instance_types": ("ml.m5.xlarge",), "images": {"mxnet-1.9.1": URI}}
        item = {"pk": layout.SETTINGS, "sk": layout.SAGEMAKER, "settings": settings}
        world.records.put(item)
        packed = world.put_blob("code/t.zip", code(train__py="print('loss=1')", lib_in_more__py="x = 1"))
        training = world.training(code=packed, **(source or {}))
        self.job: Job = world.job(training, **job)
        self.key = world.registered(self.job)

    def plan(self, *devices: DeviceDescriptor, redrives: int = 0) -> Planned:
        registered = RegisteredDevices(self.world.records)
        for entry in devices:
            registered.register(entry)
        return plan_training(
            self.key,
            redrives=redrives,
            zone=ZONE,
            now=NOW,
            blobs=self.world.blobs,
            records=self.world.records,
            devices=registered,
        )

    def prepare(self, planned: Planned, redrives: int = 0) -> Prepared:
        return prepare_sagemaker(
            self.key,
            planned.plan,
            stack="shop",
            bucket="data",
            zone=ZONE,
            redrives=redrives,
            now=NOW,
            blobs=self.world.blobs,
            records=self.world.records,
            jobs=self.jobs,
            workdir=self.world.workdir(),
        )

    def begin(self, redrives: int = 0) -> Prepared:
        return self.prepare(self.plan(redrives=redrives), redrives)

    def ends(self, name: str, status: str, **more: Any) -> None:
        self.jobs.jobs[name] = TrainingJobStatus(status, **{"secondary": status, **more})

    def collect(
        self, fencing: int = 1, redrives: int = 0, failure: dict[str, str] | None = None
    ) -> Collected:
        return collect_model(
            self.key,
            fencing,
            redrives=redrives,
            failure=failure or SILENT,
            blobs=self.world.blobs,
            records=self.world.records,
            jobs=self.jobs,
            workdir=self.world.workdir(),
        )

    def complete(self, name: str, fencing: int = 1, **files: bytes) -> None:
        """What SageMaker writes of a training that ended well."""
        key = f"{layout.cloud_folder(self.key, fencing)}output/{name}/output/model.tar.gz"
        members = {name.replace("__", "."): data for name, data in files.items()}
        self.world.blobs.put(key, tar(members))
        self.ends(name, "Completed", seconds=61.0, billed_seconds=61.0, artifacts=f"s3://data/{key}")


def tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


@pytest.fixture
def cloud(world: World) -> Cloud:
    return Cloud(world)


# ------------------------------------------------------------------ laid out


def test_what_is_prepared_is_a_request_that_sagemaker_takes(cloud: Cloud) -> None:
    prepared = cloud.begin()
    request = {
        "TrainingJobName": prepared.name,
        "RoleArn": "arn:aws:iam::123456789012:role/shop-training-role",
        "AlgorithmSpecification": {
            "TrainingImage": prepared.image,
            "ContainerEntrypoint": prepared.entrypoint,
            "TrainingInputMode": prepared.input_mode,
            "MetricDefinitions": prepared.metrics,
        },
        "HyperParameters": prepared.hyperparameters,
        "InputDataConfig": prepared.channels,
        "OutputDataConfig": {"S3OutputPath": prepared.output},
        "CheckpointConfig": {"S3Uri": prepared.checkpoints},
        "ResourceConfig": prepared.resources,
        "StoppingCondition": prepared.stopping,
        "EnableManagedSpotTraining": prepared.spot,
        "ExperimentConfig": prepared.experiment,
        "Tags": prepared.tags,
    }
    shape = Session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    assert re.fullmatch(f"shop-{cloud.key}-1-[0-9a-f]{{6}}", prepared.name)
    assert (prepared.image, prepared.resources["InstanceType"]) == (URI, "ml.m5.xlarge")
    limits = {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 90_000}
    assert (prepared.spot, prepared.stopping) == (True, limits)
    assert prepared.checkpoints == f"s3://data/checkpoints/{cloud.key}/sagemaker/"
    assert {"Key": "isthmus:job", "Value": cloud.key} in prepared.tags
    assert {"Key": "isthmus:team", "Value": "default"} in prepared.tags


def test_the_container_is_given_the_code_and_the_names_of_the_data(cloud: Cloud) -> None:
    prepared = cloud.begin()
    home = layout.cloud_folder(cloud.key, 1)
    raw = cloud.world.blobs.get(f"{home}code/sourcedir.tar.gz", max_bytes=1 << 24)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        names = set(archive.getnames())
        told = archive.extractfile(f".isthmus/{JOB_FILE}")
        assert told is not None
        job = json.loads(told.read())
    assert {"train.py", "lib/more.py", "isthmus_train.py"} <= names
    assert ".isthmus/isthmus/frameworks/export.py" in names
    assert not [name for name in names if "/workflows/" in name or "/adapters/" in name]
    assert {entry["path"] for entry in job["channels"]} == {"test/x.npy", "test/y.npy"}
    (channel,) = [entry for entry in prepared.channels if entry["ChannelName"] == "test"]
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    listed = json.loads(cloud.world.blobs.get(uri.removeprefix("s3://data/"), max_bytes=10_000))
    assert listed[0] == {"prefix": "s3://data/datasets/digits/"}
    assert set(listed[1:]) == {entry["object"] for entry in job["channels"]}
    begins = cloud.world.blobs.get(f"{home}code/begin.sh", max_bytes=10_000)
    assert b"train" in begins
    assert prepared.entrypoint == ["/bin/sh", "/opt/ml/input/data/isthmus_code/begin.sh"]
    again = cloud.prepare(cloud.plan())
    other = cloud.world.blobs.get(
        f"{layout.cloud_folder(cloud.key, 2)}code/sourcedir.tar.gz", max_bytes=1 << 24
    )
    assert (again.name[: len(prepared.name) - 7], other) == (f"shop-{cloud.key}-2", raw)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"other__py": ""}, r"has no train\.py"),
        ({"train__py": "", "isthmus_train__py": ""}, "a name that isthmus uses itself"),
    ],
)
def test_code_that_cannot_be_packed_is_refused(world: World, files: dict[str, str], said: str) -> None:
    cloud = Cloud(world)
    packed = world.put_blob("code/bad.zip", code(**files))
    cloud.key = world.registered(world.job(world.training(code=packed)))
    with pytest.raises(InvalidJob, match=said):
        cloud.begin()


def test_the_policy_is_asked_again_where_the_bytes_would_move(cloud: Cloud) -> None:
    planned = cloud.plan()
    item = {"pk": layout.dataset_pk("digits"), "sk": layout.POLICY, "policy": {"zones": ["onprem-*"]}}
    cloud.world.records.put(item)
    with pytest.raises(PolicyViolation, match=r"onprem-\* alone; SageMaker is in aws:eu-west-1"):
        cloud.prepare(planned)


def test_names_fit_and_differ_by_attempt() -> None:
    key = "a" * 40
    names = {job_name(stack, key, fencing, "0a1b2c") for stack in ("shop", "s" * 40) for fencing in (1, 12)}
    assert len(names) == 4
    assert all(len(name) <= 63 for name in names)
    with pytest.raises(EnvironmentProblem, match="the stack's name leaves 10"):
        job_name("s" * 43, key, 1, "0a1b2c")


def test_a_rig_that_comes_back_finds_itself_superseded(cloud: Cloud) -> None:
    cloud.plan(device())
    cloud.world.records.delete(layout.RIGS, "rig-1")
    cloud.begin()
    work = Work(job_key=cloud.key, fencing=1, job="", manifest="", token="t", execution="e")
    assert lease.take(work, "rig-1", cloud.world.records) == "no"


# ------------------------------------------------------------------ how it ended


def test_a_model_becomes_the_candidate_that_is_evaluated(cloud: Cloud) -> None:
    name, model = cloud.begin().name, onnx_model()
    files = {"model__onnx": model, "export__json": b"{}", "metrics__json": b'{"loss": 0.5}'}
    cloud.complete(name, **files, **{"model-symbol__json": b"not taken", "curves__json": b"{}"})
    beside = cloud.jobs.jobs[name].artifacts.removeprefix("s3://data/").replace("model.tar", "output.tar")
    cloud.world.blobs.put(beside, tar({"curve.csv": b"1,2"}))
    assert cloud.collect() == Collected(1, 61.0)
    assert cloud.collect() == Collected(1, 61.0), "called again it says the same"
    world = cloud.world
    path = fetch_candidate(cloud.job, cloud.key, 1, world.blobs, world.workdir())
    assert path.read_bytes() == model
    prefix = layout.attempt_output(cloud.key, 1)
    left = {info.key.removeprefix(prefix) for info in world.blobs.keys(prefix)}
    assert left == {
        *("model.onnx", "export.json", "metrics.json", "curves.json"),
        "data/curve.csv",
        "output.json",
    }
    outcome = world.lease(cloud.key)["outcome"]
    assert (outcome["state"], outcome["metrics"], outcome["seconds"]) == ("SUCCEEDED", {"loss": 0.5}, 61.0)
    assert attempts_planned.took("digits", world.records) == {CPU: 61.0}
    assert attempts_planned.waits(world.records, but="", now=NOW) == {}


def test_without_a_model_it_is_the_scripts_fault(cloud: Cloud) -> None:
    name = cloud.begin().name
    cloud.complete(name, metrics__json=b"{}")
    with pytest.raises(TrainingFailed, match=r"the training left no model\.onnx"):
        cloud.collect()
    assert cloud.world.lease(cloud.key)["state"] == "FAILED"


LOST = [
    ({"status": "Stopped", "passed": ("Training", "Interrupted", "Stopped")}, "took back the spot capacity"),
    ({"status": "Stopped", "secondary": "MaxWaitTimeExceeded"}, "no spot capacity came"),
    ({"status": "Failed", "reason": "CapacityError: Unable to provision"}, "had no capacity"),
    ({"status": "Failed", "reason": "InternalServerError: We encountered an internal error"}, "failed at"),
]


@pytest.mark.parametrize(("ended", "said"), LOST)
def test_what_sagemaker_could_not_give_or_took_back_leads_to_another_offer(
    cloud: Cloud, ended: dict[str, Any], said: str
) -> None:
    cloud.ends(cloud.begin().name, **ended)
    with pytest.raises(AttemptLost, match=said):
        cloud.collect()
    planned = cloud.plan()
    raw = cloud.world.blobs.get(planned.plan, max_bytes=10_000)
    plan = documents.decode(Plan, raw, "plan")
    assert (plan.device, plan.spot, plan.fencing) == (CPU, False, 2)
    (refused,) = plan.refusals
    assert refused.device == f"{CPU} spot"
    assert said in refused.reason


FAILED = [
    ({"status": "Failed", "reason": "AlgorithmError: no such class"}, TrainingFailed, "no such class"),
    ({"status": "Stopped", "secondary": "MaxRuntimeExceeded"}, TrainingFailed, "within its deadline"),
    ({"status": "Stopped"}, TrainingFailed, "was stopped"),
    ({"status": "Failed", "reason": "ClientError: cannot pull"}, EnvironmentProblem, "cannot pull"),
]


@pytest.mark.parametrize(("ended", "kind", "said"), FAILED)
def test_other_ends_fail_the_job_and_a_redrive_plans_anew(
    cloud: Cloud, ended: dict[str, Any], kind: type[Exception], said: str
) -> None:
    cloud.ends(cloud.begin().name, **ended)
    with pytest.raises(kind, match=said):
        cloud.collect()
    assert cloud.world.lease(cloud.key)["state"] == "FAILED"
    with pytest.raises(AttemptLost, match="redriven"):
        cloud.collect(redrives=1)
    assert cloud.begin(redrives=1).spot, "a redrive tries everything again"


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (
            {"Error": "SageMaker.ResourceLimitExceededException", "Cause": "0 instances"},
            AttemptLost,
            "no room",
        ),
        (
            {"Error": "SageMaker.AmazonSageMakerException", "Cause": "bad role"},
            EnvironmentProblem,
            "bad role",
        ),
        (
            {
                "Error": "SageMaker.AmazonSageMakerException",
                "Cause": "User: arn:aws:sts::1:assumed-role/shop-role/x is not authorized to perform: "
                "sagemaker:CreateTrainingJob on resource: arn:aws:sagemaker:eu-west-1:1:training-job/x "
                "because no identity-based policy allows the sagemaker:CreateTrainingJob action",
            },
            PermissionMissing,
            "sagemaker:CreateTrainingJob",
        ),
    ],
)
def test_a_job_that_was_never_made_says_what_the_state_machine_heard(
    cloud: Cloud, failure: dict[str, str], kind: type[Exception], said: str
) -> None:
    cloud.begin()
    with pytest.raises(kind, match=said):
        cloud.collect(failure=failure)


def test_a_job_that_is_being_stopped_is_waited_for(cloud: Cloud) -> None:
    cloud.ends(cloud.begin().name, "Stopping")
    with pytest.raises(Unavailable, match="is Stopping"):
        cloud.collect(redrives=1)


def test_an_attempt_that_was_superseded_collects_nothing(cloud: Cloud) -> None:
    name = cloud.begin().name
    cloud.begin()
    cloud.complete(name, model__onnx=onnx_model())
    with pytest.raises(AttemptLost, match="no longer holds the lease"):
        cloud.collect(1)


def test_a_redrive_before_the_job_was_made_counts_for_it(cloud: Cloud) -> None:
    planned = cloud.plan()
    cloud.prepare(planned)
    cloud.ends(cloud.prepare(planned, redrives=1).name, "Failed", reason="AlgorithmError: no")
    with pytest.raises(TrainingFailed):
        cloud.collect(redrives=1)


# ------------------------------------------------------------------ checkpoints


def committed(cloud: Cloud, fencing: int, **files: bytes) -> None:
    """What a rig leaves of a checkpoint."""
    world, entries = cloud.world, []
    for name, data in files.items():
        digest = documents.sha256(data)
        world.blobs.put(layout.checkpoint_blob(cloud.key, digest), data)
        entries.append(CheckpointFile(path=f"epoch/{name}", sha256=digest, size_bytes=len(data)))
    made = Checkpoint(job_key=cloud.key, fencing=fencing, generation=1, files=tuple(entries))
    raw = documents.encode(made)
    world.blobs.put(layout.checkpoint_manifest(cloud.key, documents.sha256(raw)), raw)
    values = {"manifest": documents.sha256(raw), "by": fencing, "generation": 1, "fencing": fencing}
    world.records.update(layout.job_pk(cloud.key), layout.CHECKPOINT, values)


def plain(cloud: Cloud) -> dict[str, bytes]:
    home = layout.cloud_checkpoints(cloud.key)
    found = cloud.world.blobs.keys(home)
    return {e.key.removeprefix(home): cloud.world.blobs.get(e.key, max_bytes=1000) for e in found}


def test_sagemaker_goes_on_from_a_rigs_checkpoint_and_a_rig_from_sagemakers(cloud: Cloud) -> None:
    world, home = cloud.world, layout.cloud_checkpoints(cloud.key)
    world.blobs.put(f"{home}old", b"of an attempt before the rig's")
    cloud.plan(device())
    world.records.delete(layout.RIGS, "rig-1")
    committed(cloud, 1, params=b"p1", states=b"s1")
    name = cloud.begin().name
    assert plain(cloud) == {"epoch/params": b"p1", "epoch/states": b"s1"}
    world.blobs.put(f"{home}epoch/params", b"p2")
    cloud.ends(name, "Stopped", passed=("Interrupted",))
    with pytest.raises(AttemptLost):
        cloud.collect(2)
    item = world.records.get(layout.job_pk(cloud.key), layout.CHECKPOINT) or {}
    assert (item["by"], item["generation"]) == (2, 2)
    key = layout.checkpoint_manifest(cloud.key, item["manifest"])
    newest = documents.decode(Checkpoint, world.blobs.get(key, max_bytes=10_000), key)
    found = {
        f.path: world.blobs.get(layout.checkpoint_blob(cloud.key, f.sha256), max_bytes=9)
        for f in newest.files
    }
    assert found == {"epoch/params": b"p2", "epoch/states": b"s1"}
    assert len([*world.blobs.keys(f"checkpoints/{cloud.key}/blobs/")]) == 2, "what was replaced is gone"


def test_a_job_that_succeeded_leaves_no_checkpoints(cloud: Cloud) -> None:
    name = cloud.begin().name
    cloud.world.blobs.put(f"{layout.cloud_checkpoints(cloud.key)}epoch", b"1")
    cloud.complete(name, model__onnx=onnx_model())
    cloud.collect()
    assert [*cloud.world.blobs.keys(layout.checkpoint_folder(cloud.key))] == []


def test_a_later_attempt_has_the_checkpoints(cloud: Cloud) -> None:
    cloud.begin()
    cloud.begin()
    with pytest.raises(AttemptLost, match="a later attempt"):
        cloud_checkpoints.lay_out(cloud.key, 1, cloud.world.blobs, cloud.world.records)


# ------------------------------------------------------------------ interrupted


def interrupted(cloud: Cloud, *devices: DeviceDescriptor, now_is: str = "Interrupted") -> tuple[str, str]:
    """Return what is decided of an interrupted job, and how it is then."""
    name = cloud.begin().name
    cloud.ends(name, "InProgress", secondary=now_is, passed=("Training", "Interrupted"))
    registered = RegisteredDevices(cloud.world.records)
    for entry in devices:
        registered.register(entry)
    decided = stop_interrupted(
        name,
        now=NOW,
        blobs=cloud.world.blobs,
        records=cloud.world.records,
        devices=registered,
        jobs=cloud.jobs,
    )
    return decided, cloud.jobs.jobs[name].status


def test_an_interrupted_job_is_stopped_if_a_rig_takes_it_and_else_left_to_sagemaker(world: World) -> None:
    assert interrupted(Cloud(world), device(frameworks={})) == ("left", "InProgress")
    assert interrupted(Cloud(world), device()) == ("stopped", "Stopped")
    wishing = Cloud(world, wishes=Wishes(run_on="sagemaker"))
    assert interrupted(wishing, device()) == ("left", "InProgress")


def test_an_interrupted_job_is_left_where_its_time_is_short_or_the_rig_is_not_free(world: World) -> None:
    hurried = Cloud(world, wishes=Wishes(within_seconds=7200))
    assert interrupted(hurried, device()) == ("left", "InProgress")
    busy = Cloud(world)
    at_work = {"fencing": 1, "device": device().id, "expires_at": NOW + 10_000, "expected_seconds": 9000}
    world.records.put({"pk": layout.PLANNED, "sk": "another", **at_work})
    assert interrupted(busy, device()) == ("left", "InProgress")


def test_an_event_that_comes_late_stops_no_job_that_trains_again(cloud: Cloud) -> None:
    assert interrupted(cloud, device(), now_is="Training") == ("left", "InProgress")


LONG = {f"h{number}": 1 for number in range(99)}


@pytest.mark.parametrize(
    ("training", "files", "why"),
    [
        ({}, [f"class{n}/x.npy" for n in range(20)], "takes 19 channels"),
        ({}, ["class 0/x.npy"], "a first folder of the dataset is 'class 0'"),
        ({}, ["isthmus_code/x.npy"], "and not isthmus_code"),
        ({"deadline_seconds": 29 * 86_400}, ["train/x.npy"], "SageMaker trains for 28 days"),
        ({"hyperparameters": {"note": "x" * 3000}}, ["train/x.npy"], "note has more"),
        ({"hyperparameters": LONG}, ["train/x.npy"], "takes 98 hyperparameters"),
        (
            {"slices": Slices(cuts=(3,), samples=8, steps=10, every=5)},
            ["train/x.npy"],
            "slices are trained on a rig; SageMaker does not start them",
        ),
    ],
)
def test_what_sagemaker_would_refuse_is_not_planned_for_it(
    training: dict[str, Any], files: list[str], why: str
) -> None:
    wanted = Training(
        framework=Framework(name="mxnet", version="1.9.1"),
        entry_point="train.py",
        code=BlobRef(key="code.zip", sha256="0" * 64, size_bytes=1),
        **training,
    )
    assert why in unfit(wanted, (name.partition("/")[0] for name in files))
    fit = replace(wanted, deadline_seconds=60, hyperparameters={}, slices=UNSET)
    assert unfit(fit, ["train", "test"]) == ""


def test_a_job_that_nobody_waits_for_is_left(cloud: Cloud) -> None:
    name = cloud.begin().name
    cloud.begin()
    cloud.ends(name, "InProgress")
    ports: dict[str, Any] = {"blobs": cloud.world.blobs, "records": cloud.world.records, "jobs": cloud.jobs}
    devices = RegisteredDevices(cloud.world.records)
    devices.register(device())
    assert stop_interrupted(name, now=NOW, devices=devices, **ports) == "unknown"
    assert stop_interrupted("another's", now=NOW, devices=devices, **ports) == "unknown"


# ------------------------------------------------------------------ planned


def test_the_queue_of_a_rig_counts_until_its_attempts_end(world: World) -> None:
    cloud = Cloud(world, {"deadline_seconds": 1000, "queue_deadline_seconds": 1500})
    first = cloud.plan(device())
    assert (first.runs_on, attempts_planned.waits(world.records, but="", now=NOW)) == (
        "rig",
        {"rig-1": 1000.0},
    )
    attempts_planned.started(cloud.key, 1, world.records, now=NOW)
    assert attempts_planned.waits(world.records, but="", now=NOW + 400) == {"rig-1": 600.0}
    assert attempts_planned.waits(world.records, but=cloud.key, now=NOW) == {}
    for number in range(2):
        Cloud(world, {"deadline_seconds": 1000, "queue_deadline_seconds": 1501 + number}).plan()
    last = Cloud(world, {"deadline_seconds": 1000, "queue_deadline_seconds": 1503}).plan()
    assert (last.runs_on, last.rig) == ("sagemaker", CPU)
    attempts_planned.ended(cloud.key, 1, world.records, seconds=300.0)
    assert attempts_planned.took("digits", world.records) == {"rig-1": 300.0}
    assert attempts_planned.waits(world.records, but="", now=NOW + 10**9) == {}, "a note that is left expires"


def test_nothing_is_trained_in_the_cloud_before_an_administrator_set_it_up(cloud: Cloud) -> None:
    cloud.world.records.delete(layout.SETTINGS, layout.SAGEMAKER)
    with pytest.raises(NoPlacement, match="isthmus rig join"):
        cloud.plan()
    wishing = cloud.world.registered(cloud.world.job(wishes=Wishes(run_on="sagemaker")))
    with pytest.raises(NoPlacement, match=r"isthmus sagemaker set --image mxnet-1\.9\.1=URI"):
        plan_training(
            wishing,
            zone=ZONE,
            blobs=cloud.world.blobs,
            records=cloud.world.records,
            devices=RegisteredDevices(cloud.world.records),
        )


def test_the_settings_refuse_an_image_that_is_not_in_ecr() -> None:
    with pytest.raises(ValueError, match="needs an address of Amazon ECR"):
        CloudTraining(images={"mxnet-1.9.1": "docker.io/mxnet:1.9.1"})


def test_the_time_that_a_job_was_given_runs_from_its_submission_and_anew_from_a_redrive(world: World) -> None:
    cloud = Cloud(world, wishes=Wishes(within_seconds=4000))
    arguments: dict[str, Any] = {
        "zone": ZONE,
        "submitted_at": "1970-01-12T13:46:40+00:00",  # NOW
        "blobs": world.blobs,
        "records": world.records,
        "devices": RegisteredDevices(world.records),
    }
    planned = plan_training(cloud.key, now=NOW + 300, **arguments)
    plan = documents.decode(Plan, world.blobs.get(planned.plan, max_bytes=10_000), "plan")
    assert (plan.spot, plan.max_wait_seconds, planned.deadline_seconds) == (True, 3700, 4600)
    with pytest.raises(NoPlacement, match="0 ms are left"):
        plan_training(cloud.key, now=NOW + 5000, **arguments)
    assert plan_training(cloud.key, now=NOW + 5000, redrives=1, **arguments).runs_on == "sagemaker"
