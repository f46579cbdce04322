from __future__ import annotations

import pytest
from workflow_world import World

from isthmus.adapters.local.pipeline import MemoryPipeline, run_of
from isthmus.adapters.local.queue import ManualClock
from isthmus.adapters.local.registry import MemoryRegistry
from isthmus.errors import Unavailable
from isthmus.model import layout
from isthmus.model.execution import Visit
from isthmus.planning.cost import Usage, cost_of, price_list
from isthmus.workflows.follow_job import POLL_SECONDS, follow, status, until_ended
from isthmus.workflows.register_model import register_model

KEY = "a" * 40
ENDED = {
    "state": "DEPLOYED",
    "model": "digits",
    "release": 2,
    "error": "",
    "cause": "",
    "evaluation": {"candidate": 0.98, "champion": None, "reason": "first"},
}


def stays(*states: tuple[str, float]) -> tuple[Visit, ...]:
    return tuple(Visit(state=state, type="Task", entered_seconds=at) for state, at in states)


def test_each_step_is_told_once_and_the_record_decides_the_end(world: World) -> None:
    pipeline, clock = MemoryPipeline(), ManualClock(0)
    steps = [("RegisterDataset", 0.1), ("PlanTraining", 2.0), ("Deployed", 9.0)]
    moves = Visit(state="Begin", type="Pass", outcome="succeeded", entered_seconds=0, left_seconds=0)
    pipeline.script[KEY] = [
        None,
        run_of(KEY, "RUNNING", moves, *stays(*steps[:1])),
        run_of(KEY, "RUNNING", moves, *stays(*steps[:2])),
        run_of(KEY, "RUNNING", moves, *stays(*steps[:2])),
        run_of(KEY, "SUCCEEDED", moves, *stays(*steps)),
    ]
    world.records.update(layout.job_pk(KEY), layout.STATE, ENDED)
    told: list[tuple[str, float]] = []
    ended = follow(KEY, pipeline, world.records, clock, lambda step, at: told.append((step, at)))
    assert told == steps
    assert (ended.state, ended.release, ended.candidate, ended.step) == ("DEPLOYED", 2, 0.98, "")
    assert clock.now() == 4 * POLL_SECONDS


class Looks:
    """What each look sees; an error is raised."""

    def __init__(self, *seen: str | Exception) -> None:
        self.seen = list(seen)

    def __call__(self) -> str:
        found = self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]
        if isinstance(found, Exception):
            raise found
        return found


TROUBLE = Unavailable("Step Functions could not be reached")


def test_trouble_that_passes_does_not_end_the_looking() -> None:
    clock, looks = ManualClock(0), Looks("RUNNING", TROUBLE, TROUBLE, "RUNNING", TROUBLE, "FAILED")
    assert until_ended(looks, str, clock) == "FAILED"
    assert clock.now() == 5 * POLL_SECONDS


def test_trouble_that_does_not_pass_ends_it_after_five_minutes() -> None:
    clock, looks = ManualClock(0), Looks("RUNNING", TROUBLE)
    with pytest.raises(Unavailable):
        until_ended(looks, str, clock)
    assert clock.now() == pytest.approx(300, abs=POLL_SECONDS)


def test_a_first_look_that_fails_is_told_at_once() -> None:
    clock = ManualClock(0)
    with pytest.raises(Unavailable):
        until_ended(Looks(TROUBLE), str, clock)
    assert clock.now() == 0


@pytest.mark.parametrize(
    ("execution", "recorded", "shown"),
    [
        ("", "", "WAITING"),
        ("RUNNING", "FAILED", "RUNNING"),
        ("SUCCEEDED", "REJECTED", "REJECTED"),
        ("FAILED", "FAILED", "FAILED"),
        ("FAILED", "RUNNING", "FAILED"),
        ("FAILED", "", "FAILED"),
        ("TIMED_OUT", "", "FAILED"),
        ("ABORTED", "REGISTERED", "ABORTED"),
    ],
)
def test_states(world: World, execution: str, recorded: str, shown: str) -> None:
    pipeline = MemoryPipeline()
    if execution:
        pipeline.script[KEY] = [run_of(KEY, execution, *stays(("RegisterDataset", 0.0)))]
    if recorded:
        item = {"state": recorded, "error": "MissingFile", "cause": "x"}
        world.records.update(layout.job_pk(KEY), layout.STATE, item)
    found = status(KEY, pipeline, world.records)
    assert found.state == shown
    on_record = recorded == shown and execution == "FAILED"
    assert bool(found.error) == on_record, "an old error is not shown while it runs again"


def test_the_execution_knows_why_it_failed_before_the_record_does(world: World) -> None:
    pipeline = MemoryPipeline()
    known = {"error": "States.Timeout", "cause": "", "redrives": 2}
    pipeline.script[KEY] = [run_of(KEY, "FAILED", *stays(("WaitForRig", 1.0)), **known)]
    stale = {"state": "FAILED", "error": "MissingFile", "cause": "of an earlier end"}
    world.records.update(layout.job_pk(KEY), layout.STATE, stale)
    found = status(KEY, pipeline, world.records)
    assert (found.error, found.redrives) == ("States.Timeout", 2)
    assert "is the rig's agent running?" in found.cause


def test_a_release_is_registered_once_with_its_lineage(world: World) -> None:
    registry = MemoryRegistry()
    evaluation = {"evaluation": {"candidate": 0.98123456}}
    world.records.update(layout.job_pk(KEY), layout.STATE, evaluation)
    for _ in range(2):
        package = register_model(
            "digits", "b", 2, KEY, bucket="data", records=world.records, registry=registry
        )
    (source, metadata) = registry.packages["digits", 2]
    assert source == "s3://data/bundles/digits/b/bundle.zip"
    assert metadata == {
        "model": "digits",
        "release": "2",
        "bundle": "b",
        "job_key": KEY,
        "accuracy": "0.981235",
    }
    release = world.records.get(layout.model_pk("digits"), layout.release_sk(2))
    assert release is not None
    assert release["package"] == package


def test_cost_is_usage_times_list_prices() -> None:
    price = {name: entry.usd for name, entry in price_list().prices.items()}
    cost = cost_of(
        Usage(
            state_transitions=100,
            lambda_requests=10,
            lambda_gb_seconds=50,
            rig_seconds=1800,
            rig_price_per_hour_usd=2,
        )
    )
    assert cost.step_functions_usd == pytest.approx(100 * 0.000025)
    expected = 50 * price["lambda_gb_second"] + 10 * price["lambda_request"] + price["kms_signature"]
    assert cost.lambda_usd == pytest.approx(expected)
    assert cost.rig_usd == 1.0
    assert cost.total_usd == pytest.approx(cost.step_functions_usd + cost.lambda_usd + cost.rig_usd)
    assert cost.idle_per_month_usd == pytest.approx(2.9), "two keys and nine alarms"
    assert cost.prices.endswith(price_list().as_of)


def test_every_price_says_where_it_stands() -> None:
    assert all(entry.source.startswith("https://aws.amazon.com/") for entry in price_list().prices.values())
    assert all(entry.usd > 0 for entry in price_list().prices.values())
