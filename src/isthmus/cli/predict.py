"""``isthmus predict``: send an Open Inference Protocol request to the API or to a core device."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.errors import InvalidInput, InvalidRequest


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("predict", parents=[common], help="ask a model in service")
    parser.add_argument("model")
    parser.add_argument("request", help="file with the request's JSON, or - for standard input")
    parser.add_argument("--edge", metavar="URL", help="ask the core device at this address, not the API")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace, output: Output) -> None:
    body = _read(options.request)
    path = f"/v2/models/{options.model}/infer"
    if options.edge:
        answer = bootstrap.edge_api(options.edge).call("POST", path, body)
    else:
        answer = bootstrap.api(Stack(options.stack).outputs["ApiUrl"]).call("POST", path, body)
    text = answer.body.decode(errors="replace")
    if answer.status != 200:
        raise InvalidRequest(f"HTTP {answer.status}: {text}")
    output.result(msgspec.json.decode(answer.body), text)


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}") from error
