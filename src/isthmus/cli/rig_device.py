"""``isthmus rig join | show | schema``: this machine as a device, and devices as they are registered."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from isthmus import bootstrap, bootstrap_rig, documents
from isthmus.cli import rig_identity
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.errors import Refused
from isthmus.model.blob import Name
from isthmus.model.device import Accelerator, DeviceDescriptor, device_schema
from isthmus.model.own_cost import OwnCost
from isthmus.model.units import format_bytes, format_usd
from isthmus.planning.cloud_devices import cloud_device, is_cloud_device
from isthmus.planning.rig_rate import rig_rate
from isthmus.rig import settings

USAGES = {"training": ("training",), "inference": ("inference",), "both": ("training", "inference")}


def register(
    verbs: Any, common: argparse.ArgumentParser, named: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Add the verbs. ``named`` adds the options that name a device and its folder."""
    join = verbs.add_parser(
        "join",
        parents=[common],
        help="describe this machine, measure it, and register it as a rig or edge device",
    )
    named(join)
    join.add_argument("--zone", help="where data on this machine lies, for example onprem-milan")
    join.add_argument("--kind", choices=("rig", "edge"), help="rig trains (default), edge serves models")
    join.add_argument("--usage", choices=tuple(USAGES), help="what it is for, if not what its kind is for")
    join.add_argument("--price-per-hour", type=float, metavar="USD", help="what an hour costs you")
    join.add_argument(
        "--power", type=float, metavar="WATTS", help="what it draws while computing, above idle"
    )
    join.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"TOML with fields of the descriptor, kept as {settings.FILE} in the folder, where it is else read",
    )
    join.add_argument(
        "--no-rates", action="store_true", help="leave out the micro-benchmarks of operators (a minute)"
    )
    join.set_defaults(run=_join)
    show = verbs.add_parser(
        "show", parents=[common], help="a device's descriptor, and what of it was overridden"
    )
    show.add_argument(
        "name", metavar="NAME", help="the device's name; or sagemaker:TYPE, lambda:MB for one of the cloud"
    )
    show.set_defaults(run=_show)
    schema = verbs.add_parser("schema", parents=[common], help="the JSON schema of device descriptors")
    schema.set_defaults(run=_schema)


def _join(options: argparse.Namespace, output: Output) -> None:
    name = documents.convert(Name, options.name, "the device's name")
    chosen = _settings(options)
    outputs = bootstrap.stack_outputs(options.stack)
    device = bootstrap_rig.join_rig(
        name,
        outputs,
        stack=options.stack,
        settings=chosen,
        folder=options.folder,
        report=output.progress,
    )
    if options.config:
        settings.keep(options.config, options.folder)
    said = [joined(device)]
    if device.kind == "rig":
        enrolled = bootstrap_rig.enrol_rig(name, outputs, stack=options.stack, folder=options.folder)
        said.append(rig_identity.said(enrolled, options.stack))
    output.result(device, "\n".join(said))


def _settings(options: argparse.Namespace) -> settings.RigFile:
    file = settings.read(options.config) if options.config else settings.read_if_there(options.folder)
    given = {
        "measure_rates": False if options.no_rates else None,
        "zone": options.zone,
        "kind": options.kind,
        "usage": USAGES.get(options.usage),
        "price_per_hour_usd": options.price_per_hour,
        "power_watts": options.power,
    }
    return settings.merge(file, documents.convert(settings.RigFile, given, "the command line"))


def joined(device: DeviceDescriptor) -> str:
    """Return what a person needs after a join."""
    gpus = ", ".join(gpu.model for gpu in device.accelerators) or "no GPU"
    found = f"{device.cores} cores, {format_bytes(device.memory_bytes)}, {gpus}"
    lines = [f"{device.id} joined in {device.zone} as {device.kind}: {found}"]
    if device.overrides:
        lines.append(f"overridden: {', '.join(sorted(device.overrides))}")
    lines += [f"left out: {what}: {why}" for what, why in device.not_measured.items()]
    if device.data_roots:
        lines.append(f"reads in place: {', '.join(device.data_roots)}")
    if device.kind == "rig":
        trains = ", ".join(f"{name} {'/'.join(versions)}" for name, versions in device.frameworks.items())
        lines[0] += f"; trains {trains}"
        lines.append(f"run its agent with: isthmus rig run --name {device.id}")
    return "\n".join(lines)


def _show(options: argparse.Namespace, output: Output) -> None:
    if is_cloud_device(options.name):
        device: DeviceDescriptor | None = cloud_device(options.name)
    else:
        device = bootstrap.devices(Stack(options.stack).outputs["Table"]).get(options.name)
    if device is None:
        raise Refused(f"there is no device {options.name}; see `isthmus rig list`")
    output.result(device, shown(device))


def shown(device: DeviceDescriptor) -> str:
    """Return a descriptor for a person; an overridden field says what was discovered in its place."""
    rows: dict[str, str] = {
        "kind": device.kind,
        "zone": device.zone,
        "usage": ", ".join(device.usage),
        "arch": device.arch,
        "cores": str(device.cores),
        "memory_bytes": format_bytes(device.memory_bytes),
        "disk_free_bytes": format_bytes(device.disk_free_bytes) if device.disk_free_bytes else "-",
        "features": ", ".join(device.features) or "-",
        "accelerators": _gpus(device.accelerators),
        "frameworks": ", ".join(f"{name} {'/'.join(found)}" for name, found in device.frameworks.items())
        or "-",
        "containers": ", ".join(f"{name} {version}" for name, version in device.containers.items()) or "-",
        "data_roots": ", ".join(device.data_roots) or "-",
        "software": ", ".join(f"{name} {version}" for name, version in device.software.items()) or "-",
        "memory_bandwidth_bytes_per_second": _rate(device.memory_bandwidth_bytes_per_second),
        "rates": f"classes of operators: {len(device.rates)}" if device.rates else "-",
        "links": "; ".join(
            f"{link.to}: {_rate(link.bytes_per_second)}, {link.latency_seconds * 1000:.1f} ms"
            for link in device.links
        )
        or "-",
        "unsupported": ", ".join(device.unsupported) or "-",
        "price_per_hour_usd": format_usd(device.price_per_hour_usd) if device.price_per_hour_usd else "-",
        "power_watts": f"{device.power_watts:g} W" if device.power_watts else "-",
        "measured_watts": f"{device.measured_watts:g} W" if device.measured_watts else "-",
        "seen_at": device.seen_at,
    }
    if device.cost is not None:
        rows["cost"] = _cost(device.cost, device)
    for name, found in device.overrides.items():
        if name == settings.PRICE:
            rows[name] += f" (given, in place of the {format_usd(found)} that its cost makes)"
            continue
        text = found if isinstance(found, str | int | float) else json.dumps(msgspec.to_builtins(found))
        rows[name] = f"{rows.get(name, '')} (overridden; discovered: {text})"
    rows |= {f"{name}, does not fit": why for name, why in device.unfit_frameworks.items()}
    rows |= {f"{name}, not measured": why for name, why in device.not_measured.items()}
    width = max(map(len, rows))
    return "\n".join([device.id, *(f"  {name.ljust(width)}  {text}" for name, text in rows.items())])


def _cost(cost: OwnCost, device: DeviceDescriptor) -> str:
    """Return what an hour of use costs, and what that is made of."""
    rate = rig_rate(cost, power_watts=device.power_watts, measured_watts=device.measured_watts)
    return (
        f"{format_usd(rate.usd)} an hour of use: {format_usd(rate.machine_usd)} for the machine "
        f"({format_usd(cost.purchase_usd)} over {cost.life_years:g} years, in use {cost.utilisation:.0%} of them), "
        f"{format_usd(rate.energy_usd)} for energy at {format_usd(cost.tariff_usd_per_kwh)} a kWh"
    )


def _gpus(found: Sequence[Accelerator]) -> str:
    """Return the GPUs, those of a kind as one: ``4 x NVIDIA T4, 16.0 GiB, compute 7.5``."""
    kinds = []
    for gpu, count in Counter(map(_gpu, found)).items():
        kinds.append(gpu if count == 1 else f"{count} x {gpu}")
    return "; ".join(kinds) or "-"


def _gpu(gpu: Accelerator) -> str:
    told = {"compute": gpu.compute_capability, "driver": gpu.driver, "CUDA": gpu.cuda}
    parts = [gpu.model, format_bytes(gpu.memory_bytes)]
    return ", ".join([*parts, *(f"{name} {value}" for name, value in told.items() if value)])


def _rate(bytes_per_second: float) -> str:
    return f"{format_bytes(round(bytes_per_second))}/s" if bytes_per_second else "-"


def _schema(options: argparse.Namespace, output: Output) -> None:
    schema = device_schema()
    output.result(schema, json.dumps(schema, indent=2))
