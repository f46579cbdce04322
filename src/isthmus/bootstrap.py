"""The composition root: the one place that decides which adapter stands behind which port.

Adapters are imported inside the functions, so that a handler loads only what it uses.
"""

from __future__ import annotations

import datetime
import functools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.ports import Belongings, BlobStore, CallFigures, Devices, Engine, Functions, Records, Signer

if TYPE_CHECKING:
    from isthmus.adapters.aws.bridge import StepFunctionsTasks
    from isthmus.adapters.aws.events import EventBridgeEvents
    from isthmus.adapters.aws.executions import StepFunctionsHistories
    from isthmus.adapters.aws.fleet import GreengrassFleet
    from isthmus.adapters.aws.machines import StepFunctionsExecutions
    from isthmus.adapters.aws.operator.account import AwsAccount
    from isthmus.adapters.aws.operator.estate import AwsEstate
    from isthmus.adapters.aws.pipeline import StepFunctionsPipeline
    from isthmus.adapters.aws.registry import SageMakerRegistry
    from isthmus.adapters.aws.signing import RequestSigner
    from isthmus.adapters.aws.training_jobs import SageMakerTrainingJobs
    from isthmus.adapters.machine import ThisMachine
    from isthmus.adapters.system import SystemClock, SystemThreads
    from isthmus.edge.server import EdgeServer
    from isthmus.planning.cost import Cost


@functools.cache
def blobs(bucket: str) -> BlobStore:
    """The stack's data bucket."""
    from isthmus.adapters.aws.blobs import S3BlobStore

    return S3BlobStore(bucket)


@functools.cache
def records(table: str) -> Records:
    """The stack's table."""
    from isthmus.adapters.aws.records import DynamoRecords

    return DynamoRecords(table)


def devices(table: str) -> Devices:
    """The registered devices."""
    from isthmus.workflows.devices import RegisteredDevices

    return RegisteredDevices(records(table))


@functools.cache
def signer(key_id: str) -> Signer:
    """The stack's bundle signer."""
    from isthmus.adapters.aws.signer import KmsSigner

    return KmsSigner(key_id)


def functions(bucket: str) -> Functions:
    """Lambda."""
    from isthmus.adapters.aws.functions import LambdaFunctions

    return LambdaFunctions(bucket)


def call_figures() -> CallFigures:
    """What Lambda counts of calls."""
    from isthmus.adapters.aws.call_figures import LambdaCallFigures

    return LambdaCallFigures()


def fleet() -> GreengrassFleet:
    """Greengrass."""
    from isthmus.adapters.aws.fleet import GreengrassFleet

    return GreengrassFleet()


def registry(group: str) -> SageMakerRegistry:
    """The model registry."""
    from isthmus.adapters.aws.registry import SageMakerRegistry

    return SageMakerRegistry(group)


def training_jobs() -> SageMakerTrainingJobs:
    """SageMaker's training jobs."""
    from isthmus.adapters.aws.training_jobs import SageMakerTrainingJobs

    return SageMakerTrainingJobs()


def executions() -> StepFunctionsExecutions:
    """State machines."""
    from isthmus.adapters.aws.machines import StepFunctionsExecutions

    return StepFunctionsExecutions()


def histories() -> StepFunctionsHistories:
    """What executions went through."""
    from isthmus.adapters.aws.executions import StepFunctionsHistories

    return StepFunctionsHistories()


def events(bus: str) -> EventBridgeEvents:
    """The event bus."""
    from isthmus.adapters.aws.events import EventBridgeEvents

    return EventBridgeEvents(bus)


def tasks() -> StepFunctionsTasks:
    """Task tokens."""
    from isthmus.adapters.aws.bridge import StepFunctionsTasks

    return StepFunctionsTasks()


def open_engine(path: Path) -> Engine:
    """Open an ONNX model for scoring, with the threads that this function's memory buys."""
    from isthmus.inference.engine import OnnxEngine
    from isthmus.inference.runtime import threads_for_memory

    memory_mb = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"))
    return OnnxEngine(path, threads=threads_for_memory(memory_mb))


@contextmanager
def workdir() -> Iterator[Path]:
    """A folder of its own for one call, gone after it: a warm function's ``/tmp`` does not fill up."""
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        yield Path(folder)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def installed_parts() -> dict[str, int]:
    """Return the unzipped bytes of this function's own code and of each part of its layers.

    ``package_model`` carries the very layers that a serving function does, and the one that quantises, so what
    else is installed here is what will be installed there.
    """
    from isthmus.inference.limits import unzipped_bytes

    parts = {"function code": unzipped_bytes(Path(os.environ["LAMBDA_TASK_ROOT"]))}
    for folder in sorted(path for path in Path("/opt").iterdir() if path.name != "quantization"):
        inner = folder / "python" if (folder / "python").is_dir() else folder
        for part in sorted(inner.iterdir()) if inner.is_dir() else [inner]:
            name = f"layers: {part.relative_to('/opt')}"
            parts[name] = unzipped_bytes(part) if part.is_dir() else part.stat().st_size
    return parts


def clock() -> SystemClock:
    """The system's clock."""
    from isthmus.adapters.system import SystemClock

    return SystemClock()


def threads() -> SystemThreads:
    """The interpreter's threads."""
    from isthmus.adapters.system import SystemThreads

    return SystemThreads()


def stack_outputs(stack: str) -> dict[str, str]:
    """The outputs of a deployed stack."""
    from isthmus.adapters.aws.stack import outputs

    return outputs(stack)


def bucket_zone(outputs: dict[str, str]) -> str:
    """Where a stack's bucket lies, as a data policy names it."""
    return f"aws:{outputs['TrainAndDeployMachine'].split(':')[3]}"


def pipeline(outputs: dict[str, str]) -> StepFunctionsPipeline:
    """Executions of a stack's ``train_and_deploy``."""
    from isthmus.adapters.aws.pipeline import StepFunctionsPipeline

    return StepFunctionsPipeline(outputs["TrainAndDeployMachine"])


def api_signer() -> RequestSigner:
    """Signatures for requests to the stack's API."""
    from isthmus.adapters.aws.signing import RequestSigner

    return RequestSigner()


def signing_proxy(base_url: str, port: int) -> EdgeServer:
    """A server on loopback that signs what it is asked and passes it on to the stack's API."""
    from isthmus.adapters.aws.proxy import MAX_REQUEST_BYTES, SigningProxy
    from isthmus.edge.server import EdgeServer

    return EdgeServer(SigningProxy(base_url), port, max_request_bytes=MAX_REQUEST_BYTES)


def job_cost(job_key: str, outputs: dict[str, str]) -> Cost:
    """What a job cost: counted from its execution's history, its rig's time at the rig's price."""
    from isthmus import documents
    from isthmus.adapters.aws.usage import usage_of
    from isthmus.model import layout
    from isthmus.model.plan import Plan
    from isthmus.planning.cost import cost_of

    lease = records(outputs["Table"]).get(layout.job_pk(job_key), layout.LEASE)
    seconds, price = 0.0, 0.0
    if lease is not None and lease.get("outcome"):
        seconds = float(lease["outcome"].get("seconds", 0.0))
        key = layout.plan_key(job_key, lease["fencing"])
        raw = blobs(outputs["Bucket"]).get(key, max_bytes=documents.MAX_DOCUMENT_BYTES)
        price = documents.decode(Plan, raw, key).price_per_hour_usd
    return cost_of(usage_of(pipeline(outputs).arn(job_key), seconds, price))


def belongings(stack: str) -> tuple[Belongings, ...]:
    """All that a stack has in an account, in the order in which it can be removed."""
    from isthmus.adapters.aws.operator.home import Home
    from isthmus.adapters.aws.operator.order import in_order

    home = Home(stack)

    def rigs() -> set[str]:
        found = home.outputs().get("Table")
        return {device.id for device in devices(found).list()} if found else set()

    return in_order(home, clock(), rigs)


def estate(stack: str) -> AwsEstate:
    """The stack's versions of functions, layers and components, and what refers to them."""
    from isthmus.adapters.aws.operator.estate import AwsEstate
    from isthmus.adapters.aws.operator.home import Home

    return AwsEstate(Home(stack))


def account() -> AwsAccount:
    """The caller's account and region, for ``isthmus doctor``."""
    from isthmus.adapters.aws.operator.account import AwsAccount

    return AwsAccount()


def machine() -> ThisMachine:
    """This machine, for ``isthmus doctor``."""
    from isthmus.adapters.machine import ThisMachine

    return ThisMachine()


def aws_errors() -> tuple[type[Exception], ...]:
    """The exceptions of AWS's own library that no adapter gave a name of ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError
