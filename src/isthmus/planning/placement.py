"""Which one device gets a whole job: a readable list of rules, each with its refusal."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isthmus.errors import NoPlacement
from isthmus.model.dataset import InPlace
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Job, Training
from isthmus.model.plan import Refusal
from isthmus.model.policy import DataPolicy
from isthmus.model.units import format_bytes, format_seconds, format_usd

_NO_ENGINE = "needs Docker or Podman for the job's container image; the device has neither"


JUDGES_WITH = ("numpy", "onnxruntime")
"""What a rig scores a model with on data that it reads in place."""


def refusal(
    job: Job,
    training: Training,
    device: DeviceDescriptor,
    policy: DataPolicy,
    in_place: InPlace | None = None,
) -> str | None:
    """Return why ``device`` may not or cannot run the job, or None."""
    return (
        _usage(device)
        or _policy(device, policy)
        or (in_place and _in_place(device, in_place))
        or _wish(job, device)
        or _framework(training, device)
        or _accelerators(training, device)
        or _memory(training, device)
        or _cost(job, training, device)
    )


def place(
    job: Job,
    training: Training,
    devices: Sequence[DeviceDescriptor],
    policy: DataPolicy,
    in_place: InPlace | None = None,
) -> tuple[DeviceDescriptor, tuple[Refusal, ...]]:
    """Return the device for a job, and why each other was refused. ``in_place``: where its data are, if they stay.

    Among those that may and can, the cheapest per hour wins, then the one with most accelerators,
    most cores, and the first name, so that the same input gives the same plan.

    Raises:
        NoPlacement: none may and can; the message holds every reason.
    """
    refusals, able = [], []
    for device in sorted(devices, key=lambda entry: entry.id):
        reason = refusal(job, training, device, policy, in_place)
        if reason is None:
            able.append(device)
        else:
            refusals.append(Refusal(device=device.id, reason=reason))
    if not able:
        raise NoPlacement(_nobody(job, refusals))
    best = min(able, key=lambda d: (d.price_per_hour_usd, -len(d.accelerators), -d.cores, d.id))
    refusals += [Refusal(device=d.id, reason=_lost_to(d, best)) for d in able if d is not best]
    return best, tuple(refusals)


def _nobody(job: Job, refusals: list[Refusal]) -> str:
    if not refusals:
        return f"no device is registered that could train {job.model}; join one with `isthmus rig join`"
    reasons = "; ".join(f"{entry.device}: {entry.reason}" for entry in refusals)
    return f"no device may and can train {job.model}. {reasons}"


def _lost_to(device: DeviceDescriptor, best: DeviceDescriptor) -> str:
    if device.price_per_hour_usd > best.price_per_hour_usd:
        return (
            f"could run it, but costs ${device.price_per_hour_usd:.4f} an hour; "
            f"{best.id} costs ${best.price_per_hour_usd:.4f}"
        )
    return f"could run it; {best.id} is as cheap and at least as large"


def _usage(device: DeviceDescriptor) -> str | None:
    if "training" in device.usage:
        return None
    return f"needs a device for training; this one is for {', '.join(device.usage) or 'nothing'}"


def _policy(device: DeviceDescriptor, policy: DataPolicy) -> str | None:
    if policy.allows_zone(device.zone):
        return None
    return (
        f"the data policy lets raw data lie in {', '.join(policy.zones) or 'no zone'} alone; "
        f"this device is in {device.zone}"
    )


def _in_place(device: DeviceDescriptor, data: InPlace) -> str | None:
    if device.zone != data.zone:
        return f"the data stay in {data.zone}; this device is in {device.zone}"
    if data.root not in device.data_roots:
        there = ", ".join(device.data_roots) or "none"
        return f"needs the data root {data.root}, which its rig.toml names; the device has {there}"
    lacking = [name for name in JUDGES_WITH if name not in device.software]
    if lacking:
        return (
            f"needs {' and '.join(lacking)} to judge models where the data are: install isthmus[engine] on it"
        )
    return None


def _wish(job: Job, device: DeviceDescriptor) -> str | None:
    if job.wishes.run_on in (None, device.kind):
        return None
    return f"the job wishes to run on a {job.wishes.run_on}; this is a {device.kind}"


def _framework(training: Training, device: DeviceDescriptor) -> str | None:
    if training.image is not msgspec.UNSET:
        return None if device.containers else _NO_ENGINE
    name, version = training.framework.name, training.framework.version
    there = device.frameworks.get(name, ())
    if version in there:
        return None
    if unfit := device.unfit_frameworks.get(f"{name} {version}"):
        return unfit
    has = f"{name} {', '.join(there)}" if there else f"no {name}"
    return f"needs {name} {version}; the device has {has}"


def _accelerators(training: Training, device: DeviceDescriptor) -> str | None:
    needed, there = training.resources.accelerators, len(device.accelerators)
    return None if there >= needed else f"needs {needed} accelerators; the device has {there}"


def _memory(training: Training, device: DeviceDescriptor) -> str | None:
    needed, there = training.resources.memory_bytes, device.memory_bytes
    if there >= needed:
        return None
    return f"needs {format_bytes(needed)} of memory; the device has {format_bytes(there)}"


def _cost(job: Job, training: Training, device: DeviceDescriptor) -> str | None:
    allowed = job.wishes.max_cost_usd
    most = device.price_per_hour_usd * training.deadline_seconds / 3600
    if allowed is None or most <= allowed:
        return None
    return (
        f"could cost {format_usd(most)} within its deadline of {format_seconds(training.deadline_seconds)}; "
        f"the job allows {format_usd(allowed)}"
    )
