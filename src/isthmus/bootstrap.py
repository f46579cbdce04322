"""The composition root: the one place that decides which adapter stands behind which port.

Adapters are imported inside the functions, so that a handler loads only what it uses.
"""

from __future__ import annotations

import datetime
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import EnvironmentProblem
from isthmus.ports import Belongings, BlobStore, Devices, Engine, Functions, Records, Signer

if TYPE_CHECKING:
    from isthmus.adapters.aws.api import SignedApi
    from isthmus.adapters.aws.bridge import StepFunctionsTasks
    from isthmus.adapters.aws.events import EventBridgeEvents, StepFunctionsExecutions
    from isthmus.adapters.aws.executions import StepFunctionsHistories
    from isthmus.adapters.aws.fleet import GreengrassFleet
    from isthmus.adapters.aws.operator.account import AwsAccount
    from isthmus.adapters.aws.operator.estate import AwsEstate
    from isthmus.adapters.aws.pipeline import StepFunctionsPipeline
    from isthmus.adapters.aws.registry import SageMakerRegistry
    from isthmus.adapters.loopback import LoopbackApi
    from isthmus.adapters.machine import ThisMachine
    from isthmus.adapters.system import SystemClock
    from isthmus.model.device import DeviceDescriptor
    from isthmus.planning.cost import Cost
    from isthmus.rig.agent import Agent
    from isthmus.rig.attempt import Services
    from isthmus.rig.waiting import WaitingList


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


def fleet() -> GreengrassFleet:
    """Greengrass."""
    from isthmus.adapters.aws.fleet import GreengrassFleet

    return GreengrassFleet()


def registry(group: str) -> SageMakerRegistry:
    """The model registry."""
    from isthmus.adapters.aws.registry import SageMakerRegistry

    return SageMakerRegistry(group)


def executions() -> StepFunctionsExecutions:
    """State machines."""
    from isthmus.adapters.aws.events import StepFunctionsExecutions

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
    from isthmus.inference.engine import OnnxEngine, threads_for_memory

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

    ``package_model`` carries the very layers that a serving function does, so what is installed
    here is what will be installed there.
    """
    from isthmus.inference.limits import unzipped_bytes

    parts = {"function code": unzipped_bytes(Path(os.environ["LAMBDA_TASK_ROOT"]))}
    for folder in sorted(Path("/opt").iterdir()):
        inner = folder / "python" if (folder / "python").is_dir() else folder
        for part in sorted(inner.iterdir()) if inner.is_dir() else [inner]:
            name = f"layers: {part.relative_to('/opt')}"
            parts[name] = unzipped_bytes(part) if part.is_dir() else part.stat().st_size
    return parts


def clock() -> SystemClock:
    """The system's clock."""
    from isthmus.adapters.system import SystemClock

    return SystemClock()


def stack_outputs(stack: str) -> dict[str, str]:
    """The outputs of a deployed stack."""
    from isthmus.adapters.aws.stack import outputs

    return outputs(stack)


def pipeline(outputs: dict[str, str]) -> StepFunctionsPipeline:
    """Executions of a stack's ``train_and_deploy``."""
    from isthmus.adapters.aws.pipeline import StepFunctionsPipeline

    return StepFunctionsPipeline(outputs["TrainAndDeployMachine"])


def api(base_url: str) -> SignedApi:
    """The stack's API, signed."""
    from isthmus.adapters.aws.api import SignedApi

    return SignedApi(base_url)


def edge_api(base_url: str) -> LoopbackApi:
    """A core device's own server."""
    from isthmus.adapters.loopback import LoopbackApi

    return LoopbackApi(base_url)


def join_rig(
    name: str,
    outputs: dict[str, str],
    *,
    stack: str,
    zone: str,
    folder: Path,
    price_per_hour_usd: float,
) -> DeviceDescriptor:
    """Describe this machine, make its queue, and register it; joining again renews the descriptor."""
    from isthmus.adapters.aws.rigs import create_queue
    from isthmus.model import layout
    from isthmus.rig.discover import describe

    device = describe(
        name,
        zone=zone,
        folder=folder,
        now=clock().now(),
        queue_url=create_queue(
            layout.queue_name(stack, name), stack, outputs["DataKey"], outputs["DeadLetters"]
        ),
        price_per_hour_usd=price_per_hour_usd,
    )
    devices(outputs["Table"]).register(device)
    return device


def rig_agent(
    name: str, outputs: dict[str, str], *, folder: Path, report: Callable[..., None], prepare: bool
) -> Agent:
    """The agent of a joined rig.

    Raises:
        EnvironmentProblem: the rig has not joined this stack.
    """
    from isthmus.rig.agent import Agent
    from isthmus.rig.attempt import RigSettings
    from isthmus.rig.environments import Environments, frameworks, source_folder
    from isthmus.rig.runner import JobRunner

    device = devices(outputs["Table"]).get(name)
    if device is None:
        raise EnvironmentProblem(
            f"the rig {name} has not joined; run `isthmus rig join --name {name} --zone …`"
        )
    environments = Environments(
        folder / "environments", progress=lambda line: report("environment", step=line)
    )
    if prepare:
        for framework, versions in frameworks().items():
            for version in versions:
                environments.ensure(framework, version)
    runner = JobRunner(
        interpreter=environments.ensure,
        source=source_folder(folder),
        accelerators=len(device.accelerators),
        on_line=lambda line: report("script", line=line),
    )
    settings = RigSettings(rig=name, folder=folder)
    return Agent(settings, _rig_services(device, outputs), runner, report)


def _rig_services(device: DeviceDescriptor, outputs: dict[str, str]) -> Services:
    from isthmus.adapters.aws.bridge import LambdaReporter, SqsJobQueue
    from isthmus.rig.attempt import Services

    return Services(
        queue=SqsJobQueue(device.queue_url),
        records=records(outputs["Table"]),
        tasks=tasks(),
        blobs=blobs(outputs["Bucket"]),
        reporter=LambdaReporter(outputs["FinishAttemptFunction"]),
        clock=clock(),
    )


def waiting_list(rig: str, table: str) -> WaitingList:
    """A rig's waiting list, to look at."""
    from isthmus.rig.waiting import WaitingList

    return WaitingList(rig, "", records(table), clock())


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
