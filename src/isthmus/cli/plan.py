"""``isthmus plan MODEL``, ``isthmus plan show | diff | schema``: which layers run where, and why."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from isthmus import bootstrap, documents
from isthmus.cli import planfiles
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.errors import InvalidInput
from isthmus.model.device import DeviceDescriptor
from isthmus.model.slicing import Objective, SlicePlan
from isthmus.planning.slicing import diff, leakage, picture, render
from isthmus.planning.slicing.request import CAST_BYTES, Request
from isthmus.workflows.measure_leakage import merged, read_report
from isthmus.workflows.plan_slices import SlowLink, load_plan, plan_schema, plan_slices

PATIENCE_SECONDS = 2.0
THRESHOLD = 0.05
USAGE = """isthmus plan MODEL [--devices FILE ...] [--objective OBJECTIVE] [option ...]
       isthmus plan show PLAN.json [--svg FILE] [--png FILE]
       isthmus plan diff OLD.json NEW.json
       isthmus plan schema"""
TAKES = {"show": (1, {"svg", "png"}), "diff": (2, set()), "schema": (0, set())}
"""Of each verb the number of files and the options."""
COMMON = {"json", "stack", "run", "what", "files"}


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    text = "plan which layers of a network run where; show and compare plans"
    command = commands.add_parser("plan", parents=[common], help=text, usage=USAGE, description=text)
    command.add_argument(
        "what", metavar="MODEL", help="a model, or its profile in JSON (`isthmus profile -o`); stands first"
    )
    command.add_argument("files", nargs="*", type=Path, help=argparse.SUPPRESS)
    _add_case(command.add_argument_group("the case"))
    _add_constraints(command.add_argument_group("what is allowed"))
    _add_replanning(command.add_argument_group("planning again"))
    result = command.add_argument_group("the result")
    result.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the plan as JSON")
    result.add_argument("--svg", type=Path, metavar="FILE", help="draw the plan")
    result.add_argument("--png", type=Path, metavar="FILE", help="draw the plan")
    command.set_defaults(run=_run)


def _add_case(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--devices",
        type=Path,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="descriptors as JSON or YAML, sagemaker:TYPE or lambda:MB; without, the devices that joined the stack",
    )
    group.add_argument("--objective", choices=get_args(Objective), help="default: latency")
    group.add_argument("--batch", type=int, metavar="N", help="samples of a request; default: 1")
    group.add_argument(
        "--dimension", action="append", metavar="NAME=N", help="size of an open dimension of the model"
    )
    group.add_argument("--source", metavar="DEVICE", help="where the raw input lies; default: the first")
    group.add_argument("--microbatches", type=int, metavar="N", help="of a step of training; default: 8")


def _add_constraints(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--policy", type=Path, metavar="FILE", help="the data policy, as JSON or YAML")
    group.add_argument(
        "--leakage",
        type=Path,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="what the network's tensors give away, as `isthmus leakage -o` writes it",
    )
    group.add_argument("--deadline", type=float, metavar="S", help="the most seconds of a request")
    group.add_argument("--max-cost", type=float, metavar="USD", help="the most dollars of 1,000 requests")
    group.add_argument("--tiers", action="store_true", help="data moves only to later devices, as listed")
    group.add_argument("--replicate", action="store_true", help="a slice may run on several devices")
    group.add_argument("--free", action="store_true", help="slices need not be contiguous")
    group.add_argument("--cast", choices=tuple(CAST_BYTES), help="send 32-bit floating point as this")
    group.add_argument("--time-limit", type=float, metavar="S", help="of the search; default: 60")


def _add_replanning(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--current", type=Path, metavar="PLAN.json", help="the plan in force")
    group.add_argument(
        "--threshold",
        type=float,
        metavar="FRACTION",
        help=f"keep the current plan where another gains less; default: {THRESHOLD}",
    )
    group.add_argument("--without", action="append", metavar="DEVICE", help="as if it were lost")
    group.add_argument(
        "--slow-link", action="append", metavar="A:B:FACTOR", help="as if data went so many times slower"
    )


def _run(options: argparse.Namespace, output: Output) -> None:
    if options.what in TAKES:
        _check_verb(options)
        {"show": _show, "diff": _diff, "schema": _schema}[options.what](options, output)
        return
    if options.files:
        raise InvalidInput(
            f"needs one MODEL, or show, diff or schema first; there are {options.what} and "
            f"{', '.join(map(str, options.files))}"
        )
    _plan(options, output)


def _check_verb(options: argparse.Namespace) -> None:
    count, allowed = TAKES[options.what]
    if len(options.files) != count:
        raise InvalidInput(
            f"`isthmus plan {options.what}` needs {count} files; there are {len(options.files)}"
        )
    given = {name for name, value in vars(options).items() if value is not None and value is not False}
    if refused := sorted(given - COMMON - allowed):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in refused)
        raise InvalidInput(f"`isthmus plan {options.what}` does not take {names}")


def _show(options: argparse.Namespace, output: Output) -> None:
    planfiles.check_writable((options.svg, options.png))
    _deliver(_read_plan(options.files[0]), options, output)


def _diff(options: argparse.Namespace, output: Output) -> None:
    old, new = map(_read_plan, options.files)
    found = diff.diff(old, new)
    output.result(found, diff.text(found))


def _schema(options: argparse.Namespace, output: Output) -> None:
    schema = plan_schema()
    output.result(schema, json.dumps(schema, indent=2))


def _plan(options: argparse.Namespace, output: Output) -> None:
    planfiles.check_writable((options.output, options.svg, options.png))
    request = _request(options)
    slow_links = [_slow_link(text) for text in options.slow_link or ()]
    devices = _devices(options)
    dimensions = planfiles.read_dimensions(options.dimension or ())
    current = None if options.current is None else _read_plan(options.current)
    report = merged([read_report(path) for path in options.leakage]) if options.leakage else None
    if report is None and leakage.limited(request.policy):
        output.progress(f"no leakage was measured, so that no activation may leave: {leakage.MEASURE}")
    with said_after(PATIENCE_SECONDS, lambda: output.progress(f"reading {options.what} …")):
        profile = planfiles.read_network(Path(options.what), dimensions)
    waiting = (
        f"planning {len(profile.operators)} operators on {len(devices)} devices, at most "
        f"{request.time_limit_seconds:g} s …"
    )
    with said_after(PATIENCE_SECONDS, lambda: output.progress(waiting)):
        plan = plan_slices(
            profile,
            devices,
            request,
            without=options.without or (),
            slow_links=slow_links,
            leakage=report,
            current=current,
            threshold=THRESHOLD if options.threshold is None else options.threshold,
        )
    _deliver(plan, options, output)


def _request(options: argparse.Namespace) -> Request:
    """What was not asked for keeps the request's own default."""
    asked = {
        "objective": options.objective,
        "batch": options.batch,
        "source": options.source,
        "microbatches": options.microbatches,
        "deadline_seconds": options.deadline,
        "max_usd_per_thousand": options.max_cost,
        "cast": options.cast,
        "time_limit_seconds": options.time_limit,
        "usage": "training" if options.objective == "step" else None,
    }
    return Request(
        policy=planfiles.read_policy(options.policy),
        tiers=options.tiers,
        replicate=options.replicate,
        contiguous=not options.free,
        **{name: value for name, value in asked.items() if value is not None},
    )


def _devices(options: argparse.Namespace) -> list[DeviceDescriptor]:
    if options.devices:
        return planfiles.read_devices(options.devices)
    return list(bootstrap.devices(Stack(options.stack).outputs["Table"]).list())


def _slow_link(text: str) -> SlowLink:
    parts = text.split(":")
    try:
        one, other, factor = parts
        return SlowLink(one, other, float(factor))
    except ValueError as error:
        raise InvalidInput(f"--slow-link needs A:B:FACTOR, such as rig-1:cloud:4; it is {text!r}") from error


def _read_plan(path: Path) -> SlicePlan:
    return load_plan(planfiles.read_bytes(path, "the plan"), f"the plan {path}")


def _deliver(plan: SlicePlan, options: argparse.Namespace, output: Output) -> None:
    """Files first: who reads the result on stdout finds them there."""
    contents: tuple[tuple[Path | None, Callable[[SlicePlan], bytes]], ...] = (
        (options.output, documents.encode),
        (options.svg, picture.to_svg),
        (options.png, picture.to_png),
    )
    for path, make in contents:
        if path is not None:
            planfiles.write(path, make(plan))
            output.progress(f"wrote {path}")
    output.result(plan, f"{render.table(plan)}\n\n{render.summary(plan)}")


@contextmanager
def said_after(seconds: float, say: Callable[[], None]) -> Iterator[None]:
    """Say something once if what stands inside takes longer."""
    timer = threading.Timer(seconds, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
