"""A crowd of invocations shares a few environments, and a function that calls itself is answered."""

import threading
from concurrent.futures import ThreadPoolExecutor

from conftest import Cloud

from isthmus_localcloud.lambdas.crowding import ENVIRONMENTS, Crowd

CROWD = 3 * ENVIRONMENTS


def test_as_many_as_there_is_room_for_are_let_in() -> None:
    crowd, inside, most = Crowd(size=2, wait_seconds=20), [0], [0]
    lock, started = threading.Lock(), threading.Barrier(6)

    def visit(_: int) -> bool:
        started.wait(20)
        with crowd.room("one") as let_in:
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with crowd.room("another"):
                pass
            with lock:
                inside[0] -= 1
        return let_in

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(visit, range(6)))
    assert most[0] <= 2


def test_who_waits_too_long_goes_ahead_without_room() -> None:
    crowd = Crowd(size=1, wait_seconds=0)
    with crowd.room("one") as first, crowd.room("one") as second:
        assert (first, second) == (True, False)
    with crowd.room("one") as third:
        assert third


def test_a_crowd_shares_a_few_environments_and_each_is_answered(cloud: Cloud) -> None:
    cloud.function(
        "crowd", "import time\ndef handler(e, c):\n    time.sleep(0.1)\n    return [e, c.log_stream_name]\n"
    )
    with ThreadPoolExecutor(CROWD) as pool:
        answers = [answer[1] for answer in pool.map(lambda n: cloud.invoke("crowd", n), range(CROWD))]
    assert [number for number, _ in answers] == list(range(CROWD))
    assert len({stream for _, stream in answers}) <= ENVIRONMENTS
