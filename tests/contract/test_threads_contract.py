"""What the rig's agent rests on when several things go on at once."""

from __future__ import annotations

import pytest

from isthmus.adapters.system import SystemThreads
from isthmus.ports import Flag, Threads


@pytest.fixture(params=[SystemThreads])
def threads(request: pytest.FixtureRequest) -> Threads:
    found: Threads = request.param()
    return found


def test_a_flag_wakes_who_waits_and_stays_set_until_it_is_cleared(threads: Threads) -> None:
    asked, answered = threads.flag(), threads.flag()
    heard: list[bool] = []

    def answer() -> None:
        heard.append(asked.wait(20))
        answered.set()

    join = threads.start("answer", answer)
    assert (asked.is_set(), answered.is_set()) == (False, False)
    asked.set()
    assert answered.wait()
    join()
    join()
    assert heard == [True]
    assert answered.wait(0)
    answered.clear()
    assert not answered.is_set()


@pytest.mark.parametrize("seconds", [0, 0.001])
def test_a_wait_that_runs_out_says_so(threads: Threads, seconds: float) -> None:
    flag: Flag = threads.flag()
    assert flag.wait(seconds) is False
