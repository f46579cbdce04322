"""``isthmus proxy``: lets clients that cannot sign ask the stack's API, on this machine alone."""

from __future__ import annotations

import argparse
import signal
import threading
from typing import Any

from isthmus import bootstrap
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.errors import EnvironmentProblem

DEFAULT_PORT = 8771


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "proxy",
        parents=[common],
        help="sign the requests of clients that cannot (tritonclient, curl) and pass them on to the API",
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--api", metavar="URL", help="the API's address (default: the stack's)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace, output: Output) -> None:
    api = options.api or Stack(options.stack).outputs["ApiUrl"]
    try:
        server = bootstrap.signing_proxy(api, options.port)
    except (OSError, OverflowError) as error:
        raise EnvironmentProblem(
            f"port {options.port} of 127.0.0.1 cannot be listened on: {error}; name another by --port"
        ) from error
    server.start()
    url = f"http://127.0.0.1:{server.port}"
    output.result({"url": url, "api": api}, f"{api} answers at {url}; end with Ctrl-C")
    leave = threading.Event()
    # Named here: a shell's background job inherits that the first is ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: leave.set())
    leave.wait()
    server.close()
