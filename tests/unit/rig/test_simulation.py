"""The bridge's real code under a seeded scheduler (docs/adr/0029): no seed may violate anything, and faults are found.

A failing seed replays: `python -m benchmarks.rig_simulation --seed N` prints its trace.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.simulation.queueing import VISIBILITY_SECONDS
from benchmarks.simulation.world import simulate
from isthmus.adapters.aws import bridge
from isthmus.errors import Conflict
from isthmus.model import layout
from isthmus.model.messages import Outcome, Work
from isthmus.ports import Item, Message
from isthmus.rig.agent import Agent
from isthmus.rig.intake import Intake
from isthmus.rig.services import Services
from isthmus.rig.spool import Entry, Spool

SEEDS = 2_000
CHUNK = 200
FEW = 20
ENOUGH = 400
"""Worlds in which a fault of the agent has to show."""


def violations(seeds: range, make_agent: Callable[..., Agent] = Agent) -> list[str]:
    """Return what the first seed that violates something violates."""
    for seed in seeds:
        if found := simulate(seed, make_agent=make_agent).violations:
            return [f"seed {seed}: {violation}" for violation in found]
    return []


def test_a_few_worlds_end_well() -> None:
    assert violations(range(FEW)) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, SEEDS, CHUNK))
def test_worlds_end_well(first: int) -> None:
    assert violations(range(first, min(first + CHUNK, SEEDS))) == []


def test_a_seed_replays() -> None:
    def trace() -> list[str]:
        found = simulate(7, trace=True)
        # Run ids and folders differ, and decide nothing.
        return [re.sub(r"/\S+|[0-9a-f]{32}", "…", line) for line in found.trace]

    first = trace()
    assert len(first) > 50
    assert first == trace()


def test_the_model_of_the_queue_is_as_forgetful_as_the_queue() -> None:
    assert VISIBILITY_SECONDS == bridge.VISIBILITY_SECONDS


class CarelessRecords:
    """Writes leases whatever they say."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def get(self, pk: str, sk: str) -> Any:
        found = self._records.get(pk, sk)
        if sk == layout.LEASE and found:
            # Whoever asks is told that it is the holder still: what a cached lease would say.
            return {**found, **self._own} if self._own else found
        return found

    _own: Mapping[str, Any] = {}

    def create(self, item: Item) -> bool:
        if item["sk"] == layout.LEASE:
            return False
        created: bool = self._records.create(item)
        return created

    def update(self, pk: str, sk: str, values: Mapping[str, Any], **conditions: Any) -> None:
        if sk == layout.LEASE:
            if "fencing" in values:
                self._own = {"fencing": values["fencing"], "rig": values["rig"], "agent": values["agent"]}
            conditions = {}
        self._records.update(pk, sk, values, **conditions)


class ForgetfulIntake(Intake):
    """Deletes a message before it is listed."""

    def _take(self, message: Message) -> bool:
        self._queue.delete(message.receipt)
        return super()._take(message)


class ForgetfulSpool(Spool):
    """Remembers that an attempt began, and not how it ended."""

    def end(self, entry: Entry, outcome: Outcome) -> Entry:
        return entry


class BoldReporter:
    """Answers whichever token is the lease's now, with the word of whoever calls."""

    def __init__(self, reporter: Any, services: Services) -> None:
        self._reporter, self._services = reporter, services

    def finished(self, job_key: str, fencing: int) -> None:
        item = self._services.records.get(layout.job_pk(job_key), layout.LEASE) or {}
        with contextlib.suppress(Conflict):
            token = item.get("token", "")
            self._services.tasks.succeed(token, {"output": "", "fencing": fencing, "seconds": 0.0})


class Hasty(Agent):
    """Takes the lease, and runs the attempt whoever answers the wait."""

    def _answer(self, work: Work) -> bool:
        super()._answer(work)
        return True


def careless(settings: Any, services: Services, *more: Any) -> Agent:
    return Agent(settings, replace(services, records=CarelessRecords(services.records)), *more)


def forgetful_intake(settings: Any, services: Services, *more: Any) -> Agent:
    agent = Agent(settings, services, *more)
    agent._intake = ForgetfulIntake(services.queue, agent._waiting, agent._report, services.threads)
    return agent


def forgetful_spool(settings: Any, services: Services, *more: Any) -> Agent:
    agent = Agent(settings, services, *more)
    agent._spool = ForgetfulSpool(settings.folder)
    return agent


def bold(settings: Any, services: Services, *more: Any) -> Agent:
    return Agent(settings, replace(services, reporter=BoldReporter(services.reporter, services)), *more)


@pytest.mark.slow
@pytest.mark.parametrize("make_agent", [careless, forgetful_intake, forgetful_spool, bold, Hasty])
def test_a_fault_of_the_agent_is_found(make_agent: Callable[..., Agent]) -> None:
    assert violations(range(ENOUGH), make_agent)
