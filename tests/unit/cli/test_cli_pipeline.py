from __future__ import annotations

import io
import os
import pty
import shutil
import termios
from typing import Any

import msgspec
import pytest

from isthmus.cli.job import describe as describe_job
from isthmus.cli.main import main
from isthmus.cli.pipeline_text import Lines, Picture, describe, terminal_size
from isthmus.model.approval import Approval
from isthmus.model.execution import Failure, Visit
from isthmus.model.plan import Plan, Refusal
from isthmus.workflows.follow_job import JobStatus
from isthmus.workflows.show_pipeline import Shown

BEGIN = Visit(state="Begin", type="Pass", outcome="succeeded", entered_seconds=0, left_seconds=0)
REGISTER = Visit(
    state="RegisterDataset",
    type="Task",
    outcome="succeeded",
    entered_seconds=0.1,
    left_seconds=1.6,
    attempts=1,
)
TRAINS = Visit(state="TrainOnRig", type="Task", entered_seconds=2.0, attempts=1)
FAILED = Visit(
    state="TrainOnRig",
    type="Task",
    outcome="failed",
    entered_seconds=2.0,
    left_seconds=9.5,
    attempts=2,
    failures=(
        Failure(at_seconds=4.0, error="Unavailable", cause="the table did not answer"),
        Failure(at_seconds=9.5, error="TrainingFailed", cause="exit code 1\nKeyError: 'label'"),
    ),
)
AGAIN = Visit(state="TrainOnRig", type="Task", entered_seconds=30.0, attempts=1, redrive=1)
PLAN = Plan(
    job_key="k",
    fencing=2,
    device="rig-1",
    zone="onprem-milan",
    queue_url="q",
    refusals=(Refusal(device="rig-2", reason="has no mxnet"),),
)


def shown(*visits: Visit, state: str = "RUNNING", **more: Any) -> Shown:
    job = {
        name: more.pop(name) for name in ("error", "cause", "redrives", "candidate", "reason") if name in more
    }
    status = JobStatus(job_key="k", state=state, model="digits", **job)
    return Shown(job=status, dataset="numbers", visits=visits, **more)


def test_a_pipeline_in_full() -> None:
    text = describe(
        shown(
            BEGIN,
            REGISTER,
            FAILED,
            AGAIN,
            state="FAILED",
            error="TrainingFailed",
            cause="exit code 1",
            redrives=1,
            candidate=0.98,
            reason="first",
            plan=PLAN,
            metrics={"loss": 0.25},
            execution="arn:e",
            link="https://console",
        )
    )
    assert text.splitlines() == [
        "pipeline k: digits from numbers, FAILED, redriven once",
        "  ✓      0.1 s  RegisterDataset        1.5 s",
        "  ✗      2.0 s  TrainOnRig             7.5 s  2 attempts",
        "      4.0 s: Unavailable: the table did not answer",
        "      9.5 s: TrainingFailed: KeyError: 'label'",
        "  ↻ redrive 1",
        "  …     30.0 s  TrainOnRig                  ",
        "accuracy 0.9800, champion's none: first",
        "metrics: loss=0.25",
        "attempt 2 on rig-1 in onprem-milan",
        "  not on rig-2: has no mxnet",
        "TrainingFailed: exit code 1",
        "go on from there: isthmus pipeline redrive k",
        "execution arn:e",
        "https://console",
    ]


def test_a_plan_says_why_and_what_it_will_take_and_cost() -> None:
    plan = Plan(
        job_key="k",
        fencing=1,
        device="sagemaker-ml-m5-xlarge",
        zone="aws:eu-west-1",
        queue_url="",
        runs_on="sagemaker",
        spot=True,
        expected_seconds=600.0,
        basis="as long as on rig-1",
        predicted_cost_usd=0.0383,
        reason="no rig may and can in time; spot costs at most $0.23 an hour",
    )
    lines = describe(shown(BEGIN, plan=plan)).splitlines()
    assert lines[-3:] == [
        "attempt 1 on sagemaker-ml-m5-xlarge spot in aws:eu-west-1",
        "  because: no rig may and can in time; spot costs at most $0.23 an hour",
        "  expected: 10 min 00 s (as long as on rig-1), at most $0.0383",
    ]


def test_what_cannot_be_redriven_says_what_to_do_instead() -> None:
    reason = "job k cannot be redriven (too old): run it again with `isthmus job retry k`"
    text = describe(shown(FAILED, state="FAILED", error="Boom", not_redrivable=reason))
    assert reason in text
    assert "go on from there" not in text


def test_a_nested_machine_is_shown_below_the_state_that_started_it() -> None:
    deploys = Visit(state="DeployCloud", type="Task", entered_seconds=3, nested="arn:child")
    stage = Visit(state="StageModel", type="Task", entered_seconds=0.5)
    lines = describe(shown(deploys, nested={"arn:child": (BEGIN, stage)})).splitlines()
    assert lines[2].startswith("      … ")
    assert "StageModel" in lines[2]
    assert not any("Begin" in line for line in lines)


def test_lines_tell_each_piece_of_news_once() -> None:
    told: list[str] = []
    lines = Lines(told.append)
    lines.tell(shown(BEGIN, REGISTER))
    lines.tell(shown(BEGIN, REGISTER))
    assert told == ["     0.1 s  RegisterDataset …", "     1.6 s  RegisterDataset ✓"]
    lines.tell(shown(BEGIN, REGISTER, TRAINS))
    lines.tell(shown(BEGIN, REGISTER, FAILED))
    lines.tell(shown(BEGIN, REGISTER, FAILED, AGAIN, metrics={"loss": 0.5}))
    assert told[2:] == [
        "     2.0 s  TrainOnRig …",
        "     4.0 s  TrainOnRig: Unavailable: the table did not answer",
        "     9.5 s  TrainOnRig: TrainingFailed: KeyError: 'label'",
        "     9.5 s  TrainOnRig ✗",
        "    30.0 s  TrainOnRig … (redrive 1)",
        "metrics: loss=0.5",
    ]


def test_a_picture_is_drawn_over_the_one_before_and_only_when_it_changes() -> None:
    stream = io.StringIO()
    picture = Picture(stream)
    picture.tell(shown(REGISTER))
    first = stream.getvalue()
    picture.tell(shown(REGISTER))
    assert stream.getvalue() == first
    assert first.count("\n") == 2
    picture.tell(shown(REGISTER, TRAINS))
    second = stream.getvalue().removeprefix(first)
    assert second.startswith("\x1b[2F\x1b[J")
    assert second.count("\n") == 3
    picture.tell(shown(REGISTER, TRAINS, metrics={"loss": 0.5}))
    assert stream.getvalue().removeprefix(first + second).endswith("metrics: loss=0.5\n")


def drawn(columns: int, rows: int, *visits: Visit) -> list[str]:
    stream = io.StringIO()
    Picture(stream, lambda _: os.terminal_size((columns, rows))).tell(shown(*visits))
    return stream.getvalue().splitlines()


LONG = Failure(at_seconds=4.0, error="Unavailable", cause="the table\tdid not answer " * 9)


def test_a_picture_fits_into_the_terminal_with_its_heading_and_its_newest_lines() -> None:
    states = [
        Visit(state=f"State{number}", type="Task", entered_seconds=number, failures=(LONG,))
        for number in range(30)
    ]
    lines = drawn(40, 10, *states)
    assert len(lines) == 9, "the cursor stands on the tenth"
    assert max(map(len, lines)) == 39, "a line as wide as the terminal may wrap"
    assert not any("\t" in line for line in lines)
    assert lines[0].startswith("pipeline k")
    assert "State29" in lines[-2]
    assert len(drawn(200, 100, *states)) == 61
    assert len(drawn(200, 1, *states)) == 2


def test_a_picture_is_redrawn_over_as_many_lines_as_were_drawn() -> None:
    stream = io.StringIO()
    picture = Picture(stream, lambda _: os.terminal_size((80, 4)))
    picture.tell(shown(REGISTER, FAILED))
    first = stream.getvalue()
    picture.tell(shown(REGISTER, FAILED, AGAIN))
    assert first.count("\n") == 3
    assert stream.getvalue().removeprefix(first).startswith("\x1b[3F\x1b[J")


def test_the_size_is_that_of_the_terminal_that_is_drawn_on() -> None:
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (12, 34))
    with os.fdopen(main, "w"), os.fdopen(side, "w") as terminal:
        assert terminal_size(terminal) == os.terminal_size((34, 12))
    assert terminal_size(io.StringIO()) == shutil.get_terminal_size()


def test_a_limit_below_one_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "list", "--limit", "0"]) == 2
    assert "--limit must be at least 1; it is 0" in capsys.readouterr().err


ASKS = Visit(state="AskApproval", type="Task", entered_seconds=40.0, attempts=1)
ASKED = Approval(
    execution="arn:e",
    model="digits",
    release=2,
    candidate=0.97,
    champion=0.95,
    champion_release=1,
    since="2026-01-02T03:04:05+00:00",
    until="2026-01-09T03:04:05+00:00",
)
COMMAND = "answer: isthmus pipeline approve k, or with --reject --reason TEXT"


def asking(**answer: str) -> Shown:
    found = shown(REGISTER, ASKS)
    approval = msgspec.convert({**msgspec.to_builtins(ASKED), **answer}, Approval)
    step = "DeployCloud" if answer else "AskApproval"
    return msgspec.structs.replace(
        found, job=msgspec.structs.replace(found.job, approval=approval, step=step)
    )


def test_a_pipeline_that_waits_for_approval_says_so_with_the_command() -> None:
    lines = describe(asking()).splitlines()
    question = (
        "release 2 waits for approval since 2026-01-02T03:04:05+00:00, until 2026-01-09T03:04:05+00:00: "
        "accuracy 0.9700, release 1 in service has 0.9500"
    )
    assert lines[-2:] == [question, COMMAND]
    told: list[str] = []
    Lines(told.append).tell(asking())
    assert told[-2:] == [question, COMMAND]
    stream = io.StringIO()
    Picture(stream, lambda _: os.terminal_size((200, 20))).tell(asking())
    assert stream.getvalue().splitlines()[-1] == COMMAND
    assert describe_job(asking().job).splitlines()[-1] == COMMAND


def test_who_answered_stays_to_be_seen_and_nothing_is_asked_any_more() -> None:
    answered = asking(state="REJECTED", by="arn:ada", at="2026-01-03T00:00:00+00:00", reason="too dear")
    assert describe(answered).splitlines()[-1] == (
        "release 2 was rejected by arn:ada at 2026-01-03T00:00:00+00:00: too dear"
    )


def test_scores_that_there_are_not_are_said_to_be_missing() -> None:
    found = asking()
    approval = msgspec.structs.replace(ASKED, candidate=None, champion=None, champion_release=0)
    first = msgspec.structs.replace(found, job=msgspec.structs.replace(found.job, approval=approval))
    assert describe(first).splitlines()[-2].endswith(": not scored, no model is in service")
