from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from workflow_world import NOW, World

from isthmus.adapters.local.events import MemoryEvents
from isthmus.errors import Unavailable
from isthmus.model import layout
from isthmus.model.execution import Ending
from isthmus.workflows.explain_failure import MAX_CAUSE_CHARACTERS, explain
from isthmus.workflows.record_outcome import Outcome, from_state, from_status_change, record_outcome

KEY = "a" * 40
LAMBDA = json.dumps(
    {"errorMessage": "test/x.npy is not in the bucket", "errorType": "MissingFile", "stackTrace": ["…"]}
)
RIG = json.dumps({"state": "FAILED", "exit_code": 1, "cause": "exit code 1\nKeyError: 'label'"})

REFUSED = (
    "User: arn:aws:sts::1:assumed-role/stack-Machine/x is not authorized to perform: lambda:InvokeFunction on "
    "resource: arn:f because no identity-based policy allows the lambda:InvokeFunction action (Service: "
    "AWSLambda; Status Code: 403; Error Code: AccessDeniedException; Request ID: 1; Proxy: null)"
)


def nested(error: str, cause: str) -> str:
    return json.dumps({"ExecutionArn": "arn", "Status": "FAILED", "Error": error, "Cause": cause})


@pytest.mark.parametrize(
    ("failure", "error", "cause"),
    [
        ({"Error": "MissingFile", "Cause": LAMBDA}, "MissingFile", "test/x.npy is not in the bucket"),
        (
            {"Error": "States.TaskFailed", "Cause": nested("MissingFile", LAMBDA)},
            "MissingFile",
            "test/x.npy is not in the bucket",
        ),
        (
            {
                "Error": "States.TaskFailed",
                "Cause": nested("States.TaskFailed", nested("ProofFailed", "differs")),
            },
            "ProofFailed",
            "differs",
        ),
        (
            {"Error": "TrainingFailed", "Cause": RIG, "At": "TrainOnRig"},
            "TrainingFailed",
            "the training script ended with exit code 1\nKeyError: 'label'",
        ),
        (
            {
                "Error": "AttemptLost",
                "Cause": json.dumps({"exit_code": None, "cause": "EnvironmentProblem: no disk"}),
            },
            "AttemptLost",
            "EnvironmentProblem: no disk",
        ),
        (
            {"Error": "States.Timeout", "Cause": "", "At": "TrainOnRig"},
            "States.Timeout",
            "the training did not end within its deadline",
        ),
        (
            {"Error": "Lambda.AWSLambdaException", "Cause": REFUSED},
            "PermissionMissing",
            "the role stack-Machine may not lambda:InvokeFunction on arn:f: add lambda:InvokeFunction to its "
            "policy in template.yaml and run `sam deploy`",
        ),
        ({"Error": "Boom", "Cause": "plain text"}, "Boom", "plain text"),
        ({"Error": "Boom", "Cause": "[1, 2]"}, "Boom", "[1, 2]"),
        ({}, "", ""),
    ],
    ids=[
        "lambda",
        "nested",
        "nested twice",
        "script",
        "lost",
        "deadline",
        "permission",
        "plain",
        "not a mapping",
        "none",
    ],
)
def test_a_failure_is_explained_out_of_its_wrapping(failure: dict[str, Any], error: str, cause: str) -> None:
    assert explain(failure) == (error, cause)


@pytest.mark.parametrize(
    ("at", "error", "said"),
    [
        ("WaitForRig", "States.Timeout", "is the rig's agent running?"),
        ("TrainOnRig", "States.HeartbeatTimeout", "fell silent"),
    ],
)
def test_timeouts_say_what_they_mean(at: str, error: str, said: str) -> None:
    assert said in explain({"Error": error, "Cause": "", "At": at})[1]


def test_a_long_cause_keeps_its_end_and_its_heading() -> None:
    tail = "x" * 20_000 + "ValueError: the last line"
    cause = json.dumps({"exit_code": 2, "cause": f"exit code 2\n{tail}"})
    said = explain({"Error": "TrainingFailed", "Cause": cause})[1]
    assert said.startswith("the training script ended with exit code 2\n")
    assert said.endswith("ValueError: the last line")
    assert len(said) < MAX_CAUSE_CHARACTERS + 100


BEGAN = datetime.datetime(2026, 1, 2, 3, 4, 5, 678_000, datetime.UTC)


def began(name: str) -> datetime.datetime:
    """Each retry begins an hour after what it replaces."""
    return BEGAN + datetime.timedelta(hours=int(name[41:] or 0))


class Job:
    """A job's record and its bus, told of states' calls and of events."""

    def __init__(self, world: World) -> None:
        self.world, self.events = world, MemoryEvents()

    def state(
        self, state: str, *, name: str = KEY, redrives: int = 0, start: datetime.datetime | None = None
    ) -> Outcome:
        """A state of the machine says how it ended."""
        began_at = (start or began(name)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = {"job_key": KEY, "state": state, "execution": name, "redrives": redrives}
        return self._record(from_state({**event, "started_at": began_at}))

    def startless_state(self, state: str, *, name: str = KEY, redrives: int = 0) -> Outcome:
        """A state of a machine that was started before ends were ordered by their executions' starts."""
        event = {"job_key": KEY, "state": state, "execution": name, "redrives": redrives}
        return self._record(from_state(event))

    def old_state(self, state: str, **failure: str) -> Outcome:
        """A state of a machine that was started before ends had an order."""
        event = {"job_key": KEY, "state": state, **({"failure": failure} if failure else {})}
        return self._record(from_state(event))

    def event(
        self,
        status: str,
        error: str = "Boom",
        cause: str = "",
        *,
        name: str = KEY,
        redrives: int = 0,
        at: str = "",
        start: datetime.datetime | None = None,
    ) -> Outcome:
        """EventBridge says that an execution's status changed."""
        start_ms = round((start or began(name)).timestamp() * 1000)
        detail: dict[str, Any] = {
            "name": name,
            "status": status,
            "redriveCount": redrives,
            "startDate": start_ms,
        }
        if status != "RUNNING":
            detail |= {"error": error, "cause": cause}
        return self._record(from_status_change(detail, Ending(state=at)))

    def _record(self, change: Any) -> Outcome:
        return record_outcome(change, records=self.world.records, events=self.events, now=NOW)

    @property
    def item(self) -> dict[str, Any]:
        return dict(self.world.state(KEY))

    @property
    def told(self) -> list[str]:
        return [kind.removeprefix("isthmus job ") for kind, _ in self.events.published]


@pytest.fixture
def job(world: World) -> Job:
    return Job(world)


def test_the_outcome_is_recorded_and_published_with_both_scores(job: Job) -> None:
    scores = {"candidate": 0.9, "champion": 0.95, "accepted": False, "reason": "worse"}
    facts = {"model": "digits", "dataset": "digits", "evaluation": scores, "started_at": NOW}
    job.world.records.update(layout.job_pk(KEY), layout.STATE, facts)
    outcome = job.state("REJECTED")
    assert (outcome.state, outcome.error, outcome.recorded) == ("REJECTED", "", True)
    assert (job.item["state"], job.item["ended_at"]) == ("REJECTED", NOW)
    (kind, detail) = job.events.published[0]
    assert kind == "isthmus job rejected"
    assert detail["evaluation"] == scores
    assert detail["job_key"] == KEY


def test_who_refused_a_model_is_told_with_its_end(job: Job) -> None:
    approval = {"state": "REJECTED", "by": "arn:ada", "reason": "too dear"}
    job.world.records.update(layout.job_pk(KEY), layout.STATE, {"model": "digits", "approval": approval})
    outcome = job.state("REJECTED")
    assert (outcome.state, outcome.error) == ("REJECTED", ""), "it is no failure"
    assert job.events.published[0][1]["approval"] == approval


def test_a_failure_before_registering_is_recorded_too(job: Job) -> None:
    job.event("FAILED", "InvalidManifest", LAMBDA, at="RegisterDataset")
    assert (job.item["error"], job.item["at"]) == ("InvalidManifest", "RegisterDataset")
    assert job.item["cause"] == "test/x.npy is not in the bucket"
    assert job.told == ["failed"]


def test_the_state_that_the_history_names_explains_a_silent_timeout(job: Job) -> None:
    job.event("FAILED", "States.Timeout", at="WaitForRig")
    assert "is the rig's agent running?" in job.item["cause"]


def test_what_the_event_leaves_out_comes_from_the_history() -> None:
    ending = Ending(state="TrainOnRig", error="TrainingFailed", cause=RIG)
    detail = {"name": KEY, "status": "FAILED", "error": None, "cause": None, "startDate": 1000}
    change = from_status_change(detail, ending)
    assert change.failure == {"Error": "TrainingFailed", "Cause": RIG, "At": "TrainOnRig"}


def test_a_stopped_execution_is_an_end_of_its_own() -> None:
    detail = {"name": KEY + "-1", "status": "ABORTED", "startDate": 1000}
    change = from_status_change(detail, Ending(state="TrainOnRig", cause="the data was wrong"))
    assert (change.job_key, change.state) == (KEY, "ABORTED")
    assert change.failure["Error"] == "Execution.ABORTED"
    assert change.failure["Cause"] == "the data was wrong"
    late = {"name": "b" * 40, "status": "TIMED_OUT", "startDate": 1000}
    timed_out = from_status_change(late, Ending(state=""))
    assert (timed_out.state, timed_out.failure["Cause"]) == ("FAILED", "the execution timed out")
    wordless = from_status_change(detail, Ending(state=""))
    assert wordless.failure["Cause"] == "the execution was stopped"


def test_a_redriven_job_runs_again_and_its_next_end_counts(job: Job) -> None:
    job.event("FAILED", "Boom", "first")
    job.event("RUNNING", redrives=1)
    assert (job.item["state"], job.item["error"], job.item["ended_at"]) == ("RUNNING", "", None)
    job.event("FAILED", "Bang", "second", redrives=1)
    assert (job.item["state"], job.item["error"]) == ("FAILED", "Bang")
    job.state("DEPLOYED", redrives=2)
    assert (job.item["state"], job.item["error"], job.item["cause"]) == ("DEPLOYED", "", "")
    assert job.told == ["failed", "failed", "deployed"]


def test_events_in_any_order_leave_the_newest(job: Job) -> None:
    job.state("DEPLOYED", redrives=2)
    for late in (
        job.event("FAILED", "Boom"),
        job.event("RUNNING", redrives=1),
        job.event("ABORTED", redrives=1),
        job.event("RUNNING", redrives=2),
    ):
        assert (late.state, late.recorded) == ("DEPLOYED", False)
    assert job.item["state"] == "DEPLOYED"
    assert job.told == ["deployed"]


def test_a_retry_comes_after_every_redrive_of_what_it_replaced(job: Job) -> None:
    job.event("FAILED", "Boom", redrives=7)
    job.event("FAILED", "Bang", name=f"{KEY}-1")
    job.event("FAILED", "Boom", redrives=8)
    assert job.item["error"] == "Bang"
    job.event("ABORTED", name=f"{KEY}-12")
    job.event("FAILED", "Bang", name=f"{KEY}-2")
    assert job.item["state"] == "ABORTED"


LATER = BEGAN + datetime.timedelta(days=91)


def test_an_execution_that_reuses_a_name_after_90_days_is_on_record_too(job: Job) -> None:
    job.event("FAILED", "Boom")
    assert job.event("ABORTED", start=LATER).recorded
    assert job.item["state"] == "ABORTED"
    job.event("FAILED", "Boom", name=f"{KEY}-3")
    assert job.item["state"] == "ABORTED", "an old retry's late event is older than the name's new holder"
    assert job.state("DEPLOYED", start=LATER, redrives=1).recorded
    assert job.told == ["failed", "aborted", "deployed"]


def test_a_state_and_the_event_of_one_execution_have_one_start(job: Job) -> None:
    """Their milliseconds may differ: of one, the end that came first stays."""
    job.event("RUNNING", redrives=1, start=BEGAN + datetime.timedelta(milliseconds=1))
    assert job.state("DEPLOYED", redrives=1, start=BEGAN).recorded
    job.event("RUNNING", redrives=1, start=BEGAN + datetime.timedelta(milliseconds=1))
    assert job.item["state"] == "DEPLOYED"


def test_an_execution_named_by_hand_is_recorded(job: Job) -> None:
    job.startless_state("REJECTED", name=f"{KEY}-by-hand")
    assert job.item["state"] == "REJECTED"


@pytest.mark.parametrize(("stored", "name"), [(1, f"{KEY}-1"), (1, KEY), (2 * 20_000 + 1, f"{KEY}-2")])
def test_orders_of_the_earlier_version_are_below_every_new_one(job: Job, stored: int, name: str) -> None:
    old = {"state": "FAILED", "order": stored, "told": stored}
    job.world.records.update(layout.job_pk(KEY), layout.STATE, old)
    job.event("RUNNING", redrives=1, name=name)
    assert job.item["state"] == "RUNNING"
    assert job.startless_state("DEPLOYED", redrives=1, name=name).recorded, "its machine is the old one"
    job.event("RUNNING", redrives=1, name=name)
    assert job.item["state"] == "DEPLOYED"


def test_a_retry_of_the_earlier_version_comes_after_what_it_replaced(job: Job) -> None:
    old = {"state": "FAILED", "order": 1, "told": 1}
    job.world.records.update(layout.job_pk(KEY), layout.STATE, old)
    assert job.startless_state("DEPLOYED", name=f"{KEY}-1").recorded
    assert job.item["state"] == "DEPLOYED"


def test_an_event_that_comes_twice_is_told_once(job: Job) -> None:
    first, second = job.event("FAILED", "Boom"), job.event("FAILED", "Boom")
    assert (first.recorded, second.recorded) == (True, False)
    assert job.told == ["failed"]


class SilentBus(MemoryEvents):
    """Fails at the first event."""

    def publish(self, kind: str, detail: Any) -> None:
        if not self.published:
            self.published.append(("lost", {}))
            raise Unavailable("the bus did not answer")
        super().publish(kind, detail)


def test_an_end_that_was_written_but_not_told_is_told_at_the_next_call(job: Job) -> None:
    job.events = SilentBus()
    with pytest.raises(Unavailable):
        job.event("FAILED", "Boom")
    assert job.item["state"] == "FAILED"
    assert job.event("FAILED", "Boom").recorded
    assert job.told == ["lost", "failed"]


def test_an_execution_that_began_under_the_earlier_version_is_told_once(job: Job) -> None:
    """Its state RecordFailure explains and records; its Fail state then carries the explained words."""
    job.world.records.update(layout.job_pk(KEY), layout.STATE, {"state": "REGISTERED", "model": "digits"})
    said = job.old_state("FAILED", Error="States.Timeout", Cause="", At="TrainOnRig")
    assert (said.error, said.cause) == ("States.Timeout", "the training did not end within its deadline")
    again = job.event("FAILED", said.error, said.cause, at="Failed")
    assert not again.recorded
    assert (job.item["error"], job.item["cause"]) == (said.error, said.cause)
    assert job.told == ["failed"]
    job.event("RUNNING", redrives=1)
    assert job.item["state"] == "RUNNING"


def test_a_failure_after_one_of_the_earlier_version_is_news(job: Job) -> None:
    job.old_state("FAILED", Error="Boom", Cause="then")
    assert job.event("FAILED", "Bang", "now", name=f"{KEY}-1").recorded
    assert job.item["error"] == "Bang"
    assert job.told == ["failed", "failed"]


def test_a_deployment_of_the_earlier_version_is_recorded(job: Job) -> None:
    assert job.old_state("DEPLOYED").state == "DEPLOYED"
    assert job.item["state"] == "DEPLOYED"
