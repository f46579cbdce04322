"""Whatever becomes of the line or of a process: each message comes once and right, and each question is answered."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.transport.asking import Asker, serve_each
from isthmus.transport.direct import DirectListener, DirectTransport, Terms
from isthmus.transport.ports import within
from isthmus.transport.relay import RelayTransport
from isthmus.transport.session import Window
from tests.bad_line import BadLine, Fault
from tests.certificates import Authority

MESSAGES = 60
SECONDS = 60
ONE_IN = 100
"""Pieces of the line. A message of 70,000 bytes is some ten; eight spoilt in a row end a channel, as they should."""
SEED = 32
"""Some eight of its first 300 pieces are spoilt, and there are more."""

ANSWERING = """
import sys
from pathlib import Path
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.transport.asking import serve, serve_each
from isthmus.transport.direct import DirectListener
from isthmus.transport.ports import within
from isthmus.transport.relay import RelayTransport

def answer(question):
    print("asked", flush=True)
    return {"y": question["x"] * 2 + 1}

if sys.argv[1] == "relay":
    serve(RelayTransport(DirectoryBlobStore(Path(sys.argv[2])), "cut", "answer").connect(deadline=within(60)), answer)
else:
    listener = DirectListener(("127.0.0.1", int(sys.argv[2])), tls=None)
    print(listener.address[1], flush=True)
    serve_each(listener, answer)
"""
ASKING = """
import sys
import numpy as np
from isthmus.transport.asking import Asker
from isthmus.transport.direct import DirectTransport
from isthmus.transport.ports import within

asker = Asker(DirectTransport(("127.0.0.1", int(sys.argv[1])), tls=None))
for number in range(int(sys.argv[2])):
    answer = asker.ask({"x": np.full(1000, number)}, deadline=within(60))
    assert (answer["y"] == 2 * number + 1).all()
    print(number, flush=True)
"""


def message(number: int) -> dict[str, Any]:
    size = (3, 4000, 70_000)[number % 3]
    return {
        "n": np.array([number]),
        "x": np.random.default_rng(number).integers(0, 255, size, dtype=np.uint8),
    }


def right(found: dict[str, Any], number: int) -> bool:
    return all(np.array_equal(found[name], array) for name, array in message(number).items())


@pytest.mark.parametrize("fault", ["cut", "corrupt", "duplicate", "reorder"])
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_over_a_bad_line_each_message_comes_once_and_in_order(
    tmp_path: Path, fault: Fault, secured: bool
) -> None:
    ours = theirs = None
    if secured:
        authority = Authority(tmp_path)
        ours, theirs = authority.tls("head", "tail"), authority.tls("tail", "head")
    terms = Terms(window=Window(messages=4))
    listener = DirectListener(("127.0.0.1", 0), tls=theirs, terms=terms)
    line = BadLine(listener.address, (fault,), seed=SEED, one_in=ONE_IN)
    asking = DirectTransport(line.address, tls=ours, terms=terms).connect(deadline=within(SECONDS))
    answering = listener.accept(deadline=within(SECONDS))
    seen: list[int] = []

    def answer() -> None:
        for number in range(MESSAGES):
            found = answering.receive(deadline=within(SECONDS))
            assert right(found, number)
            seen.append(int(found["n"][0]))
            answering.send(found, deadline=within(SECONDS))

    thread = threading.Thread(target=answer)
    thread.start()
    for number in range(MESSAGES):
        asking.send(message(number), deadline=within(SECONDS))
        if number >= 3:
            assert right(asking.receive(deadline=within(SECONDS)), number - 3)
    for number in range(MESSAGES - 3, MESSAGES):
        assert right(asking.receive(deadline=within(SECONDS)), number)
    thread.join()
    assert seen == list(range(MESSAGES))
    assert line.happened[fault] > 0, "the line was good: this proved nothing"
    line.close()
    asking.close()
    listener.close()


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def ended(processes: list[subprocess.Popen[str]]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
def test_a_question_whose_answering_process_is_killed_is_answered_by_the_next() -> None:
    processes = [start(ANSWERING, "direct", "0")]
    with ended(processes):
        port = line_of(processes[0])
        asker = Asker(DirectTransport(("127.0.0.1", int(port)), tls=None))
        for number in range(9):
            answers: list[Any] = []
            asking = threading.Thread(
                target=lambda n=number, into=answers: into.append(
                    asker.ask({"x": np.full(1000, n)}, deadline=within(SECONDS))["y"]
                )
            )
            asking.start()
            if number % 4 == 1:
                # It has the question by now, and perhaps has not answered.
                assert line_of(processes[-1]) == "asked"
                os.kill(processes[-1].pid, signal.SIGKILL)
                processes[-1].wait()
                processes.append(start(ANSWERING, "direct", port))
                assert line_of(processes[-1]) == port
            asking.join()
            assert [set(each.tolist()) for each in answers] == [{2 * number + 1}]
            if number % 4 == 0:
                assert line_of(processes[-1]) == "asked"
        asker.close()


@pytest.mark.slow
def test_who_asks_after_a_killed_process_is_answered() -> None:
    listener = DirectListener(("127.0.0.1", 0), tls=None)

    over = threading.Event()
    thread = threading.Thread(
        target=serve_each,
        args=(listener, lambda question: {"y": question["x"] * 2 + 1}),
        kwargs={"go_on": lambda: not over.is_set()},
    )
    thread.start()
    first = start(ASKING, str(listener.address[1]), "1000000")
    with ended([first]):
        assert [line_of(first) for _ in range(3)] == ["0", "1", "2"]
        os.kill(first.pid, signal.SIGKILL)
    second = start(ASKING, str(listener.address[1]), "3")
    with ended([second]):
        assert [line_of(second) for _ in range(3)] == ["0", "1", "2"]
        assert second.wait() == 0
    over.set()
    listener.close()
    thread.join()


@pytest.mark.slow
def test_a_relayed_question_whose_answering_process_is_killed_is_answered_once(tmp_path: Path) -> None:
    store = DirectoryBlobStore(tmp_path)
    channel = RelayTransport(store, "cut", "ask").connect(deadline=within(SECONDS))
    processes = [start(ANSWERING, "relay", str(tmp_path))]
    with ended(processes):
        for number in range(6):
            channel.send({"x": np.full(1000, number)}, deadline=within(SECONDS))
            if number in (1, 3):
                while line_of(processes[-1]) != "asked":
                    continue
                os.kill(processes[-1].pid, signal.SIGKILL)
                processes[-1].wait()
                processes.append(start(ANSWERING, "relay", str(tmp_path)))
            found = channel.receive(deadline=within(SECONDS))["y"]
            assert set(found.tolist()) == {2 * number + 1}
        channel.close()
        processes[-1].wait()
    assert list(store.keys("")) == [], "nothing is left in the bucket"
