"""The composition root of slices that are chained: each a process, joined by the direct stream."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.transport.pipelined import MOST_ASKED

if TYPE_CHECKING:
    from isthmus.model.sliced import Cast
    from isthmus.transport.pipelined import Pipelined
    from isthmus.transport.wires import Tls
    from isthmus.workflows.serve_slice import Chained
    from isthmus.workflows.slice_worker import Say, SliceWorker

Address = tuple[str, int]


def slice_worker(
    folder: Path,
    number: int,
    listen: Address,
    following: Address | None,
    *,
    tls: Tls | None,
    threads: int = 1,
    public_key: bytes | None = None,
    say: Say = lambda line: None,
) -> tuple[SliceWorker, Address]:
    """Return a worker that serves a slice over the direct stream, and where it listens (port 0 takes a free one).

    Raises:
        As ``serve_slice.open_slice``.
        EnvironmentProblem: it cannot listen there.
    """
    from isthmus.errors import EnvironmentProblem
    from isthmus.transport.direct import DirectListener
    from isthmus.workflows.slice_worker import SliceWorker

    chained = chained_slice(folder, number, following, tls=tls, threads=threads, public_key=public_key)
    try:
        listener = DirectListener(listen, tls=tls, on_refused=lambda error: say(f"not let in: {error}"))
    except OSError as error:
        raise EnvironmentProblem(f"cannot listen on {listen[0]}:{listen[1]}: {error.strerror}") from error
    return SliceWorker(chained, listener, say), listener.address


def chained_slice(
    folder: Path,
    number: int,
    following: Address | None,
    *,
    tls: Tls | None,
    threads: int = 1,
    public_key: bytes | None = None,
    most: int = MOST_ASKED,
) -> Chained:
    """Return a slice that runs in this process, and asks the one that serves at ``following`` for the rest. Of slice 0
    it is the whole model. ``most``: questions under way.

    Raises:
        As ``serve_slice.open_slice``.
    """
    from isthmus.workflows.serve_slice import Chained, open_slice

    work = open_slice(folder, number, threads=threads, public_key=public_key)
    asks = None if following is None else slice_asker(following, tls=tls, cast=work.cast, most=most)
    return Chained(work, asks)


def slice_asker(address: Address, *, tls: Tls | None, cast: Cast = "", most: int = MOST_ASKED) -> Pipelined:
    """Return what asks the slice that serves at an address, many questions at once."""
    from isthmus.transport.direct import DirectTransport, Terms
    from isthmus.transport.pipelined import Pipelined

    transport = DirectTransport(address, tls=tls, terms=Terms(cast=cast))
    return Pipelined(transport, most=most, name=f"the slice at {address[0]}:{address[1]}")
