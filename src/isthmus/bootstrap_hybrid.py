"""The composition root of the imperative face: ``isthmus.hybridize``, and the worker that computes for it.

``python -P -m isthmus.bootstrap_hybrid LISTEN``, in the environment of a training framework that has msgspec and
xxhash as well.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from isthmus.errors import EnvironmentProblem, InvalidInput, IsthmusError

if TYPE_CHECKING:
    from isthmus.frameworks.parts import Place
    from isthmus.transport.wires import Tls

HERE = "here"
PATIENCE_SECONDS = 120.0
Network = TypeVar("Network")


def hybridize(
    net: Network,
    *,
    cuts: Sequence[Any] = (),
    places: Sequence[str] = (),
    replicas: Sequence[str] = (),
    shares: str | Path | None = None,
    first_step: int = 0,
    rates: Sequence[float] | None = None,
    tls: Tls | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Network:
    """Let a network's calls run in slices, or on replicas, under a training or inference loop that stays as it is.

    ``net``: a Gluon ``HybridBlock`` or a ``torch.nn.Module``; it is returned, with its parameters as they are, and has
    ``plan``, which prints. ``cuts``: where slices begin: layers, their names, names of operators, or positions.
    ``places``: of each slice, ``"here"`` or a worker's ``"host:port"``; all here if there are none.

    ``replicas``: of the whole network instead, which share each batch by what they are seen to do in a second, or
    by ``rates``. ``shares``: a file that keeps the shares of each step; with it and ``first_step``, the number of
    the step that a checkpoint goes on with, a training that was broken off shares as before.

    Without cuts, places and replicas nothing is changed: one slice, here. A second call replaces the first.

    Raises:
        InvalidInput: it is no network of a framework that is known, or places and cuts do not fit.
        InvalidModel: it cannot be cut (also from the first call on).
        Unavailable: from the first call on, a worker cannot be reached.
    """
    from isthmus.frameworks import hybrid
    from isthmus.frameworks.replicas import Sharing

    where = _where(len(cuts), places, replicas)
    known: dict[str, Place | None] = {
        address: _place(address, tls, patience_seconds) for address in dict.fromkeys((*where, *replicas))
    }
    sharing = None
    if replicas:
        sharing = Sharing(len(replicas), Path(shares) if shares else None, first_step, rates)
    wishes = hybrid.Wishes(
        tuple(cuts),
        tuple(known[address] for address in where),
        tuple(known[address] for address in replicas),
        sharing,
    )
    found: Network = hybrid.hybridize(net, wishes)
    return found


def _where(cuts: int, places: Sequence[str], replicas: Sequence[str]) -> tuple[str, ...]:
    """Return each slice's place.

    Raises:
        InvalidInput: what is wished does not fit together.
    """
    where = tuple(places) or (HERE,) * (cuts + 1)
    if len(where) != cuts + 1:
        raise InvalidInput(f"{cuts} cuts make {cuts + 1} slices; places has {len(where)}")
    if replicas and (cuts or places):
        raise InvalidInput("replicas are of the whole network: leave cuts and places out, or replicas")
    if len(set(replicas)) < len(replicas):
        raise InvalidInput(f"each replica needs a place of its own; they are at {', '.join(replicas)}")
    return where


def _place(address: str, tls: Tls | None, patience_seconds: float) -> Place | None:
    from isthmus.transport.direct import DirectTransport
    from isthmus.transport.reach import check_secured
    from isthmus.workflows.ask_parts import AskedPlace

    if address == HERE:
        return None
    check_secured(_endpoint(address)[0], tls, "the place")
    return AskedPlace(address, DirectTransport(_endpoint(address), tls=tls), patience_seconds)


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f'a place is "{HERE}" or a worker\'s "host:port"; it is {address!r}')
    return host.strip("[]"), int(port)


def serve(listen: str, tls: Tls | None) -> None:
    """Compute for scripts until SIGTERM or SIGINT.

    Raises:
        EnvironmentProblem: nobody can listen there.
    """
    from isthmus.transport.direct import DirectListener
    from isthmus.transport.reach import check_secured
    from isthmus.workflows.serve_parts import PartWorker

    check_secured(_endpoint(listen)[0], tls, "listening at")
    try:
        listener = DirectListener(_endpoint(listen), tls=tls)
    except OSError as error:
        raise EnvironmentProblem(f"cannot listen on {listen}: {error.strerror}") from error
    worker = PartWorker(listener, _say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.end())
    _say("listens on {}:{}".format(*listener.address))
    worker.serve()


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="isthmus.bootstrap_hybrid", description=__doc__)
    parser.add_argument("listen", help="an address and a port of this machine, lab-1:7000 for example")
    for name, text in (
        ("certificate", "this worker's certificate, in PEM; beyond one machine TLS is needed"),
        ("key", "its key"),
        ("authority", "the certificate of who signs certificates"),
    ):
        parser.add_argument(f"--{name}", type=Path, help=text)
    parser.add_argument(
        "--peer", action="append", default=[], help="a name that scripts' certificates may have"
    )
    return parser


def _tls(given: argparse.Namespace) -> Tls | None:
    from isthmus.transport.wires import Tls

    files = (given.certificate, given.key, given.authority)
    if not any(files):
        return None
    if not all(files) or not given.peer:
        raise InvalidInput("TLS needs --certificate, --key, --authority and --peer, all of them")
    return Tls(*files, frozenset(given.peer))


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    given = _parser().parse_args(arguments)
    try:
        serve(given.listen, _tls(given))
    except IsthmusError as error:
        _say(f"{type(error).__name__}: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
