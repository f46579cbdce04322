"""Scores a model and its champion on held-out files of this rig, in a process of its own.

It runs on the agent's own Python, not in the training's environment: what decides whether a model goes into service
is nothing that a job brings along. ``python -m isthmus.rig.judge REQUEST ANSWER`` reads and writes JSON files.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path

import msgspec

from isthmus import documents, errors
from isthmus.errors import (
    AttemptLost,
    DigestMismatch,
    EnvironmentProblem,
    InvalidDocument,
    InvalidModel,
    IsthmusError,
)
from isthmus.model.job import Evaluation
from isthmus.model.judgement import Scores
from isthmus.model.processing import PreStep
from isthmus.model.units import format_seconds
from isthmus.planning.placement import JUDGES_WITH
from isthmus.ports import Engine, Flag
from isthmus.rig.child import Child, OnLine, Record
from isthmus.rig.joblog import JobLog

LIMIT_SECONDS = 900
LOG_BYTES = 2**20
GRACE_SECONDS = 5.0
KILLED = 128
"""Exit codes from here on say which signal ended a process."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """An ONNX file and what is done to a batch before it."""

    path: str
    preprocessing: tuple[PreStep, ...] = ()

    def opened(self) -> tuple[Path, tuple[PreStep, ...]]:
        """Return it as it is scored."""
        return Path(self.path), self.preprocessing


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """``files``: by their paths in the dataset, where the held-out files lie and the SHA-256 (hex) of each."""

    evaluation: Evaluation
    files: dict[str, tuple[str, str]]
    candidate: Model
    champion: Model | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The scores, or the kind of error and what it says."""

    scores: Scores | None = None
    kind: str = ""
    said: str = ""


def check_possible() -> None:
    """Ask whether models can be judged here at all.

    Raises:
        EnvironmentProblem: the agent's Python lacks what that takes.
    """
    lacking = [name for name in JUDGES_WITH if importlib.util.find_spec(name) is None]
    if lacking:
        raise EnvironmentProblem(
            f"needs {' and '.join(lacking)} to judge models where the data are: install isthmus[engine] on this rig"
        )


def judge(
    request: Request,
    folder: Path,
    *,
    run_id: str,
    stop: Flag,
    on_line: OnLine,
    python: str = sys.executable,
    limit_seconds: float = LIMIT_SECONDS,
) -> Scores:
    """Return the scores. ``folder``, a fresh one, is for what the process reads and writes; ``run_id`` names it, as a
    training's.

    Raises:
        AttemptLost: ``stop`` was set meanwhile.
        EnvironmentProblem: the process was killed (this machine's memory is full, say), or could not answer.
        InvalidInput, InvalidModel: files or model are not what the job says of them.
    """
    asked, answered = folder / "request.json", folder / "answer.json"
    asked.write_bytes(documents.encode(request))
    variables = {"PATH": os.defpath, "ORT_DISABLE_TELEMETRY": "1", "HOME": str(folder)}
    command = [python, "-P", "-m", "isthmus.rig.judge", str(asked), str(answered)]
    with JobLog(folder / "judge.log", head_bytes=LOG_BYTES, tail_bytes=LOG_BYTES) as log:
        child = Child(run_id, folder, variables, Record(log, (on_line,)), stop, GRACE_SECONDS)
        started = time.monotonic()
        code = child.run(command, limit_seconds)
    if stop.is_set():
        raise AttemptLost("the attempt was stopped while its model was judged")
    if not answered.is_file() and time.monotonic() - started >= limit_seconds:
        raise InvalidModel(
            f"needs a model that is judged within {format_seconds(limit_seconds)}; it took longer"
        )
    answer = _answer(answered, code)
    if answer.scores is None:
        raise _named(answer)
    return answer.scores


def _answer(path: Path, code: int) -> Answer:
    """Raises EnvironmentProblem where this machine is to blame, InvalidModel where the model may be."""
    said = f"the model could not be judged: what scores it ended with exit code {code}"
    if code >= KILLED:
        raise EnvironmentProblem(said)
    if not path.is_file():
        raise InvalidModel(said)
    try:
        return documents.decode(Answer, path.read_bytes(), "the judge's answer")
    except InvalidDocument as error:  # a full disk, say
        raise EnvironmentProblem(f"{said}, and its answer cannot be read: {error}") from error


def _named(answer: Answer) -> IsthmusError:
    kind = getattr(errors, answer.kind, InvalidModel)
    return kind(answer.said) if issubclass(kind, IsthmusError) else InvalidModel(answer.said)


def score(request: Request) -> Scores:
    """Score both models of a request, in this process. Raises as ``judge``."""
    from isthmus.inference.engine import OnnxEngine
    from isthmus.workflows.scoring import MAX_HELD_OUT_BYTES, read_held_out, score_both

    def read(name: str) -> bytes:
        path, sha256 = request.files[name]
        size = Path(path).stat().st_size
        if size > MAX_HELD_OUT_BYTES:
            raise errors.LimitExceeded(
                f"{name} has {size} bytes; at most {MAX_HELD_OUT_BYTES} are read to judge a model"
            )
        data = Path(path).read_bytes()
        if documents.sha256(data) != sha256:
            raise DigestMismatch(f"{name} changed while the model was judged")
        return data

    def engine(path: Path) -> Engine:
        return OnnxEngine(path, threads=len(os.sched_getaffinity(0)))

    inputs, labels = read_held_out(request.evaluation, read)
    champion = request.champion.opened() if request.champion is not None else None
    return score_both(inputs, labels, request.candidate.opened(), champion, engine)


def main(asked: str, answered: str) -> None:
    """Answer a request."""
    try:
        request = documents.decode(Request, Path(asked).read_bytes(), "what is to be judged")
        answer = Answer(scores=score(request))
    except IsthmusError as error:
        answer = Answer(kind=type(error).__name__, said=str(error))
    Path(answered).write_bytes(documents.encode(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
