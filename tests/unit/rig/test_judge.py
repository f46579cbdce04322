"""What scores models on a rig, when it cannot answer: whose fault that is decides whether the job runs again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from isthmus.errors import EnvironmentProblem, InvalidModel, IsthmusError
from isthmus.model.job import Evaluation, HeldOut
from isthmus.model.processing import Decode
from isthmus.rig.judge import Model, Request, judge

HELD_OUT = HeldOut(path="x.npy", decode=Decode(format="npy", dtype="float32"))
REQUEST = Request(
    evaluation=Evaluation(inputs=HELD_OUT, labels=HELD_OUT), files={}, candidate=Model(path="m")
)
WAITS = "exec tail -f /dev/null"


@pytest.mark.parametrize(
    ("script", "limit_seconds", "error", "said"),
    [
        ("kill -9 $$", 60, EnvironmentProblem, "ended with exit code 137$"),  # as when memory is full
        (": > $5", 60, EnvironmentProblem, "exit code 0, and its answer cannot be read: "),
        ("exit 1", 60, InvalidModel, "ended with exit code 1$"),
        (WAITS, 0, InvalidModel, "needs a model that is judged within 0 ms; it took longer$"),
    ],
)
def test_a_judge_that_does_not_answer_is_the_rigs_fault_unless_the_model_may_be_it(
    tmp_path: Path, script: str, limit_seconds: float, error: type[IsthmusError], said: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    lines: list[str] = []
    with pytest.raises(error, match=said):
        judge(
            REQUEST,
            tmp_path,
            run_id="run-1",
            stop=threading.Event(),
            on_line=lines.append,
            python=str(python),
            limit_seconds=limit_seconds,
        )
