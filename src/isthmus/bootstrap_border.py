"""The composition root of a rig's border: what its agent sends passes there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus import bootstrap

if TYPE_CHECKING:
    from isthmus.rig.crossings import Border


@contextlib.contextmanager
def border(
    name: str, outputs: Callable[[], dict[str, str]], *, folder: Path, report: Callable[..., None]
) -> Iterator[tuple[Border, dict[str, str]]]:
    """Count what this process sends from here on; with it, the stack's outputs, which were asked for under its eyes.

    At the end all that was counted is put on record.
    """
    from isthmus.adapters.aws import crossings
    from isthmus.model.crossing import Sent
    from isthmus.rig.crossings import Border

    early: list[Sent] = []
    sees = early.append
    end = crossings.watch(lambda sent: sees(sent))
    try:
        found = outputs()
        device = bootstrap.devices(found["Table"]).get(name)
        here = Border(
            name,
            device.zone if device else "",
            bootstrap.bucket_zone(found),
            folder=folder,
            records=bootstrap.records(found["Table"]),
            blobs=bootstrap.blobs(found["Bucket"]),
            clock=bootstrap.clock(),
            report=report,
        )
        sees = here.passes
        for sent in early:
            here.passes(sent)
        try:
            yield here, found
        finally:
            here.tell(everything=True)
    finally:
        end()
