"""The composition root: the one place that decides which adapter stands behind which port.

Adapters are imported inside the functions, so that a handler loads only what it uses.
"""

from __future__ import annotations

import datetime
import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import EnvironmentProblem
from isthmus.ports import Belongings, BlobStore, Certificates, Devices, Engine, Functions, Records, Signer

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
    from isthmus.adapters.aws.signing import RequestSigner
    from isthmus.adapters.loopback import LoopbackApi
    from isthmus.adapters.machine import ThisMachine
    from isthmus.adapters.system import SystemClock, SystemThreads
    from isthmus.adapters.systemd import Systemd
    from isthmus.edge.server import EdgeServer
    from isthmus.model.device import DeviceDescriptor
    from isthmus.model.rig_identity import RigIdentity
    from isthmus.planning.cost import Cost
    from isthmus.rig.agent import Agent
    from isthmus.rig.gpus import Share
    from isthmus.rig.measure import Measurer
    from isthmus.rig.membership import Enrolled
    from isthmus.rig.presence import Presence
    from isthmus.rig.refresh import Refresher
    from isthmus.rig.runner import JobRunner
    from isthmus.rig.services import Services
    from isthmus.rig.settings import RigFile
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


def api(base_url: str) -> SignedApi:
    """The stack's API, signed."""
    from isthmus.adapters.aws.api import SignedApi

    return SignedApi(base_url)


def api_signer() -> RequestSigner:
    """Signatures for requests to the stack's API."""
    from isthmus.adapters.aws.signing import RequestSigner

    return RequestSigner()


def signing_proxy(base_url: str, port: int) -> EdgeServer:
    """A server on loopback that signs what it is asked and passes it on to the stack's API."""
    from isthmus.adapters.aws.proxy import MAX_REQUEST_BYTES, SigningProxy
    from isthmus.edge.server import EdgeServer

    return EdgeServer(SigningProxy(base_url), port, max_request_bytes=MAX_REQUEST_BYTES)


def edge_api(base_url: str) -> LoopbackApi:
    """A core device's own server."""
    from isthmus.adapters.loopback import LoopbackApi

    return LoopbackApi(base_url)


def join_rig(
    name: str,
    outputs: dict[str, str],
    *,
    stack: str,
    settings: RigFile,
    folder: Path,
    report: Callable[[str], None],
) -> DeviceDescriptor:
    """Describe this machine and register it, a rig with its queue; joining again renews the descriptor.

    Raises:
        InvalidInput: the settings lack the zone, or have a data root that cannot be one.
    """
    from isthmus.adapters.aws.rigs import create_queue
    from isthmus.model import layout
    from isthmus.rig.data_roots import data_roots
    from isthmus.rig.discover import discover

    data_roots(settings, folder)

    def queue_url() -> str:
        queue = layout.queue_name(stack, name)
        return create_queue(queue, stack, outputs["DataKey"], outputs["DeadLetters"])

    device = discover(
        name,
        settings,
        folder=folder,
        now=clock().now(),
        queue_url=queue_url,
        measure=_measurer(name, outputs, rates=settings.measure_rates is not False, report=report).measured,
    )
    devices(outputs["Table"]).register(device)
    return device


def _measurer(name: str, outputs: dict[str, str], *, rates: bool, report: Callable[[str], None]) -> Measurer:
    from isthmus.model import layout
    from isthmus.rig.measure import Measurer

    return Measurer(blobs=blobs(outputs["Bucket"]), probe=layout.probe_key(name), rates=rates, report=report)


def refresher(
    device: DeviceDescriptor, outputs: dict[str, str], *, folder: Path, report: Callable[..., None]
) -> Refresher:
    """What keeps the registration of this machine true; rates are measured again if they once were."""
    from isthmus.rig.refresh import Refresher

    measurer = _measurer(
        device.id, outputs, rates=bool(device.rates), report=lambda line: report("discovery", step=line)
    )
    return Refresher(
        device,
        folder=folder,
        devices=devices(outputs["Table"]),
        clock=clock(),
        measure=measurer.measured,
        report=report,
    )


def rig_agent(
    name: str,
    outputs: dict[str, str],
    *,
    folder: Path,
    report: Callable[..., None],
    prepare: Sequence[str] | None = None,
    gpus: Sequence[int] | None = None,
) -> Agent:
    """The agent of a joined rig. ``gpus``: which of the machine's it gives to trainings; None: all that it sees.

    ``prepare``: environments to build first, as ``mxnet-1.9.1``; an empty list: all that fit the machine.

    Raises:
        EnvironmentProblem: the rig has not joined this stack.
        InvalidInput: the machine has no such GPU.
    """
    from isthmus.rig.agent import Agent
    from isthmus.rig.data_roots import data_roots
    from isthmus.rig.gpus import share
    from isthmus.rig.services import RigSettings
    from isthmus.rig.settings import read_if_there

    device = devices(outputs["Table"]).get(name)
    if device is None:
        raise EnvironmentProblem(
            f"the rig {name} has not joined; run `isthmus rig join --name {name} --zone …`"
        )
    look = refresher(device, outputs, folder=folder, report=report)
    device = look.refresh()
    if device.kind != "rig":
        raise EnvironmentProblem(f"{name} joined as a device of kind {device.kind}, which trains nothing")
    own = share(len(device.accelerators), gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    runner = _job_runner(device, own, folder=folder, report=report, prepare=prepare)
    file = read_if_there(folder)
    settings = RigSettings(
        rig=name,
        folder=folder,
        bucket_zone=bucket_zone(outputs),
        data_roots=data_roots(file, folder),
        cache_folder=Path(file.cache_folder) if file.cache_folder else None,
        cache_bytes=file.cache_bytes,
        accelerators=len(own.ids),
    )
    return Agent(settings, _rig_services(device, outputs), runner, report, when_idle=look.if_due)


def _job_runner(
    device: DeviceDescriptor,
    own: Share,
    *,
    folder: Path,
    report: Callable[..., None],
    prepare: Sequence[str] | None,
) -> JobRunner:
    from isthmus.rig import containers
    from isthmus.rig.environments import Environments, source_folder
    from isthmus.rig.gpus import given_to
    from isthmus.rig.runner import JobRunner

    environments = Environments(
        folder / "environments",
        device=given_to(own, device),
        progress=lambda line: report("environment", step=line),
    )
    if prepare is not None:
        environments.prepare(prepare)
    return JobRunner(
        interpreter=environments.ensure,
        source=source_folder(folder),
        fits=lambda wanted, needed: environments.check(wanted.name, wanted.version, accelerators=needed),
        share=own,
        engine=containers.find(),
        on_line=lambda line: report("script", line=line),
    )


def _rig_services(device: DeviceDescriptor, outputs: dict[str, str]) -> Services:
    from isthmus.adapters.aws.bridge import LambdaReporter, SqsJobQueue
    from isthmus.rig.services import Services

    return Services(
        queue=SqsJobQueue(device.queue_url),
        records=records(outputs["Table"]),
        tasks=tasks(),
        blobs=_rig_blobs(outputs["Bucket"]),
        reporter=LambdaReporter(outputs["FinishAttemptFunction"]),
        clock=clock(),
        threads=threads(),
    )


def _rig_blobs(bucket: str) -> BlobStore:
    """The data bucket for whoever fetches datasets, with the native client where it is installed."""
    from isthmus.adapters.aws.blobs import S3BlobStore
    from isthmus.adapters.aws.bulk import BulkReader
    from isthmus.sync.download import CONNECTIONS

    return S3BlobStore(bucket, BulkReader.if_possible(bucket, CONNECTIONS))


def certificates(stack: str) -> Certificates:
    """The certificates of a stack's rigs, to give out and to take back."""
    from isthmus.adapters.aws.operator.certificates import IotCertificates
    from isthmus.model import layout

    return IotCertificates(stack, layout.certificate_policy(stack), clock())


def enrol_rig(name: str, outputs: dict[str, str], *, stack: str, folder: Path) -> Enrolled | None:
    """Give this machine a certificate of a joined rig; None when the stack is of a version without them."""
    from isthmus.rig.membership import enrol

    if not (alias := outputs.get("RigAlias")):
        return None
    region = outputs["TrainAndDeployMachine"].split(":")[3]
    return enrol(folder, certificates(stack), rig=name, stack=stack, region=region, alias=alias)


def use_certificate(folder: Path, *, rig: str, stack: str) -> RigIdentity | None:
    """Let everything that this process calls from now on be called with the certificate in ``folder``.

    None when it holds none: the machine's own credentials stay in use.

    Raises:
        Refused: it is another rig's, or another stack's.
    """
    from isthmus.adapters.aws import rig_credentials
    from isthmus.errors import Refused
    from isthmus.rig import certificate

    if (found := certificate.read(folder)) is None:
        return None
    if (found.rig, found.stack) != (rig, stack):
        raise Refused(
            f"{folder} holds the certificate of the rig {found.rig} of the stack {found.stack}, not of {rig} of "
            f"{stack}; name those with --name and --stack, or join with a --folder of its own"
        )
    rig_credentials.use(lambda: certificate.proof(folder), found.region)
    return found


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


def service_manager(*, own: bool) -> Systemd:
    """Systemd of this machine, or the caller's own one."""
    from isthmus.adapters.systemd import Systemd

    return Systemd(own=own)


def presence(
    agent: Agent, rig: str, outputs: dict[str, str], *, stack: str, report: Callable[..., None]
) -> Presence:
    """What tells the table, and CloudWatch in the stack's namespace, of an agent while it works."""
    import importlib.metadata

    from isthmus.adapters.aws.metrics import CloudWatchMetrics
    from isthmus.rig.gpus import nvml, use_percent
    from isthmus.rig.presence import Presence

    return Presence(
        rig,
        agent.id,
        agent.doing,
        records=records(outputs["Table"]),
        clock=clock(),
        threads=threads(),
        report=report,
        metrics=CloudWatchMetrics(stack),
        waiting=waiting_list(rig, outputs["Table"]),
        gpu_use=lambda: use_percent(nvml()),
        version=importlib.metadata.version("isthmus"),
    )


def aws_errors() -> tuple[type[Exception], ...]:
    """The exceptions of AWS's own library that no adapter gave a name of ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError
