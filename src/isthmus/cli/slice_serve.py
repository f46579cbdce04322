"""``isthmus slice serve FOLDER --slice N``: one slice as a process, joined to the next one by the direct stream."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Any

from isthmus import bootstrap_chain
from isthmus.cli.output import Output
from isthmus.errors import InvalidInput
from isthmus.transport.reach import is_here
from isthmus.transport.wires import Tls

OPTIONS = {"slice", "listen", "next", "certificate", "key", "authority", "peer", "threads", "public_key"}
DEFAULT_LISTEN = "127.0.0.1:0"
HIGHEST_PORT = 65535


def add_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of serving a slice."""
    group.add_argument("--slice", type=int, metavar="N", help="which slice of the folder; the first is 0")
    group.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help=f"where the slice before connects; default: {DEFAULT_LISTEN}, a free port",
    )
    group.add_argument(
        "--next", metavar="HOST:PORT", help="where the next slice listens; none after the last one"
    )
    group.add_argument(
        "--certificate", type=Path, metavar="FILE", help="ours (PEM), for TLS, which both sides prove"
    )
    group.add_argument("--key", type=Path, metavar="FILE", help="of the certificate (PEM)")
    group.add_argument(
        "--authority", type=Path, metavar="FILE", help="who signs the others' certificates (PEM)"
    )
    group.add_argument(
        "--peer", action="append", metavar="NAME", help="a name that the others' certificates may have"
    )
    group.add_argument("--threads", type=int, metavar="N", help="within an operator; default: 1")
    group.add_argument(
        "--public-key", type=Path, metavar="FILE", help="of who sliced it (DER); default: the one in FOLDER"
    )


def run(options: argparse.Namespace, output: Output) -> None:
    """Serve until SIGTERM or SIGINT; what was taken is answered before the end."""
    if options.slice is None:
        raise InvalidInput("needs --slice N, the number of the slice to serve; there is none")
    listen = address(options.listen or DEFAULT_LISTEN, "--listen")
    following = None if options.next is None else address(options.next, "--next")
    tls = tls_of(options)
    for name, where in (("--listen", listen), ("--next", following)):
        if where is not None and tls is None and not is_here(where[0]):
            raise InvalidInput(
                f"{name} {where[0]} leaves this machine, and needs TLS: give --certificate, --key, --authority, --peer"
            )
    threads = 1 if options.threads is None else options.threads
    if threads < 1:
        raise InvalidInput(f"needs --threads of at least 1, not {threads}")
    worker, (host, port) = bootstrap_chain.slice_worker(
        options.files[0],
        options.slice,
        listen,
        following,
        tls=tls,
        threads=threads,
        public_key=None if options.public_key is None else _read(options.public_key),
        say=output.progress,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.end())
    work = worker.chained.work
    listens = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    served = {"slice": work.number, "name": work.name, "listens": listens}
    output.result(served, f"slice {work.number} of {work.count}, {work.name}, listens on {listens}")
    worker.serve()
    output.progress(
        f"ended; {worker.answered} questions were answered, {worker.failed} of them with an error"
    )


def address(text: str, option: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; an IPv6 address stands in brackets.

    Raises:
        InvalidInput
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > HIGHEST_PORT:
        raise InvalidInput(f"needs {option} as HOST:PORT, for example 127.0.0.1:7000; it is {text!r}")
    return host, int(port)


def tls_of(options: Any) -> Tls | None:
    """Return the TLS settings, or None where none are given.

    Raises:
        InvalidInput: some are, and not all.
    """
    given = (options.certificate, options.key, options.authority, options.peer)
    if not any(given):
        return None
    if not all(given):
        raise InvalidInput("TLS needs all of --certificate, --key, --authority and --peer; some are missing")
    return Tls(options.certificate, options.key, options.authority, frozenset(options.peer))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
