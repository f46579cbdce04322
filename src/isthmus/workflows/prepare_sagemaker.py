"""Lay out a training on SageMaker: its program and the lists of its data in the bucket, and its job's parameters."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import AttemptLost, Conflict, DigestMismatch, EnvironmentProblem, PolicyViolation
from isthmus.frameworks.contained import ENTRYPOINT, PROGRAM
from isthmus.model import layout
from isthmus.model.cloud import CloudTraining
from isthmus.model.dataset import Manifest
from isthmus.model.job import Job, Training
from isthmus.model.messages import DEFAULT_TEAM, AttemptState
from isthmus.model.plan import Plan
from isthmus.planning.choice import offer_name
from isthmus.ports import BlobStore, Records, TrainingJobs
from isthmus.workflows import attempts_planned, cloud_checkpoints, former_training, source_archive
from isthmus.workflows.loading import load_cloud_training, load_manifest, load_policy
from isthmus.workflows.plan_training import load_training

NAME_CHARACTERS = 63
"""Of a training job's name (API reference, CreateTrainingJob), which has no underscore."""
KEY_CHARACTERS = 12
"""Of a job key, that at least must fit into the name."""
NAME_BYTES = 3
"""Of chance in the name."""
CODE_CHANNEL = "isthmus_code"
ARCHIVE, BEGIN = "sourcedir.tar.gz", "begin.sh"
CODE_FOLDER = f"/opt/ml/input/data/{CODE_CHANNEL}"
GRAPHED = (
    "epoch",
    "loss",
    "accuracy",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "test_accuracy",
)
"""Metrics that SageMaker shows as curves; all that a script prints as ``name=value`` are the attempt's."""
NUMBER = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"


class Prepared(msgspec.Struct, frozen=True):
    """What the state machine makes the job with, in the words of CreateTrainingJob."""

    name: str
    image: str
    entrypoint: list[str]
    input_mode: str
    metrics: list[dict[str, str]]
    hyperparameters: dict[str, str]
    channels: list[dict[str, Any]]
    output: str
    checkpoints: str
    resources: dict[str, Any]
    stopping: dict[str, int]
    spot: bool
    experiment: dict[str, str]
    tags: list[dict[str, str]]


def prepare_sagemaker(
    job_key: str,
    plan_key: str,
    *,
    stack: str,
    bucket: str,
    zone: str,
    redrives: int,
    now: float,
    blobs: BlobStore,
    records: Records,
    jobs: TrainingJobs,
    workdir: Path,
) -> Prepared:
    """Put in place what the training reads, and take the lease for it; may be called again.

    ``zone``: where the bucket lies, and SageMaker trains. ``now``: seconds since the epoch.

    Raises:
        PolicyViolation: the data may not lie there any more.
        AttemptLost: a later attempt has the lease.
        InvalidJob: its code cannot be packed for a container.
        DigestMismatch: its code is not what the job names.
        Unavailable: the training job of an attempt before is being stopped.
    """
    job, training = load_training(job_key, blobs)
    manifest = load_manifest(blobs, job_key)
    check_zone(manifest.dataset, zone, records)
    raw = blobs.get(plan_key, max_bytes=documents.MAX_DOCUMENT_BYTES)
    plan = documents.decode(Plan, raw, plan_key)
    settings = load_cloud_training(records) or CloudTraining()
    name = job_name(stack, job_key, plan.fencing, secrets.token_hex(NAME_BYTES))
    former_training.end_former(job_key, plan.fencing, blobs=blobs, records=records, jobs=jobs)
    folder = layout.cloud_folder(job_key, plan.fencing)
    _put_source(folder, training, manifest, blobs, workdir)
    name = _take_lease(name, plan, redrives, records)
    cloud_checkpoints.lay_out(job_key, plan.fencing, blobs, records)
    attempts_planned.started(job_key, plan.fencing, records, now=now)
    s3 = f"s3://{bucket}/"
    return Prepared(
        name=name,
        image=image_of(training, settings),
        # A parameter holds 256 characters, and what begins the program is longer: it comes with the code.
        entrypoint=[ENTRYPOINT[0], f"{CODE_FOLDER}/{BEGIN}"],
        input_mode="Pipe" if training.streams else "File",
        metrics=_metrics(),
        hyperparameters=_hyperparameters(training),
        channels=_channels(s3, folder, training, manifest, blobs),
        output=f"{s3}{folder}output",
        checkpoints=f"{s3}{layout.cloud_checkpoints(job_key)}",
        resources=_resources(plan, settings),
        stopping=_stopping(plan),
        spot=plan.spot,
        experiment=_experiment(settings, name),
        tags=_tags(stack, job_key, job, records),
    )


def check_zone(dataset: str, zone: str, records: Records) -> None:
    """Ask again where the bytes would move: the policy may have changed since the plan.

    Raises:
        PolicyViolation: raw data of the dataset may not lie there.
    """
    policy = load_policy(records, dataset)
    if not policy.allows_zone(zone):
        raise PolicyViolation(
            f"the data policy of {dataset} lets raw data lie in {', '.join(policy.zones) or 'no zone'} alone; "
            f"SageMaker is in {zone}"
        )


def job_name(stack: str, job_key: str, fencing: int, part: str) -> str:
    """Return the name of an attempt's training job: the stack's, then as much of the job's key as there is room for,
    then the attempt's number and a part of its own. Names are taken for ever, and a stack that was destroyed and is
    deployed again counts its attempts from 1.

    Raises:
        EnvironmentProblem: the stack's name leaves no room for the job's key.
    """
    room = NAME_CHARACTERS - len(f"{stack}--{fencing}-{part}")
    if room < KEY_CHARACTERS:
        raise EnvironmentProblem(
            f"needs {KEY_CHARACTERS} characters of the job's key in a name of {NAME_CHARACTERS}; the stack's name "
            f"leaves {room}: train on a rig, or deploy under a shorter name"
        )
    return f"{stack}-{job_key[:room]}-{fencing}-{part}"


def image_of(training: Training, settings: CloudTraining) -> str:
    """Return the image to train in; empty when its administrator has taken it away since the plan."""
    if training.image is not msgspec.UNSET:
        return training.image
    return settings.images.get(f"{training.framework.name}-{training.framework.version}", "")


def _put_source(folder: str, training: Training, manifest: Manifest, blobs: BlobStore, workdir: Path) -> None:
    code, archive = workdir / "code.zip", workdir / ARCHIVE
    if (found := blobs.download(training.code.key, code)) != training.code.sha256:
        raise DigestMismatch(
            f"{training.code.key} has the SHA-256 {found}; {training.code.sha256} was promised"
        )
    source_archive.make(code, _told(training, manifest), archive)
    blobs.put(f"{folder}code/{BEGIN}", f"{ENTRYPOINT[-1]}\n".encode())
    blobs.upload(f"{folder}code/{ARCHIVE}", archive, sha256=documents.sha256(archive.read_bytes()))


def _told(training: Training, manifest: Manifest) -> dict[str, Any]:
    """What the program in the container is told of the job (``frameworks.contained``)."""
    channels = [
        {
            "channel": file.channel,
            "path": file.path if "/" in file.path else f"{file.channel}/{file.path}",
            "object": file.key or layout.blob_path(file.sha256),
            "sha256": file.sha256,
        }
        for file in manifest.files
    ]
    return {
        "framework": training.framework.name,
        "entry_point": training.entry_point,
        "launcher": training.launchers[0] if training.launchers else "",
        "parity_tolerance": training.parity_tolerance,
        "streams": training.streams,
        "channels": channels,
    }


def _take_lease(name: str, plan: Plan, redrives: int, records: Records) -> str:
    """Return the job's name: what it was when the lease was taken first. A rig that had an attempt before, and comes
    back, finds a higher number."""
    values = {
        "fencing": plan.fencing,
        "rig": plan.device,
        "agent": "",
        "bidder": "",
        "redrives": redrives,
        "retries": 0,
        "state": AttemptState.RUNNING.value,
        "token": "",
        "outcome": None,
        "cause": "",
        "training_job": name,
        "offer": offer_name(plan.device, spot=plan.spot),
    }
    pk = layout.job_pk(plan.job_key)
    try:
        records.update(pk, layout.LEASE, values, below={"fencing": plan.fencing})
    except Conflict as error:
        lease = records.get(pk, layout.LEASE) or {}
        if lease.get("fencing") != plan.fencing or not lease.get("training_job"):
            raise AttemptLost(f"attempt {plan.fencing} of job {plan.job_key} was superseded") from error
        # Redriven before its job was made: what ends from now on is of this redrive.
        records.update(pk, layout.LEASE, {"redrives": redrives}, expect={"fencing": plan.fencing})
        name = str(lease["training_job"])
    records.update(
        layout.cloud_job_pk(name), layout.STATE, {"job_key": plan.job_key, "fencing": plan.fencing}
    )
    return name


def _metrics() -> list[dict[str, str]]:
    return [{"Name": name, "Regex": rf"(?:^|[\s,;]){name}={NUMBER}"} for name in GRAPHED]


def _hyperparameters(training: Training) -> dict[str, str]:
    """Each as JSON, as SageMaker's own estimators write them and the toolkit reads them."""
    own = {name: json.dumps(value) for name, value in training.hyperparameters.items()}
    place = f"{CODE_FOLDER}/{ARCHIVE}"
    return own | {
        "sagemaker_program": json.dumps(PROGRAM),
        "sagemaker_submit_directory": json.dumps(place),
    }


def _channels(
    s3: str, folder: str, training: Training, manifest: Manifest, blobs: BlobStore
) -> list[dict[str, Any]]:
    found = [_channel(CODE_CHANNEL, "S3Prefix", f"{s3}{folder}code/", {"InputMode": "File"})]
    home = layout.dataset_folder(manifest.dataset)
    wraps = {"RecordWrapperType": "RecordIO"} if training.wraps_records else {}
    for channel in sorted({file.channel for file in manifest.files}):
        keys = {f.key or layout.blob_path(f.sha256): None for f in manifest.files if f.channel == channel}
        key = f"{folder}channels/{channel}.manifest"
        blobs.put(key, json.dumps([{"prefix": f"{s3}{home}"}, *keys]).encode())
        found.append(_channel(channel, "ManifestFile", f"{s3}{key}", wraps))
    return found


def _channel(name: str, kind: str, uri: str, more: dict[str, str]) -> dict[str, Any]:
    source = {"S3DataType": kind, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **more}


def _resources(plan: Plan, settings: CloudTraining) -> dict[str, Any]:
    return {"InstanceType": plan.instance_type, "InstanceCount": 1, "VolumeSizeInGB": settings.volume_gb}


def _stopping(plan: Plan) -> dict[str, int]:
    limit = {"MaxRuntimeInSeconds": plan.max_runtime_seconds}
    return limit | ({"MaxWaitTimeInSeconds": plan.max_wait_seconds} if plan.spot else {})


def _experiment(settings: CloudTraining, name: str) -> dict[str, str]:
    shown = {"TrialComponentDisplayName": name}
    return shown | ({"ExperimentName": settings.experiment} if settings.experiment else {})


def _tags(stack: str, job_key: str, job: Job, records: Records) -> list[dict[str, str]]:
    # The team stands in the job's record: the registered job is the same for every team.
    record = records.get(layout.job_pk(job_key), layout.STATE) or {}
    tags = {layout.STACK_TAG: stack, "isthmus:job": job_key, "isthmus:model": job.model}
    tags["isthmus:team"] = str(record.get("team", DEFAULT_TEAM))
    return [{"Key": key, "Value": value} for key, value in tags.items()]
