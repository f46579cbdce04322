"""edge_powerloss: a device loses power at random points of an update; what serves afterwards?

First on a disk that forgets (``benchmarks/powerloss/disk.py``): the store's own updates are recorded, as a first model,
an update, a rollback and an update by a new key; at each point what was not synced is lost, kept, or kept in part and
in any order, and the next start works on what is left, in one of three points after a second loss while it recovers.
Then with SIGKILL: the real edge core, with its session and its server, is killed while it brings a model into service,
and the next one is asked over HTTP.

``unserved``: starts after which no model served. ``unverified``: after which what served is not, byte for byte, the old
model or the new one. ``forgotten``: an update that had ended was undone. ``replayed``: the old release came back once
the new one had served. ``stuck``: the new model, whole, was not taken at the next start. ``most_attempts``: how often a
candidate is tried that loses power in each proof. ``ours`` is the sum of what must not be. A disk that acknowledges
syncs and does not do them must show: ``lying_disk`` is what then is broken, or the script fails.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from benchmarks.powerloss.kills import kill
from benchmarks.powerloss.world import World
from benchmarks.report import report
from isthmus.edge.model_store import MAX_ATTEMPTS

POINTS, KILLS, PROOFS, LYING_POINTS, SEED = 200, 200, 10, 60, 1
RULES = ("unserved", "unverified", "forgotten", "replayed", "stuck", "tried too often")


def broken(counts: Counter[str]) -> int:
    """Return how often a rule was broken."""
    return sum(counts[rule] for rule in RULES)


def lying(folder: Path, deaf_to: str) -> int:
    """Return how often a rule is broken on a disk that does not sync these."""
    world = World(folder, SEED, deaf_to)
    return broken(world.lose(LYING_POINTS).broken)


def main() -> None:
    """Measure and print the line."""
    logging.disable(logging.CRITICAL)  # each loss is an error to the store
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as name:
        scratch = Path(name)
        world = World(scratch / "disk", SEED)
        lost = world.lose(POINTS)
        world.lose_in_every_proof(PROOFS)
        (scratch / "kills").mkdir()
        update = world.cases[1]
        killed = kill(update, world.public_key, scratch / "kills", KILLS, Random(SEED))
        lies = {kind: lying(scratch / kind, kind) for kind in ("files", "folders")}
    if not all(lies.values()):
        raise SystemExit(f"a disk that lies about syncs must show, and does not: {lies}")
    counts = lost.broken + killed.broken
    report(
        "edge_powerloss",
        ours=broken(counts),
        reference=lost.points + killed.points,
        unit="points after which something was wrong",
        points=lost.points + killed.points,
        kills=killed.points,
        unverified=counts["unverified"],
        unserved=counts["unserved"],
        forgotten=counts["forgotten"],
        replayed=counts["replayed"],
        stuck=counts["stuck"],
        most_attempts=lost.most_attempts,
        attempts_allowed=MAX_ATTEMPTS,
        kills_that_left_the_new_one=killed.broken["served the new one"],
        steps_recorded=lost.steps,
        lying_disk=lies,
        seconds=round(time.perf_counter() - began, 1),
        reference_is="the number of points",
    )


if __name__ == "__main__":
    main()
