from __future__ import annotations

from typing import Any

import pytest
from workflow_world import World

from isthmus import documents
from isthmus.adapters.local.pipeline import MemoryPipeline, run_of
from isthmus.errors import NotRedrivable, Refused
from isthmus.model import layout
from isthmus.model.execution import Failure, Visit
from isthmus.model.plan import Plan, Refusal
from isthmus.workflows.show_pipeline import list_pipelines, not_redrivable, redrive_pipeline, show_pipeline

KEY, OTHER = "a" * 40, "b" * 40
REGISTER = Visit(state="RegisterDataset", type="Task", outcome="succeeded", entered_seconds=0, left_seconds=1)
FAILED = Visit(
    state="TrainOnRig",
    type="Task",
    outcome="failed",
    entered_seconds=2,
    left_seconds=9,
    attempts=1,
    failures=(Failure(at_seconds=9, error="TrainingFailed", cause="exit code 1"),),
)


def known(world: World, key: str, **values: object) -> None:
    world.records.update(layout.job_pk(key), layout.STATE, {"dataset": "digits", **values})


def test_the_list_is_newest_first_with_one_line_a_job(world: World) -> None:
    pipeline = MemoryPipeline()
    pipeline.script["1"] = [run_of(KEY, "FAILED", REGISTER, started_at=10.0)]
    pipeline.script["2"] = [run_of(f"{KEY}-1", "RUNNING", REGISTER, FAILED, started_at=20.0, redrives=2)]
    pipeline.script["3"] = [run_of(OTHER, "SUCCEEDED", REGISTER, started_at=15.0, ended_at=3600.0)]
    known(world, KEY, state="FAILED", model="digits")
    known(world, OTHER, state="DEPLOYED", model="fashion")
    world.records.next_number(layout.job_pk(KEY), "FENCING")
    first, second = list_pipelines(pipeline, world.records)
    assert (first.job_key, first.state, first.step, first.attempt, first.redrives) == (
        KEY,
        "RUNNING",
        "TrainOnRig",
        1,
        2,
    )
    assert first.since == "1970-01-01T00:00:20.000Z"
    assert (second.state, second.step, second.since) == ("DEPLOYED", "", "1970-01-01T01:00:00.000Z")
    assert [entry.model for entry in list_pipelines(pipeline, world.records, model="fashion")] == ["fashion"]
    assert [entry.job_key for entry in list_pipelines(pipeline, world.records, state="RUNNING")] == [KEY]
    assert [entry.job_key for entry in list_pipelines(pipeline, world.records, limit=1)] == [KEY]


class CountingPipeline(MemoryPipeline):
    """Counts the executions whose histories were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def state(self, arn: str) -> str:
        self.asked.append(arn.rsplit(":", 1)[1])
        return super().state(arn)


@pytest.mark.parametrize("wanted", [{"model": "fashion"}, {"state": "RUNNING"}, {"limit": 1}])
def test_only_what_is_listed_costs_a_look_at_its_history(world: World, wanted: dict[str, Any]) -> None:
    pipeline = CountingPipeline()
    pipeline.script["1"] = [run_of(KEY, "FAILED", REGISTER, FAILED, started_at=10.0)]
    pipeline.script["2"] = [run_of(OTHER, "RUNNING", REGISTER, started_at=20.0)]
    known(world, KEY, state="FAILED", model="digits")
    known(world, OTHER, state="RUNNING", model="fashion")
    (entry,) = list_pipelines(pipeline, world.records, **wanted)
    assert (entry.job_key, entry.step) == (OTHER, "RegisterDataset")
    assert pipeline.asked == [OTHER]


def test_everything_about_a_pipeline(world: World) -> None:
    pipeline, plan = (
        MemoryPipeline(),
        Plan(
            job_key=KEY,
            fencing=1,
            device="rig-1",
            zone="onprem-milan",
            queue_url="q",
            refusals=(Refusal(device="rig-2", reason="has no mxnet"),),
        ),
    )
    world.records.next_number(layout.job_pk(KEY), "FENCING")
    world.blobs.put(layout.plan_key(KEY, 1), documents.encode(plan))
    lease = {"fencing": 1, "outcome": {"metrics": {"loss": 0.25}}}
    world.records.update(layout.job_pk(KEY), layout.LEASE, lease)
    known(world, KEY, state="FAILED", model="digits", release=3)
    nested = Visit(state="DeployCloud", type="Task", entered_seconds=1, nested="arn:child")
    pipeline.script[KEY] = [run_of(KEY, "RUNNING", REGISTER, nested)]
    pipeline.others["arn:child"] = run_of("child", "RUNNING", REGISTER)
    shown = show_pipeline(KEY, pipeline, world.records, world.blobs)
    assert (shown.job.state, shown.job.step, shown.job.release) == ("RUNNING", "DeployCloud", 3)
    assert shown.plan == plan
    assert shown.metrics == {"loss": 0.25}
    assert shown.nested == {"arn:child": (REGISTER,)}
    assert shown.link.startswith("https://eu-west-1.console.aws.amazon.com/states/")
    assert "runs, at DeployCloud" in shown.not_redrivable


@pytest.mark.parametrize(("fencing", "seen"), [(1, {"loss": 0.5}), (2, {})], ids=["of it", "of another"])
def test_while_the_newest_attempt_runs_its_rig_s_news_are_shown(
    world: World, fencing: int, seen: dict[str, float]
) -> None:
    pipeline = MemoryPipeline()
    pipeline.script[KEY] = [run_of(KEY, "RUNNING", REGISTER)]
    world.records.next_number(layout.job_pk(KEY), "FENCING")
    world.records.update(layout.job_pk(KEY), layout.LEASE, {"fencing": 1, "outcome": None})
    news = {"fencing": fencing, "metrics": {"loss": 0.5}, "at": "2026-11-22T12:00:00.000Z"}
    world.records.update(layout.job_pk(KEY), layout.PROGRESS, news)
    found = show_pipeline(KEY, pipeline, world.records, world.blobs)
    assert (found.metrics, bool(found.told_at)) == (seen, bool(seen))


def test_a_pipeline_that_has_not_begun_waits(world: World) -> None:
    shown = show_pipeline(KEY, MemoryPipeline(), world.records, world.blobs)
    assert (shown.job.state, shown.visits, shown.plan) == ("WAITING", (), None)


def test_a_plan_that_was_numbered_but_never_written_is_not_there(world: World) -> None:
    pipeline = MemoryPipeline()
    pipeline.script[KEY] = [run_of(KEY, "FAILED", REGISTER)]
    world.records.next_number(layout.job_pk(KEY), "FENCING")
    assert show_pipeline(KEY, pipeline, world.records, world.blobs).plan is None


def test_a_redrive_says_where_it_goes_on(world: World) -> None:
    pipeline = MemoryPipeline()
    pipeline.script[KEY] = [run_of(KEY, "FAILED", REGISTER, FAILED)]
    assert redrive_pipeline(KEY, pipeline) == "TrainOnRig"
    assert pipeline.redriven == [KEY]
    with pytest.raises(Refused, match=f"there is no job {OTHER}"):
        redrive_pipeline(OTHER, pipeline)


END_OF_OLD = Visit(state="Failed", type="Fail", outcome="failed", entered_seconds=9, left_seconds=9)


@pytest.mark.parametrize(
    ("status", "visits", "reason", "said"),
    [
        ("RUNNING", (REGISTER,), "", f"job {KEY} runs, at RegisterDataset"),
        ("SUCCEEDED", (REGISTER,), "", "isthmus job retry"),
        ("FAILED", (FAILED,), "Execution redrivable period exceeded", "period exceeded.*isthmus job retry"),
        ("FAILED", (END_OF_OLD,), "", "its state Failed, which would fail again: .*isthmus job retry"),
        ("ABORTED", (), "", ""),
    ],
    ids=["running", "succeeded", "too old", "an earlier version's end", "stopped before its first state"],
)
def test_what_cannot_be_redriven_is_refused_with_what_to_do(
    status: str, visits: tuple[Visit, ...], reason: str, said: str
) -> None:
    pipeline = MemoryPipeline()
    run = run_of(KEY, status, *visits, not_redrivable=reason)
    pipeline.script[KEY] = [run]
    if not said:
        assert not_redrivable(KEY, run) == ""
        return
    with pytest.raises(NotRedrivable, match=said):
        redrive_pipeline(KEY, pipeline)
    assert pipeline.redriven == []
