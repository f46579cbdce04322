"""Device descriptors: what a machine is, found out by ``isthmus rig join``, never typed by hand."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from isthmus.model.blob import Name
from isthmus.model.own_cost import OwnCost

Kind = Literal["rig", "edge", "sagemaker", "lambda"]
Usage = Literal["training", "inference"]
DATA_SHEET = "data sheet"
"""``Rate.measured_at`` of what nobody measured: a maker's peak figure, which no program reaches."""


class Accelerator(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU. ``cuda``: the newest CUDA version that its driver serves."""

    model: str
    memory_bytes: int
    driver: str = ""
    compute_capability: str = ""
    cuda: str = ""


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a device runs one class of operators, each figure measured by a micro-benchmark; of a device of the
    cloud, a data sheet's (``DATA_SHEET``).

    Where there are ``samples``, seconds are interpolated between them. Else seconds = overhead + flops /
    flops_per_second + bytes / bytes_per_second.
    """

    flops_per_second: float = 0.0
    """0: operators of the class are limited by memory alone."""
    bytes_per_second: float = 0.0
    overhead_seconds: float = 0.0
    measured_at: str = ""
    axes: tuple[str, ...] = ()
    """What the columns of ``samples`` are, by the names of an operator's ``sizes``."""
    samples: tuple[tuple[float, ...], ...] = ()
    """A size for each axis, then the seconds that one operator of these sizes took."""
    multiples: dict[str, int] = {}
    """By axis, what a size is rounded up to: kernels work in blocks of channels."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """From a device to ``to``: another device's id, a zone, or ``relay`` for the bucket of the region.

    ``opens``: this side can open the connection; between two devices one side has to, or they go by
    the relay. ``bytes_per_second``: of the slower direction. ``usd_per_gib``: price of what leaves over it.
    """

    to: str
    bytes_per_second: float
    latency_seconds: float = 0.0
    opens: bool = True
    usd_per_gib: float = 0.0


class DeviceDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """One device of the system. ``zone`` is where data that it reads then lies.

    Fields are only ever added, each with a default: any reader of ``isthmus/device/1`` reads them all.
    """

    schema: Literal["isthmus/device/1"] = "isthmus/device/1"
    id: Name
    kind: Kind
    zone: str
    arch: str
    cores: int
    memory_bytes: int
    disk_free_bytes: int
    accelerators: tuple[Accelerator, ...] = ()
    frameworks: dict[str, tuple[str, ...]] = {}
    """Framework name to the versions whose environments this device can build or has."""
    unfit_frameworks: dict[str, str] = {}
    """``name version`` of those that it cannot have: what each needs, and what there is."""
    data_roots: tuple[str, ...] = ()
    """Names of the folders whose datasets it reads in place. Their paths stay on the device."""
    containers: dict[str, str] = {}
    """Container engines that answer, with their versions: ``podman``, ``docker``."""
    usage: tuple[Usage, ...] = ("training",)
    software: dict[str, str] = {}
    rates: dict[str, Rate] = {}
    """Class of operators to measured rate; ``*`` serves what has no class of its own."""
    features: tuple[str, ...] = ()
    """What it computes with: ``fp16``, ``int8``, instruction sets."""
    unsupported: tuple[str, ...] = ()
    """Kinds of operators (ONNX names) that it cannot run."""
    memory_bandwidth_bytes_per_second: float = 0.0
    links: tuple[Link, ...] = ()
    power_watts: float = 0.0
    """While computing, above idle."""
    measured_watts: float = 0.0
    """What its processors and GPUs drew while it trained, by their own counters; 0: nothing was measured."""
    price_per_hour_usd: float = 0.0
    cost: OwnCost | None = None
    """What its price per hour is made of, where its owner says that (``planning.rig_rate``)."""
    queue_url: str = ""
    seen_at: str = ""
    overrides: dict[str, Any] = {}
    """Fields that a person set, each with what had been discovered in its place."""
    not_measured: dict[str, str] = {}
    """``rates``, ``memory_bandwidth`` or ``links``: why it was left out."""


def device_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of ``DeviceDescriptor``."""
    return msgspec.json.schema(DeviceDescriptor)
