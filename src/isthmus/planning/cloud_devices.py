"""Devices of the cloud by name, from a dated list: SageMaker's instance types and Lambda's memory sizes.

Nobody measured them: their rates are the peaks of data sheets, which no program reaches, and each descriptor says so.
A descriptor that was measured there (``isthmus profile MODEL --on this --calibrate --descriptor FILE``) is better.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
import re

import msgspec

from isthmus.errors import InvalidInput
from isthmus.model.cloud import CloudTraining
from isthmus.model.device import DATA_SHEET, Accelerator, DeviceDescriptor, Link, Rate
from isthmus.model.units import GIB, MIB
from isthmus.planning.cost import price_list

SAGEMAKER, LAMBDA = "sagemaker", "lambda"
RELAY = "relay"
HOUR_SECONDS = 3600
NOT_MEASURED = {
    "rates": "peaks of data sheets, which no program reaches; calibrate on such a device for better ones",
    "links": "what Amazon S3's guidance says of one request",
    "memory_bandwidth": "nobody measured it",
}
NAME = re.compile(rf"^({SAGEMAKER}|{LAMBDA}):([a-z0-9.-]+?)(?:@([a-z0-9-]+))?$")


class Gpu(msgspec.Struct, frozen=True):
    """A kind of GPU: peaks in single precision and of its memory."""

    memory_gib: int
    compute_capability: str
    flops_per_second: float
    bytes_per_second: float
    source: str


class Processor(msgspec.Struct, frozen=True):
    """A kind of processor; ``flops_per_cycle``: of one core, in single precision."""

    features: tuple[str, ...]
    hertz: float
    flops_per_cycle: int
    source: str


class Relay(msgspec.Struct, frozen=True):
    """How a device of the region reaches the bucket."""

    bytes_per_second: float
    latency_seconds: float
    source: str


class Instance(msgspec.Struct, frozen=True):
    """An instance type; ``sources``: keys of the catalogue's."""

    vcpus: int
    memory_gib: int
    usd_per_hour: float
    sources: tuple[str, ...]
    processor: str = ""
    gpu: str = ""
    gpus: int = 0


class LambdaSizes(msgspec.Struct, frozen=True):
    """What a function may have: memory in steps of 1 MB, processors in proportion."""

    least_mb: int
    most_mb: int
    mb_per_vcpu: int
    disk_mb: int
    processor: str
    sources: tuple[str, ...]


class Catalogue(msgspec.Struct, frozen=True):
    """The list: prices of ``region``, read at ``read_at``."""

    currency: str
    read_at: str
    region: str
    note: str
    sources: dict[str, str]
    relay: Relay
    gpus: dict[str, Gpu]
    processors: dict[str, Processor]
    sagemaker: dict[str, Instance]
    lambda_: LambdaSizes = msgspec.field(name="lambda")


@functools.cache
def catalogue() -> Catalogue:
    """Return the list that ships with isthmus."""
    raw = importlib.resources.files("isthmus.planning").joinpath("cloud_devices.json").read_bytes()
    return msgspec.json.decode(raw, type=Catalogue)


def is_cloud_device(name: str) -> bool:
    """Whether a text is meant to name a device of the cloud: it begins with the name of a service."""
    return name.startswith((f"{SAGEMAKER}:", f"{LAMBDA}:"))


def cloud_device(name: str) -> DeviceDescriptor:
    """Return the descriptor of ``sagemaker:TYPE`` or ``lambda:MB``, in the list's region unless ``@REGION`` follows.

    Elsewhere too its price is the list's.

    Raises:
        InvalidInput: there is none of that name; the message says which there are.
    """
    match = NAME.match(name)
    if match is None:
        raise InvalidInput(
            f"needs {SAGEMAKER}:TYPE or {LAMBDA}:MB, such as sagemaker:ml.g5.xlarge or lambda:1769; it is {name!r}"
        )
    service, size, region = match.groups()
    zone = f"aws:{region or catalogue().region}"
    return _sagemaker(size, zone) if service == SAGEMAKER else _lambda(size, zone)


def training_devices(settings: CloudTraining, zone: str) -> list[DeviceDescriptor]:
    """Return what a stack may train on in its own region, ``aws:eu-west-1`` say.

    Raises:
        InvalidInput: an instance type is not listed.
    """
    frameworks: dict[str, tuple[str, ...]] = {}
    for image in sorted(settings.images):
        name, _, version = image.partition("-")
        frameworks[name] = (*frameworks.get(name, ()), version)
    there = (_sagemaker(kind, zone) for kind in settings.instance_types)
    return [msgspec.structs.replace(device, frameworks=frameworks) for device in there]


def instance_type(device: str) -> str:
    """Return the instance type that a device of SageMaker's is, ``ml.m5.xlarge`` say; empty for any other device."""
    return next((kind for kind in catalogue().sagemaker if device == _device_id(kind)), "")


def _device_id(kind: str) -> str:
    return f"{SAGEMAKER}-{kind.replace('.', '-')}"


def _sagemaker(kind: str, zone: str) -> DeviceDescriptor:
    listed = catalogue()
    instance = listed.sagemaker.get(kind)
    if instance is None:
        raise InvalidInput(f"SageMaker's {kind} is not listed; there are: {', '.join(listed.sagemaker)}")
    cards: tuple[Accelerator, ...] = ()
    if instance.gpu:
        gpu = listed.gpus[instance.gpu]
        card = Accelerator(
            model=instance.gpu,
            memory_bytes=gpu.memory_gib * GIB,
            compute_capability=gpu.compute_capability,
        )
        cards = (card,) * instance.gpus
        features: tuple[str, ...] = ("fp16",)
        rate = _peak(gpu.flops_per_second, gpu.bytes_per_second)
    else:
        features, rate = _one_thread(instance.processor, 1.0)
    return DeviceDescriptor(
        id=_device_id(kind),
        kind="sagemaker",
        zone=zone,
        arch="x86_64",
        cores=instance.vcpus,
        memory_bytes=instance.memory_gib * GIB,
        disk_free_bytes=0,  # a job asks for its volume
        accelerators=cards,
        features=features,
        usage=("training", "inference"),
        rates={"*": rate},
        links=(_relay(),),
        price_per_hour_usd=instance.usd_per_hour,
        seen_at=listed.read_at,
        not_measured=NOT_MEASURED,
    )


def _lambda(size: str, zone: str) -> DeviceDescriptor:
    sizes = catalogue().lambda_
    if not size.isdecimal() or not sizes.least_mb <= int(size) <= sizes.most_mb:
        raise InvalidInput(
            f"a function has {sizes.least_mb} to {sizes.most_mb} MB, by 1 MB; it is {size!r} in {LAMBDA}:{size}"
        )
    memory_mb = int(size)
    vcpus = memory_mb / sizes.mb_per_vcpu
    features, rate = _one_thread(sizes.processor, min(1.0, vcpus))
    gb_second = price_list().prices["lambda_gb_second"].usd
    return DeviceDescriptor(
        id=f"{LAMBDA}-{memory_mb}",
        kind="lambda",
        zone=zone,
        arch="x86_64",
        cores=math.ceil(vcpus),
        memory_bytes=memory_mb * MIB,
        disk_free_bytes=sizes.disk_mb * MIB,
        features=features,
        usage=("inference",),
        rates={"*": rate},
        links=(_relay(),),
        price_per_hour_usd=memory_mb / 1024 * gb_second * HOUR_SECONDS,
        seen_at=catalogue().read_at,
        not_measured=NOT_MEASURED,
    )


def _one_thread(processor: str, share: float) -> tuple[tuple[str, ...], Rate]:
    """Like measured rates, of one thread; ``share``: of a processor's time, in (0, 1]."""
    found = catalogue().processors[processor]
    return found.features, _peak(share * found.hertz * found.flops_per_cycle, 0.0)


def _peak(flops_per_second: float, bytes_per_second: float) -> Rate:
    return Rate(flops_per_second=flops_per_second, bytes_per_second=bytes_per_second, measured_at=DATA_SHEET)


def _relay() -> Link:
    relay = catalogue().relay
    return Link(to=RELAY, bytes_per_second=relay.bytes_per_second, latency_seconds=relay.latency_seconds)
