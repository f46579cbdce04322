"""Slices as real processes, of which one is killed while it works: every question is answered once, and rightly."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "frameworks"))
sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "workflows"))

from profile_networks import residual
from slicing_world import order_of, plan_of

from isthmus.adapters.local.signer import MemorySigner
from isthmus.bootstrap_chain import slice_asker
from isthmus.errors import DeadlineExceeded
from isthmus.inference.engine import OnnxEngine
from isthmus.transport.ports import within
from isthmus.workflows.slice_model import slice_model

pytestmark = pytest.mark.slow
ISTHMUS = Path(sys.executable).with_name("isthmus")
LISTENS = "listens on "
SECONDS = 60.0
QUESTIONS = 400
IMAGES = np.random.default_rng(1).standard_normal((QUESTIONS, 1, 3, 16, 16)).astype("float32")


class Processes:
    """``isthmus slice serve`` for each slice of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[subprocess.Popen[str]] = []

    def serve(self, number: int, listen: str = "127.0.0.1:0", following: str = "") -> str:
        """Start one; return where it listens."""
        command = [
            str(ISTHMUS),
            "slice",
            "serve",
            str(self.folder),
            "--slice",
            str(number),
            "--listen",
            listen,
        ]
        command += ["--next", following] if following else []
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.all.append(process)
        assert process.stdout is not None
        said = process.stdout.readline()
        assert LISTENS in said, process.communicate()
        return said.rpartition(LISTENS)[2].strip()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return residual(tmp_path / "residual.onnx")


@pytest.fixture
def processes(model: Path, tmp_path: Path) -> Iterator[Processes]:
    order = order_of(model, plan_of(model, [(0, 2)], [(2, 5)]))
    folder = tmp_path / "slices"
    slice_model(order, folder, signer=MemorySigner(), open_engine=OnnxEngine, now="2026-01-01T00:00:00Z")
    found = Processes(folder)
    yield found
    for process in found.all:
        process.kill()
        process.communicate()


def endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_slice_is_killed_and_started_again_and_every_question_is_answered_once_and_rightly(
    processes: Processes, model: Path, killed: int
) -> None:
    tail = processes.serve(1)
    head = processes.serve(0, following=tail)
    asker, answers, counts = slice_asker(endpoint(head), tls=None), [], Counter[int]()
    some = threading.Event()

    def told(k: int, _: Any) -> None:
        counts[k] += 1
        if len(counts) >= QUESTIONS // 3:
            some.set()

    def ask_all() -> None:
        for k in range(QUESTIONS):
            answers.append(asker.ask({"image": IMAGES[k]}, deadline=within(SECONDS)))
            answers[-1].add_done_callback(partial(told, k))

    asking = threading.Thread(target=ask_all)
    asking.start()
    assert some.wait(SECONDS)
    victim = processes.all[1 - killed]
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    processes.serve(killed, (head, tail)[killed], "" if killed else tail)
    asking.join(SECONDS)
    whole = OnnxEngine(model)
    for k, answer in enumerate(answers):
        expected = whole.run({"image": IMAGES[k]})["scores"]
        np.testing.assert_allclose(answer.result(SECONDS)["scores"], expected, atol=1e-3)
    assert set(counts.values()) == {1}
    assert len(counts) == QUESTIONS
    asker.close()


def test_a_slice_that_stays_away_is_told_and_a_worker_that_is_asked_to_end_ends_well(
    processes: Processes,
) -> None:
    tail = processes.serve(1)
    asker = slice_asker(endpoint(processes.serve(0, following=tail)), tls=None)
    question = {"image": IMAGES[0]}
    assert asker.ask(question, deadline=within(SECONDS)).result(SECONDS)["scores"].shape == (1, 10)
    last, first = processes.all
    last.send_signal(signal.SIGKILL)
    last.wait()
    late = asker.ask(question, deadline=within(1.0))
    with pytest.raises(
        DeadlineExceeded, match=rf"the slice at {tail} did not answer in time|{tail} was not reached in time"
    ):
        late.result(SECONDS)
    asker.close()
    first.terminate()
    _, said = first.communicate(timeout=SECONDS)
    assert first.returncode == 0
    assert "ended; 2 questions were answered, 1 of them with an error" in said
