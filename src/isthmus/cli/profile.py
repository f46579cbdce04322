"""``isthmus profile MODEL``: what a network's operators compute, and how long they take on a device."""

from __future__ import annotations

import argparse
import datetime
import re
import socket
import time
from pathlib import Path
from typing import Any

import msgspec

from isthmus import documents
from isthmus.cli import planfiles
from isthmus.cli.output import Output, table
from isthmus.errors import InvalidInput
from isthmus.model.device import DeviceDescriptor
from isthmus.model.network import NetworkProfile
from isthmus.model.units import format_bytes
from isthmus.workflows import profile_network
from isthmus.workflows.profile_network import Profiled

THIS = "this"


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    text = "profile a network: operations, bytes, and seconds on a device"
    parser = commands.add_parser("profile", parents=[common], help=text, description=text)
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="an ONNX file, a folder that a training left, or a torch.export file (.pt2)",
    )
    parser.add_argument(
        "--on",
        metavar="DEVICE",
        help="file with a device's descriptor, to predict from; or `this`, to run the model on this machine",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="samples of a run; default: 1")
    parser.add_argument(
        "--dimension",
        action="append",
        default=[],
        metavar="NAME=N",
        help="size of an open dimension of the model",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="measure this machine's rates first (under a minute), and say how well they predict",
    )
    parser.add_argument(
        "--descriptor",
        type=Path,
        metavar="FILE",
        help="write this machine's descriptor there, with its rates",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the profile as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace, output: Output) -> None:
    here = options.on == THIS
    if (options.calibrate or options.descriptor) and not here:
        raise InvalidInput(
            f"only this machine can be measured: --calibrate and --descriptor go with --on {THIS}"
        )
    planfiles.check_writable((options.output, options.descriptor))
    dimensions = planfiles.read_dimensions(options.dimension)
    network = profile_network.read_network(options.model, batch=options.batch, dimensions=dimensions)
    if here:
        found = _measured(options, network, dimensions, output)
    elif options.on:
        found = profile_network.predict(network, planfiles.read_devices([Path(options.on)])[0])
    else:
        found = Profiled(profile=network)
    if options.output:
        planfiles.write(options.output, documents.encode(found.profile))
    output.result(found, text(found))


def _measured(
    options: argparse.Namespace, network: NetworkProfile, dimensions: dict[str, int], output: Output
) -> Profiled:
    device = _this_machine()
    if options.calibrate:
        from isthmus.frameworks.onnx.calibrate import calibrate

        # A descriptor is for networks to come as well; without one, this network's classes are enough.
        needed = None if options.descriptor else {operator.rate_class for operator in network.operators}
        rates = calibrate(needed, measured_at=device.seen_at, report=output.progress)
        device = msgspec.structs.replace(device, rates=rates)
    if options.descriptor:
        planfiles.write(options.descriptor, documents.encode(device))
    output.progress(f"running {network.name} on {device.id}")
    return profile_network.measure(options.model, network, device, dimensions)


def _this_machine() -> DeviceDescriptor:
    from isthmus.rig.discover import describe

    name = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower())[:38]
    name = name if name[:1].isalpha() else f"m-{name}"
    folder = Path.home() / ".local" / "share" / "isthmus"
    found = describe(name, zone="here", folder=folder, now=time.time())
    seen = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return msgspec.structs.replace(found, usage=("inference", "training"), seen_at=seen)


def text(found: Profiled) -> str:
    """Return a profile for a person."""
    network = found.profile
    parameters = {entry.name: entry.size_bytes for v in network.operators for entry in v.parameters}
    flops = sum(operator.flops for operator in network.operators)
    largest = max((tensor.bytes_at(network.batch) for tensor in network.tensors), default=0)
    lines = [
        f"{network.name}: {len(network.operators)} operators, {flops / 1e9:.3g} GFLOP a sample, "
        f"{format_bytes(sum(parameters.values()))} of parameters, largest tensor {format_bytes(largest)} "
        f"for a batch of {network.batch}"
    ]
    if found.slices:
        rows = [
            {
                "operators": f"[{entry.start}, {entry.end})",
                "first": entry.first,
                "last": entry.last,
                "predicted_ms": _ms(entry.predicted_seconds),
                "measured_ms": _ms(entry.measured_seconds),
                "error": "-" if entry.error is None else f"{entry.error:.2f}",
            }
            for entry in found.slices
        ]
        lines += ["", table(rows, tuple(rows[0]))]
    if found.median_error is not None:
        lines += [
            "",
            f"median error on {found.device}: {found.median_error:.3f} "
            f"(the larger of predicted / measured and measured / predicted)",
        ]
    elif found.slices and all(entry.predicted_seconds is None for entry in found.slices):
        lines += ["", f"no rates of {found.device} are known to predict from; add --calibrate"]
    return "\n".join(lines)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.3f}"
