from __future__ import annotations

import datetime
import json
from typing import Any

import msgspec
import pytest
from workflow_world import World

from isthmus.adapters.local.pipeline import MemoryPipeline, run_of
from isthmus.adapters.local.queue import MemoryTasks
from isthmus.adapters.local.registry import MemoryRegistry
from isthmus.errors import Conflict, InvalidDocument, InvalidInput, Refused
from isthmus.model import layout
from isthmus.model.approval import Answer, Approval
from isthmus.model.execution import Visit
from isthmus.workflows.approve_model import Asked, answer_approval, ask_approval, record_approval
from isthmus.workflows.follow_job import status
from isthmus.workflows.register_model import register_model
from isthmus.workflows.show_pipeline import list_pipelines, show_pipeline

KEY, ADA, TOKEN = "a" * 40, "arn:aws:iam::123456789012:user/ada", "secret"
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
RUNS = run_of(KEY, "RUNNING", Visit(state="AskApproval", type="Task", entered_seconds=9))
PACKAGE = "package/digits/2"


def yes(**changes: str) -> Answer:
    return msgspec.convert(
        {"state": "APPROVED", "by": ADA, "at": "2026-01-03T00:00:00+00:00", **changes}, Answer
    )


class Stack:
    """A stack whose job waits for an answer."""

    def __init__(self, world: World) -> None:
        self.world, self.records = world, world.records
        self.registry, self.tasks, self.pipeline = MemoryRegistry(), MemoryTasks(), MemoryPipeline()
        scores = {"accepted": True, "candidate": 0.97, "champion": 0.95, "reason": "better"}
        self.records.update(layout.job_pk(KEY), layout.STATE, {"model": "digits", "evaluation": scores})
        self.pipeline.script[KEY] = [RUNS]
        register_model(
            "digits", "b", 2, KEY, bucket="d", records=self.records, registry=self.registry, approved=False
        )

    def ask(self, token: str = TOKEN, now: datetime.datetime = NOW) -> Approval:
        asked = Asked(model="digits", release=2, against=1, execution=RUNS.arn, seconds=86400)
        self.tasks.open(token)
        return ask_approval(KEY, asked, PACKAGE, token, records=self.records, registry=self.registry, now=now)

    def answer(self, answer: Answer) -> Approval:
        return answer_approval(KEY, answer, records=self.records, tasks=self.tasks)

    def record(self, answer: Any) -> Approval:
        return record_approval(KEY, PACKAGE, answer, records=self.records, registry=self.registry)

    def told(self, token: str = TOKEN) -> Any:
        kind, output = self.tasks.answers[token]
        assert kind == "succeeded", "a rejection is an answer and no failure"
        return output


@pytest.fixture
def stack(world: World) -> Stack:
    return Stack(world)


def test_what_waits_is_on_record_with_both_scores_and_since_when(stack: Stack) -> None:
    assert stack.registry.judged[PACKAGE][0] == "PendingManualApproval", "from the first moment on"
    asked = stack.ask()
    assert (asked.state, asked.candidate, asked.champion, asked.champion_release) == (
        "WAITING",
        0.97,
        0.95,
        1,
    )
    assert (asked.since, asked.until) == ("2026-01-02T03:04:05+00:00", "2026-01-03T03:04:05+00:00")
    question = stack.records.get(layout.APPROVALS, KEY)
    assert question is not None
    assert question["token"] == TOKEN
    assert question["expires_at"] > (NOW + datetime.timedelta(days=1)).timestamp()


def test_nobody_who_reads_a_job_sees_the_token(stack: Stack) -> None:
    stack.ask()
    shown = show_pipeline(KEY, stack.pipeline, stack.records, stack.world.blobs)
    seen = [shown, *list_pipelines(stack.pipeline, stack.records), status(KEY, stack.pipeline, stack.records)]
    assert TOKEN not in json.dumps(msgspec.to_builtins(seen))
    assert TOKEN not in json.dumps(stack.records.query(layout.job_pk(KEY)))


def test_a_list_and_a_look_say_that_it_waits(stack: Stack) -> None:
    stack.ask()
    (entry,) = list_pipelines(stack.pipeline, stack.records)
    assert (entry.state, entry.step, entry.waits_for) == ("RUNNING", "AskApproval", "approval")
    approval = status(KEY, stack.pipeline, stack.records).approval
    assert approval is not None
    assert approval.state == "WAITING"


@pytest.mark.parametrize(
    ("answer", "registered"),
    [
        (yes(), ("Approved", f"approved by {ADA} at 2026-01-03T00:00:00+00:00")),
        (
            yes(state="REJECTED", reason="too dear"),
            ("Rejected", f"rejected by {ADA} at 2026-01-03T00:00:00+00:00: too dear"),
        ),
    ],
    ids=["approved", "rejected"],
)
def test_an_answer_goes_through_the_machine_onto_the_record(
    stack: Stack, answer: Answer, registered: tuple[str, str]
) -> None:
    stack.ask()
    assert stack.answer(answer).state == answer.state
    assert stack.registry.judged[PACKAGE][0] == "PendingManualApproval", "the machine records it"
    for _ in range(2):  # the second is a retry's
        assert stack.record(stack.told()).state == answer.state
    assert stack.registry.judged[PACKAGE] == registered
    found = status(KEY, stack.pipeline, stack.records).approval
    assert found is not None
    assert (found.state, found.by, found.reason) == (answer.state, ADA, answer.reason)
    question = stack.records.get(layout.APPROVALS, KEY)
    assert question is not None
    assert question["token"] == "", "it is not kept for longer than it is of use"


def test_nobodys_answer_in_time_rejects_it(stack: Stack) -> None:
    stack.ask()
    stack.tasks.close(TOKEN)
    with pytest.raises(Refused, match=r"its time was up at 2026-01-03T03:04:05\+00:00"):
        stack.answer(yes())
    assert stack.record({"state": "EXPIRED", "at": "2026-01-03T03:04:05Z"}).state == "EXPIRED"
    assert stack.registry.judged[PACKAGE][0] == "Rejected"
    with pytest.raises(Refused, match="it was not approved: nobody answered"):
        stack.answer(yes())


def test_of_two_answers_the_first_counts(stack: Stack) -> None:
    stack.ask()
    stack.answer(yes())
    with pytest.raises(Refused, match="does not wait for approval any more: it was answered"):
        stack.answer(yes(state="REJECTED", reason="no"))
    stack.record(stack.told())
    with pytest.raises(Refused, match=f"it was approved by {ADA} at"):
        stack.answer(yes())


def test_what_does_not_wait_cannot_be_answered(stack: Stack) -> None:
    with pytest.raises(Refused, match=f"job {KEY} does not wait for approval; see where it is with"):
        stack.answer(yes())


def test_a_redrive_asks_again_and_the_earlier_token_answers_nothing(stack: Stack) -> None:
    stack.ask()
    stack.tasks.close(TOKEN)
    stack.ask("another", NOW + datetime.timedelta(days=3))
    stack.answer(yes())
    assert set(stack.tasks.answers) == {"another"}


def test_a_second_question_waits_in_the_registry_too(stack: Stack) -> None:
    """The champion changed while the approved model was on its way: the scores that were approved are not these."""
    stack.ask()
    stack.answer(yes())
    stack.record(stack.told())
    stack.ask("another")
    assert stack.registry.judged[PACKAGE][0] == "PendingManualApproval"


def test_what_another_execution_asked_is_not_told_of_this_one(stack: Stack) -> None:
    stack.ask()
    stack.pipeline.script[KEY] = [run_of(f"{KEY}-1", "RUNNING")]
    assert status(KEY, stack.pipeline, stack.records).approval is None


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_rejection_needs_a_reason(stack: Stack, reason: str) -> None:
    stack.ask()
    with pytest.raises(InvalidInput, match="a rejection needs a reason"):
        stack.answer(yes(state="REJECTED", reason=reason))
    assert TOKEN in stack.tasks.waiting


def test_the_registry_gets_one_line_of_any_answer(stack: Stack) -> None:
    stack.ask()
    stack.record(msgspec.to_builtins(yes(reason="first\nsecond\n", by="arn:" + "x" * 2000)))
    status, why = stack.registry.judged[PACKAGE]
    assert (status, len(why)) == ("Approved", 1024)
    stack.ask("another")
    stack.record(msgspec.to_builtins(yes(reason="first\nsecond\n")))
    assert stack.registry.judged[PACKAGE][1].endswith(": first second")


def test_a_reason_has_an_end(stack: Stack) -> None:
    stack.ask()
    with pytest.raises(InvalidInput, match="at most 500 characters; this one has 501"):
        stack.answer(yes(reason="x" * 501))
    assert TOKEN in stack.tasks.waiting


@pytest.mark.parametrize("answer", [None, {}, {"state": "FINE", "at": "now"}, "yes"])
def test_what_is_no_answer_lets_nothing_into_service(stack: Stack, answer: Any) -> None:
    stack.ask()
    with pytest.raises(InvalidDocument, match="the answer cannot be used"):
        stack.record(answer)


def test_an_answer_to_nothing_is_not_recorded(stack: Stack) -> None:
    with pytest.raises(Conflict, match="nobody was asked"):
        stack.record(msgspec.to_builtins(yes()))
