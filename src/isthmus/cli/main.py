"""``isthmus``: the entry point of the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from isthmus import __version__, bootstrap
from isthmus.cli import (
    collect,
    cost,
    dataset,
    destroy,
    doctor,
    edge,
    fleet,
    job,
    leakage,
    load,
    local,
    model,
    notebook,
    pipeline,
    plan,
    policy,
    predict,
    profile,
    proxy,
    rig,
    sagemaker,
    slice,
)
from isthmus.cli.output import Output
from isthmus.errors import IsthmusError

COMMANDS = (
    dataset,
    notebook,
    job,
    pipeline,
    cost,
    model,
    predict,
    load,
    proxy,
    edge,
    fleet,
    rig,
    sagemaker,
    profile,
    leakage,
    plan,
    slice,
    policy,
    doctor,
    collect,
    destroy,
    local,
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command; a bare ``isthmus`` explains itself."""
    root = argparse.ArgumentParser(
        prog="isthmus", description="GPU rigs, an AWS account and edge devices as one deep-learning system."
    )
    root.add_argument("--version", action="version", version=f"isthmus {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    common.add_argument(
        "--stack",
        default=os.environ.get("ISTHMUS_STACK", "isthmus"),
        help="name of the deployed stack (default: ISTHMUS_STACK, else isthmus)",
    )
    commands = root.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.register(commands, common)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, 1 for a failure, 2 for bad input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["local"]:
        # The local cloud parses its own arguments: it is a project of its own.
        return _guarded(lambda output: local.run(arguments[1:]), Output("--json" in arguments))
    root = parser()
    options = root.parse_args(arguments)
    if not hasattr(options, "run"):
        root.print_help()
        return 2
    return _guarded(lambda output: int(options.run(options, output) or 0), Output(options.json))


def _guarded(run: object, output: Output) -> int:
    try:
        return int(run(output))  # type: ignore[operator]
    except IsthmusError as error:
        output.error(type(error).__name__, str(error))
        return error.exit_code
    except bootstrap.aws_errors() as error:
        output.error(type(error).__name__, f"AWS refused or did not answer: {error}")
        return 1
    except KeyboardInterrupt:
        output.error("Interrupted", "interrupted")
        return 130
    except BrokenPipeError:
        return 141
