"""``isthmus model shadow | limit``: what is done with a model's requests besides answering them."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from isthmus import bootstrap_operating
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.errors import InvalidInput, UnknownModel
from isthmus.model import layout
from isthmus.workflows.serving_settings import Shadow, set_shadow
from isthmus.workflows.shadow_inference import summarise

COLUMNS = (
    "release",
    "comparisons",
    "failed",
    "largest_difference",
    "agreement",
    "milliseconds",
    "live_milliseconds",
)


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs to ``isthmus model``."""
    shadow = verbs.add_parser(
        "shadow", parents=[common], help="let a release answer copies of requests; show how it differs"
    )
    shadow.add_argument("name", help="the model's name")
    change = shadow.add_mutually_exclusive_group()
    change.add_argument("--release", type=int, help="the candidate: a release that was proven")
    change.add_argument("--off", action="store_true", help="end it")
    shadow.add_argument(
        "--share", type=float, default=0.1, help="of the requests, above 0 to 1 (default 0.1)"
    )
    shadow.set_defaults(run=_shadow)
    limit = verbs.add_parser("limit", parents=[common], help="hold a model to a number of calls at once")
    limit.add_argument("name", help="the model's name")
    change = limit.add_mutually_exclusive_group()
    change.add_argument("--concurrency", type=int, metavar="CALLS", help="how many; what is over gets 429")
    change.add_argument("--off", action="store_true", help="as many as the account may")
    limit.set_defaults(run=_limit)


def _shadow(options: argparse.Namespace, output: Output) -> None:
    stack, name = Stack(options.stack), options.name
    if options.release is not None:
        _begin(stack, name, options.release, options.share, output)
    elif options.off:
        set_shadow(name, None, records=stack.records)
        output.result(
            {"model": name, "shadow": None}, f"{name} has no shadow from now on (within half a minute)"
        )
    else:
        found = [
            msgspec.to_builtins(entry) for entry in summarise(stack.records.query(layout.shadow_pk(name)))
        ]
        output.result(
            found, table(found, COLUMNS) if found else f"nothing was compared with {name} in thirty days"
        )


def _begin(stack: Stack, name: str, release: int, share: float, output: Output) -> None:
    champion = stack.records.get(layout.CHAMPIONS, name)
    if champion is None:
        raise UnknownModel(f"there is no model {name} in service")
    there = bootstrap_operating.published_releases(layout.function_name(stack.name, name))
    if release not in there or release == champion["release"]:
        others = ", ".join(str(number) for number in there if number != champion["release"]) or "none"
        raise InvalidInput(
            f"release {release} of {name} cannot shadow it: it must be another one than is in service, proven and "
            f"not collected; there are: {others}"
        )
    shadow = Shadow(release, layout.release_alias(release), share)
    set_shadow(name, shadow, records=stack.records)
    text = f"release {release} gets a copy of {share:.0%} of the requests of {name} (within half a minute)"
    output.result({"model": name, "shadow": shadow}, text)


def _limit(options: argparse.Namespace, output: Output) -> None:
    stack, concurrency = Stack(options.stack), bootstrap_operating.concurrency()
    function = layout.function_name(stack.name, options.name)
    if options.concurrency is not None and options.concurrency < 0:
        raise InvalidInput(f"the number of calls must be 0 (none) or more, not {options.concurrency}")
    if options.off or options.concurrency is not None:
        concurrency.set_limit(function, None if options.off else options.concurrency)
    calls = concurrency.limit(function)
    text = "as many calls at once as the account may" if calls is None else f"{calls} calls at once"
    output.result({"model": options.name, "concurrency": calls}, f"{options.name}: {text}")
