"""``isthmus slice MODEL --plan PLAN``, ``slice explain | frontier | schema``: slices that run, and their proof."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from isthmus import bootstrap, bootstrap_slicing, documents
from isthmus.cli import planfiles, slice_serve, slice_text
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.cli.plan import PATIENCE_SECONDS, said_after
from isthmus.errors import EnvironmentProblem, InvalidInput
from isthmus.model.sliced import MAX_RELATIVE, Cast, SlicedModel
from isthmus.planning.slicing import frontier_picture
from isthmus.planning.slicing.frontier import Frontier, frontier
from isthmus.planning.slicing.request import CAST_BYTES
from isthmus.planning.slicing.stages import base_name
from isthmus.workflows.job_file import read_job
from isthmus.workflows.measure_leakage import merged, read_report
from isthmus.workflows.plan_slices import load_plan
from isthmus.workflows.publish_slices import deploy_slices, publish_slices, reserve
from isthmus.workflows.read_samples import arrays_from_file, from_dataset
from isthmus.workflows.slice_model import Given, Order, slice_model
from isthmus.workflows.sliced_folder import SLICED_FILE, load_sliced

USAGE = """isthmus slice MODEL --plan PLAN.json [-o FOLDER] [--samples FILE] [option ...]
       isthmus slice explain FOLDER | sliced.json | PLAN.json
       isthmus slice serve FOLDER --slice N [--listen HOST:PORT] [--next HOST:PORT] [option ...]
       isthmus slice frontier MODEL --devices FIRST SECOND [--leakage FILE ...] [--svg FILE] [--png FILE] [-o FILE]
       isthmus slice schema"""
TAKES: dict[str, tuple[int, set[str]]] = {
    "explain": (1, set()),
    "frontier": (1, {"devices", "leakage", "batch", "cast", "dimension", "output", "svg", "png"}),
    "schema": (0, set()),
    "serve": (1, slice_serve.OPTIONS),
}
"""Of each verb the number of files and the options."""
SLICES = {
    "plan",
    "output",
    "samples",
    "job",
    "tolerance",
    "name",
    "cast",
    "devices",
    "dimension",
    "publish",
    "deploy",
}
SLICED_SCHEMA = "isthmus/sliced/1"
COMMON = {"json", "stack", "run", "what", "files"}


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    text = "cut a model as a plan says, prove the slices, and serve them; explain them; show all cuts"
    command = commands.add_parser("slice", parents=[common], help=text, usage=USAGE, description=text)
    command.add_argument("what", metavar="MODEL", help="an ONNX file, or a bundle's folder; stands first")
    command.add_argument("files", nargs="*", type=Path, help=argparse.SUPPRESS)
    cut = command.add_argument_group("cutting")
    cut.add_argument("--plan", type=Path, metavar="FILE", help="the plan, as `isthmus plan -o` writes it")
    cut.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help="folder of the slices; default: NAME-slices"
    )
    cut.add_argument("--name", help="what the slices' names begin with; default: the network's name")
    cut.add_argument(
        "--cast", choices=("none", *CAST_BYTES), help="what crosses is sent as this; default: as planned"
    )
    cut.add_argument(
        "--dimension", action="append", metavar="NAME=N", help="size of an open dimension, as planned"
    )
    _add_proof(command.add_argument_group("the proof"))
    _add_stack(command.add_argument_group("serving"))
    slice_serve.add_options(command.add_argument_group("a slice as a process (serve)"))
    show = command.add_argument_group("all cuts (frontier)")
    show.add_argument(
        "--leakage", type=Path, nargs="+", action="extend", metavar="FILE", help="of the network's tensors"
    )
    show.add_argument("--batch", type=int, metavar="N", help="samples of a request; default: 1")
    show.add_argument("--svg", type=Path, metavar="FILE", help="draw the cuts")
    show.add_argument("--png", type=Path, metavar="FILE", help="draw the cuts")
    command.set_defaults(run=_run)


def _add_proof(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--samples",
        type=Path,
        metavar="FILE",
        help="inputs as the model takes them (.npy; .npz with an array for each input); with --job, a dataset's folder "
        "or file; default: random numbers",
    )
    group.add_argument("--job", type=Path, metavar="FILE", help="the job that says how a dataset is decoded")
    group.add_argument(
        "--tolerance",
        type=float,
        metavar="FRACTION",
        help=f"of an output's range, by which slices may differ from the whole; default: {MAX_RELATIVE:g}",
    )


def _add_stack(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--devices",
        type=Path,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="descriptors of the plan's devices, which tell their zones; of a frontier: the two devices",
    )
    group.add_argument(
        "--publish", action="store_true", help="put the slices into the stack, as models of their own"
    )
    group.add_argument(
        "--deploy", action="store_true", help="publish, and roll out the slices for devices in AWS"
    )


def _run(options: argparse.Namespace, output: Output) -> None:
    if options.what in TAKES:
        count, allowed = TAKES[options.what]
        _check(options, f"slice {options.what}", count, allowed)
        verbs = {"explain": _explain, "frontier": _frontier, "schema": _schema, "serve": slice_serve.run}
        verbs[options.what](options, output)
        return
    _check(options, "slice MODEL", 0, SLICES)
    if options.plan is None:
        raise InvalidInput(
            "needs --plan PLAN.json, as `isthmus plan MODEL -o PLAN.json` writes it; there is none"
        )
    _slice(options, output)


def _check(options: argparse.Namespace, verb: str, count: int, allowed: set[str]) -> None:
    if len(options.files) != count:
        found = ", ".join(map(str, options.files)) or "none"
        raise InvalidInput(f"`isthmus {verb}` needs {count} files more; there are: {found}")
    given = {name for name, value in vars(options).items() if value is not None and value is not False}
    if refused := sorted(given - COMMON - allowed):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in refused)
        raise InvalidInput(f"`isthmus {verb}` does not take {names}")


def _slice(options: argparse.Namespace, output: Output) -> None:
    model = Path(options.what)
    if not model.exists():
        raise InvalidInput(f"there is no {model}; needed is an ONNX file, or a bundle's folder")
    if options.job is not None and options.samples is None:
        raise InvalidInput("--job says how --samples are decoded; there are none: name the dataset's folder")
    cast: dict[str | None, Cast | None] = {None: None, "none": "", "float16": "float16", "int8": "int8"}
    devices = planfiles.read_devices(options.devices or ())
    order = Order(
        model=model,
        plan=planfiles.read_bytes(options.plan, "the plan"),
        name=options.name or "",
        cast=cast[options.cast],
        zones={device.id: device.zone for device in devices},
        dimensions=planfiles.read_dimensions(options.dimension or ()),
        samples=_samples(options),
        tolerance=_tolerance(options.tolerance),
    )
    stack = Stack(options.stack) if options.publish or options.deploy else None
    plan = load_plan(order.plan, f"the plan {options.plan}")
    folder = options.output or Path(f"{base_name(order.name or plan.network, len(plan.slices))}-slices")
    planfiles.check_writable((folder,))
    document = slice_model(
        order,
        folder,
        signer=bootstrap.signer(_signing_key(stack)) if stack else bootstrap_slicing.own_signer(),
        open_engine=bootstrap.open_engine,
        now=bootstrap.now(),
        reserve=partial(reserve, records=stack.records) if stack else None,
        say=output.progress,
    )
    output.progress(f"wrote {folder / SLICED_FILE}")
    if stack is not None:
        _publish(document, folder, stack, options.deploy, output)
    output.result(document, slice_text.sliced(document, load_sliced(folder)[1]))


def _tolerance(given: float | None) -> float:
    if given is None:
        return MAX_RELATIVE
    if not 0 <= given < 1:
        raise InvalidInput(f"--tolerance needs a fraction of 0 to 1, such as 1e-5; it is {given:g}")
    return given


def _samples(options: argparse.Namespace) -> Given | None:
    if options.samples is None:
        return None
    if options.job is not None:
        array = from_dataset(options.samples, read_job(options.job))
        return Given({"": array}, f"{options.samples.name}, as {options.job.name} reads it")
    return Given(arrays_from_file(options.samples), options.samples.name)


def _signing_key(stack: Stack) -> str:
    key = stack.outputs.get("SigningKey")
    if key is None:
        raise EnvironmentProblem(
            f"the stack {stack.name} does not say which key signs its bundles: deploy it anew, then publish"
        )
    return key


def _publish(document: SlicedModel, folder: Path, stack: Stack, deploy: bool, output: Output) -> None:
    with tempfile.TemporaryDirectory() as workdir:
        key = publish_slices(
            document, folder, blobs=stack.blobs, records=stack.records, workdir=Path(workdir)
        )
    output.progress(f"published {document.name} as {key}")
    if deploy:
        machine = stack.outputs["DeployCloudMachine"]
        started = deploy_slices(
            document, records=stack.records, executions=bootstrap.executions(), machine=machine
        )
        output.progress(
            f"rolling out {', '.join(started) or 'nothing new'}; `isthmus model list` shows what is in service"
        )


def _explain(options: argparse.Namespace, output: Output) -> None:
    path = options.files[0]
    if path.is_dir() or _is_sliced(path):
        document, plan = load_sliced(path)
        output.result(document, slice_text.sliced(document, plan))
        return
    plan = load_plan(planfiles.read_bytes(path, "the plan"), f"the plan {path}")
    output.result(plan, slice_text.planned(plan))


def _is_sliced(path: Path) -> bool:
    found = documents.decode(dict[str, Any], planfiles.read_bytes(path, "the document"), str(path))
    return bool(found.get("schema") == SLICED_SCHEMA)


def _frontier(options: argparse.Namespace, output: Output) -> None:
    planfiles.check_writable((options.output, options.svg, options.png))
    if not options.devices:
        raise InvalidInput("needs --devices FIRST SECOND, the first where the raw input lies; there are none")
    devices = planfiles.read_devices(options.devices)
    report = merged([read_report(path) for path in options.leakage]) if options.leakage else None
    kinds: dict[str | None, Cast] = {None: "", "none": "", "float16": "float16", "int8": "int8"}
    with said_after(PATIENCE_SECONDS, lambda: output.progress(f"reading {options.files[0]} …")):
        profile = planfiles.read_network(options.files[0], planfiles.read_dimensions(options.dimension or ()))
    batch = 1 if options.batch is None else options.batch
    found = frontier(profile, devices, report, batch=batch, cast=kinds[options.cast])
    contents: tuple[tuple[Path | None, Callable[[Frontier], bytes]], ...] = (
        (options.output, documents.encode),
        (options.svg, frontier_picture.to_svg),
        (options.png, frontier_picture.to_png),
    )
    for path, make in contents:
        if path is not None:
            planfiles.write(path, make(found))
            output.progress(f"wrote {path}")
    output.result(found, slice_text.frontier(found))


def _schema(options: argparse.Namespace, output: Output) -> None:
    schema = msgspec.json.schema(SlicedModel)
    output.result(schema, json.dumps(schema, indent=2))
