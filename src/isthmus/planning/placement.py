"""Whether a device may and can run a whole job: a readable list of rules, each with its refusal.

A thousand devices are asked for each job: a refusal is put into words only when somebody reads it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from isthmus.model.cloud import IMAGE_URI
from isthmus.model.dataset import InPlace
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Job, Training
from isthmus.model.policy import DataPolicy
from isthmus.model.units import format_bytes, format_seconds, format_usd

JUDGES_WITH = ("numpy", "onnxruntime")
"""What a rig scores a model with on data that it reads in place."""

Reason = tuple[Callable[..., str], tuple[Any, ...]]
"""What says why not, and what it says it of."""


def words(reason: Reason) -> str:
    """Return a reason as one sentence: what was needed and what there was."""
    say, about = reason
    return say(*about)


def refusal(
    job: Job,
    training: Training,
    device: DeviceDescriptor,
    policy: DataPolicy,
    in_place: InPlace | None = None,
) -> Reason | None:
    """Return why ``device`` may not or cannot run the job, or None."""
    if "training" not in device.usage:
        return _no_training, (device,)
    if not _allows(policy.zones, device.zone):
        return _no_zone, (device, policy)
    if in_place is not None and (elsewhere := _in_place(device, in_place)):
        return elsewhere
    wishes, resources = job.wishes, training.resources
    if wishes.run_on is not None and wishes.run_on != device.kind:
        return _elsewhere, (job, device)
    if unfit := _framework(training, device):
        return unfit
    if len(device.accelerators) < resources.accelerators:
        return _few_accelerators, (resources.accelerators, len(device.accelerators))
    if device.memory_bytes < resources.memory_bytes:
        return _little_memory, (resources.memory_bytes, device.memory_bytes)
    allowed = wishes.max_cost_usd
    if allowed is not None and _most(training, device) > allowed:
        return _dear, (_most(training, device), training.deadline_seconds, allowed)
    return None


def _no_training(device: DeviceDescriptor) -> str:
    return f"needs a device for training; this one is for {', '.join(device.usage) or 'nothing'}"


@functools.lru_cache(maxsize=4096)
def _allows(zones: tuple[str, ...], zone: str) -> bool:
    return DataPolicy(zones=zones).allows_zone(zone)


def _no_zone(device: DeviceDescriptor, policy: DataPolicy) -> str:
    return (
        f"the data policy lets raw data lie in {', '.join(policy.zones) or 'no zone'} alone; "
        f"this device is in {device.zone}"
    )


def _in_place(device: DeviceDescriptor, data: InPlace) -> Reason | None:
    lacking = any(name not in device.software for name in JUDGES_WITH)
    if device.zone != data.zone or data.root not in device.data_roots or lacking:
        return _not_in_place, (device, data)
    return None


def _not_in_place(device: DeviceDescriptor, data: InPlace) -> str:
    if device.zone != data.zone:
        return f"the data stay in {data.zone}; this device is in {device.zone}"
    if data.root not in device.data_roots:
        there = ", ".join(device.data_roots) or "none"
        return f"needs the data root {data.root}, which its rig.toml names; the device has {there}"
    lacking = [name for name in JUDGES_WITH if name not in device.software]
    return f"needs {' and '.join(lacking)} to judge models where the data are: install isthmus[engine] on it"


def _elsewhere(job: Job, device: DeviceDescriptor) -> str:
    return f"the job wishes to run on a {job.wishes.run_on}; this is a {device.kind}"


def _framework(training: Training, device: DeviceDescriptor) -> Reason | None:
    if device.kind == "sagemaker":
        return _image(training, device)
    if training.image is not msgspec.UNSET:
        return None if device.containers else (_no_engine, ())
    framework = training.framework
    if framework.version in device.frameworks.get(framework.name, ()):
        return None
    return _no_framework, (training, device)


def _no_engine() -> str:
    return "needs Docker or Podman for the job's container image; the device has neither"


def _no_framework(training: Training, device: DeviceDescriptor) -> str:
    name, version = training.framework.name, training.framework.version
    if unfit := device.unfit_frameworks.get(f"{name} {version}"):
        return unfit
    there = device.frameworks.get(name, ())
    has = f"{name} {', '.join(there)}" if there else f"no {name}"
    return f"needs {name} {version}; the device has {has}"


def _image(training: Training, device: DeviceDescriptor) -> Reason | None:
    if training.image is not msgspec.UNSET:
        return None if IMAGE_URI.fullmatch(training.image) else (_not_in_ecr, (training.image,))
    name, version = training.framework.name, training.framework.version
    return None if version in device.frameworks.get(name, ()) else (_no_image, (name, version))


def _not_in_ecr(image: str) -> str:
    return f"SageMaker pulls images from Amazon ECR alone; the job's is {image}"


def _no_image(name: str, version: str) -> str:
    return (
        f"needs a training image for {name} {version}; an administrator sets one with "
        f"`isthmus sagemaker set --image {name}-{version}=URI`"
    )


def _few_accelerators(needed: int, there: int) -> str:
    return f"needs {needed} accelerators; the device has {there}"


def _little_memory(needed: int, there: int) -> str:
    return f"needs {format_bytes(needed)} of memory; the device has {format_bytes(there)}"


def _most(training: Training, device: DeviceDescriptor) -> float:
    """What a training could cost until its deadline, in US dollars."""
    return device.price_per_hour_usd * training.deadline_seconds / 3600


def _dear(most: float, deadline_seconds: int, allowed: float) -> str:
    return (
        f"could cost {format_usd(most)} within its deadline of {format_seconds(deadline_seconds)}; "
        f"the job allows {format_usd(allowed)}"
    )
