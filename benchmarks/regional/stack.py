"""What a stack and a joined rig have at an endpoint, as far as the bridge needs it; and a rig's agent there."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.regional.endpoint import REGION
from isthmus import documents
from isthmus.adapters.aws.session import client
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Framework, Job, Training
from isthmus.ports import BlobStore, Records
from isthmus.rig.services import Services

TABLE, BUCKET, RIG, FINISH = "isthmus", "isthmus-data", "rig-1", "finish"
FRAMEWORK = Framework(name="mxnet", version="1.9.1")


def environment(url: str) -> dict[str, str]:
    """Return a process's environment for which AWS is at ``url``."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return own | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def queue_url(url: str, name: str = RIG) -> str:
    """Return a queue's URL as a client of ``url`` says it."""
    return f"{url}/123456789012/{name}"


def make(queues: tuple[str, ...] = (RIG,)) -> None:
    """Make table, bucket and queues."""
    keys = [("pk", "HASH"), ("sk", "RANGE")]
    client("dynamodb").create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
    )
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for name in queues:
        client("sqs").create_queue(QueueName=name)


def device(url: str) -> DeviceDescriptor:
    """Return the rig as it would have joined."""
    return DeviceDescriptor(
        id=RIG,
        kind="rig",
        zone="onprem",
        arch="x86_64",
        cores=2,
        memory_bytes=1 << 30,
        disk_free_bytes=1 << 30,
        frameworks={FRAMEWORK.name: (FRAMEWORK.version,)},
        queue_url=queue_url(url),
    )


def put_job(key: str, script: str, blobs: BlobStore, **settings: Any) -> None:
    """Register a job with a small dataset."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("train.py", script)
    code, data = packed.getvalue(), b"1,2\n"
    digests = [hashlib.sha256(part).hexdigest() for part in (code, data)]
    blobs.put(f"code/{digests[0]}.zip", code)
    blobs.put(layout.dataset_folder("d") + layout.blob_path(digests[1]), data)
    reference = BlobRef(key=f"code/{digests[0]}.zip", sha256=digests[0], size_bytes=len(code))
    training = Training(framework=FRAMEWORK, entry_point="train.py", code=reference, **settings)
    job = documents.encode(Job(model="m", source=training))
    named = BlobRef(key="job.json", sha256=documents.sha256(job), size_bytes=len(job))
    file = DatasetFile(path="train/a.csv", sha256=digests[1], size_bytes=len(data))
    blobs.put(layout.registered_job(key), job)
    blobs.put(
        layout.registered_manifest(key), documents.encode(Manifest(dataset="d", files=(file,), job=named))
    )


def stores() -> tuple[Records, BlobStore]:
    """Return the table and the bucket, over this process's environment."""
    from isthmus.adapters.aws.blobs import S3BlobStore
    from isthmus.adapters.aws.records import DynamoRecords

    return DynamoRecords(TABLE), S3BlobStore(BUCKET)


def agent(
    url: str,
    folder: Path,
    report: Any,
    runner: Any,
    through: Callable[[Services], Services] = lambda services: services,
) -> Any:
    """Return a rig's agent with the adapters that ship, at an endpoint. ``through``: what its calls go through."""
    from isthmus.adapters.aws.bridge import LambdaReporter, SqsJobQueue, StepFunctionsTasks
    from isthmus.adapters.system import SystemClock, SystemThreads
    from isthmus.rig.agent import Agent
    from isthmus.rig.services import RigSettings

    records, blobs = stores()
    services = Services(
        queue=SqsJobQueue(queue_url(url)),
        records=records,
        tasks=StepFunctionsTasks(),
        blobs=blobs,
        reporter=LambdaReporter(FINISH),
        clock=SystemClock(),
        threads=SystemThreads(),
    )
    settings = RigSettings(rig=RIG, folder=folder, bucket_zone=f"aws:{REGION}", cache_bytes=1 << 30)
    return Agent(settings, through(services), runner, report)
