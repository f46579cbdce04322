"""Workers of a training in slices under a seeded scheduler (docs/adr/0047): no seed may violate anything, and faults
are found.

A failing seed replays: `python -m benchmarks.slice_simulation --seed N` prints its trace.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import pytest

from benchmarks.slicing.parts import Parts, Watched
from benchmarks.slicing.simulated import EVERY, simulate
from isthmus.planning.slicing.passes import Pass
from isthmus.transport.session import Incoming
from isthmus.workflows.slice_checkpoints import SliceCheckpoints
from isthmus.workflows.slice_crew import Crew
from isthmus.workflows.train_slices import SliceTrainer

SEEDS = 1_000
CHUNK = 140
FEW = 20
ENOUGH = 400
"""Worlds in which a fault of the workers has to show."""


def violations(seeds: range, parts: Parts | None = None) -> list[str]:
    """Return what the first seed that violates something violates."""
    for seed in seeds:
        if found := simulate(seed, parts=parts).violations:
            return [f"seed {seed}: {violation}" for violation in found]
    return []


def test_a_few_worlds_end_with_the_undisturbed_arrays() -> None:
    assert violations(range(FEW)) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, SEEDS, CHUNK))
def test_worlds_end_with_the_undisturbed_arrays(first: int) -> None:
    assert violations(range(first, first + CHUNK)) == []


def test_the_worlds_are_not_calm() -> None:
    found = [simulate(seed) for seed in range(FEW)]
    assert sum(each.kills for each in found) > FEW // 2
    assert sum(each.breaks for each in found) > FEW


def test_a_seed_replays() -> None:
    def trace() -> list[str]:
        # Folders differ, and decide nothing.
        return [re.sub(r"/\S+", "…", line) for line in simulate(7, trace=True).trace]

    first = trace()
    assert len(first) > 20
    assert first == trace()


class Early(SliceTrainer):
    """The first worker commits before all have reported."""

    def _keep(self, crew: Crew) -> None:
        if crew.parent is None:
            mine = {
                str(k): self.checkpoints.write(k, self._done, self._state(each))
                for k, each in self.slices.items()
            }
            self.checkpoints.commit(self._done, mine)
        super()._keep(crew)


class Late(Watched):
    """A file is reported before it is on the disk."""

    _waiting: tuple[int, int, Mapping[str, Any]] | None = None

    def write(self, number: int, step: int, state: Mapping[str, Any]) -> str:
        scratch = SliceCheckpoints(self._folder / "scratch", self._fingerprint)
        self._waiting = number, step, state
        return scratch.write(number, step, state)

    def forget(self, number: int, before: int) -> None:
        if self._waiting is not None:
            super().write(*self._waiting)
        super().forget(number, before)


class Newest(SliceTrainer):
    """Goes on from the newest file that a slice has, not from the committed one."""

    def _load(self, step: int, files: Mapping[str, str]) -> None:
        newer = self.checkpoints.path(min(self.slices), step + EVERY)
        if newer.is_file():
            step += EVERY
            files = {
                str(k): hashlib.sha256(path.read_bytes()).hexdigest()
                for k in self.slices
                if (path := self.checkpoints.path(k, step)).is_file()
            }
        super()._load(step, files)


class Forgetful(Watched):
    """Removes the older file as soon as the newer one is written."""

    def write(self, number: int, step: int, state: Mapping[str, Any]) -> str:
        found = super().write(number, step, state)
        self.forget(number, step)
        return found


class Credulous(Incoming):
    """Takes whatever number a message has."""

    def is_new(self, sequence: int) -> bool:
        self.received = max(self.received, sequence + 1)
        return True


class Blind(SliceTrainer):
    """Takes what comes for what is due. Numbers alone keep it right: each message comes once and in order."""

    def _receive(self, crew: Crew, kind: str, source: int, entry: Pass) -> dict[str, Any]:
        other = self.course.places[source]

        def came() -> list[Any]:
            return [key for key in crew._crossings if key[:3] == (kind, source, entry.stage)]

        if other != self.worker:
            crew._wait(other, lambda: bool(came()))
        return crew._crossings.pop(came()[0])


class Hasty(SliceTrainer):
    """Leaves when its own steps are done, whoever has not heard of the last commit."""

    def _part(self, crew: Crew) -> None:
        crew.finish()


FAULTY = {
    "early": Parts(trainer=Early),
    "late": Parts(checkpoints=Late),
    "newest": Parts(trainer=Newest),
    "forgetful": Parts(checkpoints=Forgetful),
    "credulous": Parts(trainer=Blind, incoming=Credulous),
    "hasty": Parts(trainer=Hasty),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_of_the_workers_is_found(name: str) -> None:
    assert violations(range(ENOUGH), FAULTY[name])
