"""The composition root of a rig: what joins it, what runs on it, and how it proves itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus import bootstrap
from isthmus.errors import EnvironmentProblem
from isthmus.ports import BlobStore, Certificates

if TYPE_CHECKING:
    from isthmus.adapters.systemd import Systemd
    from isthmus.model.device import DeviceDescriptor
    from isthmus.model.rig_identity import RigIdentity
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
        now=bootstrap.clock().now(),
        queue_url=queue_url,
        measure=_measurer(name, outputs, rates=settings.measure_rates is not False, report=report).measured,
    )
    bootstrap.devices(outputs["Table"]).register(device)
    return device


def _measurer(name: str, outputs: dict[str, str], *, rates: bool, report: Callable[[str], None]) -> Measurer:
    from isthmus.model import layout
    from isthmus.rig.measure import Measurer

    return Measurer(
        blobs=bootstrap.blobs(outputs["Bucket"]), probe=layout.probe_key(name), rates=rates, report=report
    )


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
        devices=bootstrap.devices(outputs["Table"]),
        clock=bootstrap.clock(),
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
    from isthmus.rig.gpus import nvml, share
    from isthmus.rig.power import joules
    from isthmus.rig.services import RigSettings
    from isthmus.rig.settings import read_if_there

    device = bootstrap.devices(outputs["Table"]).get(name)
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
        bucket_zone=bootstrap.bucket_zone(outputs),
        data_roots=data_roots(file, folder),
        cache_folder=Path(file.cache_folder) if file.cache_folder else None,
        cache_bytes=file.cache_bytes,
        accelerators=len(own.ids),
        joules=joules(Path("/"), nvml()),
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
        records=bootstrap.records(outputs["Table"]),
        tasks=bootstrap.tasks(),
        blobs=_rig_blobs(outputs["Bucket"]),
        reporter=LambdaReporter(outputs["FinishAttemptFunction"]),
        clock=bootstrap.clock(),
        threads=bootstrap.threads(),
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

    return IotCertificates(stack, layout.certificate_policy(stack), bootstrap.clock())


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

    return WaitingList(rig, "", bootstrap.records(table), bootstrap.clock())


def service_manager(*, own: bool) -> Systemd:
    """Systemd of this machine, or the caller's own one."""
    from isthmus.adapters.systemd import Systemd

    return Systemd(own=own)


def presence(
    agent: Agent,
    rig: str,
    outputs: dict[str, str],
    *,
    stack: str,
    report: Callable[..., None],
    also: Callable[[], None],
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
        records=bootstrap.records(outputs["Table"]),
        clock=bootstrap.clock(),
        threads=bootstrap.threads(),
        report=report,
        metrics=CloudWatchMetrics(stack),
        waiting=waiting_list(rig, outputs["Table"]),
        gpu_use=lambda: use_percent(nvml()),
        version=importlib.metadata.version("isthmus"),
        also=also,
    )
