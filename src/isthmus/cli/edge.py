"""``isthmus edge serve MODEL``: serve a model on this machine as a core device does, without Greengrass."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

from isthmus import bootstrap, bootstrap_edge
from isthmus.cli import edge_join, edge_keys, edge_results, planfiles
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.durable import write_durably
from isthmus.errors import EnvironmentProblem, InvalidInput, Unavailable
from isthmus.workflows.fetch_model import ARTIFACT, fetch_model, last_fetched

DEFAULT_PORT = 8770
KEY_FILE = "public_key.der"
TOKEN_VARIABLE = "ISTHMUS_TOKEN"


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("edge", help="this machine as a core device, with Greengrass or without")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    edge_join.register(verbs, common)
    edge_keys.register(verbs, common)
    edge_results.register(verbs, common)
    serve = verbs.add_parser(
        "serve",
        parents=[common],
        help="serve a model on 127.0.0.1, also offline; with --slices part of it in the cloud where that pays",
    )
    serve.add_argument("model", help="a model in service in the stack")
    serve.add_argument(
        "--folder", type=Path, metavar="FOLDER", help="keeps the model (default: ~/.isthmus/edge/MODEL)"
    )
    serve.add_argument("--port", type=int, default=DEFAULT_PORT, help="on 127.0.0.1; 0 takes a free one")
    serve.add_argument("--threads", type=int, help="of the engine (default: one for each core)")
    serve.add_argument("--slices", type=Path, metavar="FOLDER", help="what `isthmus slice --publish` wrote")
    serve.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="what may leave this machine; needed with --slices and --results",
    )
    serve.add_argument(
        "--cloud", metavar="URL", help="who serves the other slices (default: the stack's API)"
    )
    serve.add_argument(
        "--cloud-zone",
        default="",
        metavar="ZONE",
        help="where --cloud lies, such as aws:eu-west-1 (default: as the slices say, if that is one region)",
    )
    edge_results.add_options(serve)
    serve.set_defaults(run=_serve)


def _serve(options: argparse.Namespace, output: Output) -> None:
    if options.slices is not None and options.policy is None:
        raise InvalidInput("--slices needs --policy FILE, which says what may leave this machine")
    if options.threads is not None and not 1 <= options.threads <= 1024:
        raise InvalidInput(f"--threads needs a number from 1 to 1024, not {options.threads}")
    edge_results.check(options)
    stack = Stack(options.stack)
    folder = options.folder or Path.home() / ".isthmus" / "edge" / options.model
    key = _fetched(options.model, folder, stack, output)
    split = None
    if options.slices is not None:
        cloud, zone = (options.cloud, options.cloud_zone) if options.cloud else _api(stack, output)
        policy = planfiles.read_policy(options.policy)
        split = bootstrap_edge.split_settings(
            options.slices, policy, cloud, zone, os.environ.get(TOKEN_VARIABLE, "")
        )
    threads = options.threads or len(os.sched_getaffinity(0))
    store = folder / "store"
    results = edge_results.kept(options, folder, lambda: stack.outputs["ApiUrl"], _unreachable(), output)
    core, port = bootstrap_edge.edge_core(
        store, folder / ARTIFACT, key, options.port, threads, split, results
    )
    leave = threading.Event()
    # Named here: a shell's background job inherits that the first is ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: leave.set())
    told = json.loads((store / "status.json").read_text())
    url = f"http://127.0.0.1:{port}"
    sentence = (
        f"{options.model} release {told['release']} answers at {url}{_of_slices(told)}"
        f"{edge_results.said(told)}; end with Ctrl-C"
    )
    output.result({"url": url, **told}, sentence)
    leave.wait()
    core.close()


def _of_slices(told: dict[str, Any]) -> str:
    split = told.get("split")
    if split is None:
        return ""
    return f", all of it here ({split['refused']})" if "refused" in split else ", in slices where that pays"


def _fetched(model: str, folder: Path, stack: Stack, output: Output) -> bytes:
    """Have the model and the key that its bundles are signed with; return the key. Offline, those of last time do.

    The key is taken once, when the folder is new, and held to from then on.
    """
    key, known = folder / KEY_FILE, last_fetched(folder)
    if known is not None and known.model != model:
        raise InvalidInput(f"{folder} holds the model {known.model}; name another by --folder for {model}")
    try:
        if not key.is_file():
            found = bootstrap.signer(stack.outputs["SigningKey"]).public_key()
            folder.mkdir(parents=True, exist_ok=True)
            write_durably(key, found)
        fetch_model(model, folder, records=stack.records, blobs=stack.blobs)
    except _unreachable() as error:
        if known is None or not key.is_file():
            raise
        output.progress(f"the stack does not answer, so release {known.release} serves: {error}")
    except KeyError:
        raise EnvironmentProblem(
            f"the stack {stack.name} does not say which key signs its bundles: deploy it anew"
        ) from None
    return key.read_bytes()


def _api(stack: Stack, output: Output) -> tuple[str, str]:
    """Return the address of the stack's API, and where it lies; empty texts, so that all runs here, where it cannot be
    asked for."""
    try:
        return stack.outputs["ApiUrl"], stack.bucket_zone
    except _unreachable() as error:
        output.progress(f"the API's address is not known, so all runs here; --cloud names it: {error}")
        return "", ""


def _unreachable() -> tuple[type[Exception], ...]:
    return Unavailable, EnvironmentProblem, *bootstrap.aws_errors()
