from __future__ import annotations

import msgspec
import pytest

from isthmus.adapters.local.queue import ManualClock, MemoryQueue
from isthmus.adapters.local.records import MemoryRecords
from isthmus.adapters.system import SystemThreads
from isthmus.errors import PermissionMissing, Unavailable
from isthmus.model import layout
from isthmus.model.messages import Work
from isthmus.ports import Message
from isthmus.rig import lease
from isthmus.rig.intake import Intake
from isthmus.rig.waiting import CLAIM_SECONDS, KEPT_SECONDS, WaitingList

RIG = "rig-1"


def work(name: str = "job", fencing: int = 1, team: str = "default") -> Work:
    return Work(
        job_key=name, fencing=fencing, job="", manifest="", token="t", execution="e",
        team=team, submitted_at="2026-11-22T12:00:00.000Z",
    )  # fmt: skip


class Shared:
    """One table and one clock, with as many agents as a test wants."""

    def __init__(self) -> None:
        self.records, self.clock = MemoryRecords(), ManualClock()

    def agent(self, name: str) -> WaitingList:
        return WaitingList(RIG, name, self.records, self.clock)


@pytest.fixture
def shared() -> Shared:
    return Shared()


def test_delivered_twice_it_waits_once(shared: Shared) -> None:
    mine = shared.agent("a")
    assert mine.add(work())
    shared.clock.sleep(5)
    assert not mine.add(work())
    assert mine.add(work(fencing=2))
    assert [entry.work.fencing for entry in mine.in_turn()] == [1, 2]


def test_a_redriven_executions_token_takes_the_place_of_the_one_before(shared: Shared) -> None:
    mine, first = shared.agent("a"), work()
    again = msgspec.structs.replace(first, token="redriven", redrives=1)
    assert mine.add(first)
    assert mine.add(work("other"))
    assert mine.add(again)
    assert not mine.add(first), "the older message, delivered once more, brings no old token back"
    assert not mine.add(again)
    assert [entry.work.token for entry in mine.in_turn()] == ["redriven", "t"]


def test_a_retried_states_token_takes_the_place_of_the_one_before(shared: Shared) -> None:
    """The message was sent, but Step Functions did not learn of it: the state sends it again."""
    mine, first = shared.agent("a"), work()
    retried = msgspec.structs.replace(first, token="retried", retries=1)
    redriven = msgspec.structs.replace(first, token="redriven", redrives=1)
    assert mine.add(first)
    assert mine.add(retried)
    assert not mine.add(first)
    assert [entry.work.token for entry in mine.in_turn()] == ["retried"]
    assert mine.add(redriven), "a redrive counts its retries from 0"
    assert not mine.add(msgspec.structs.replace(first, token="late", retries=2))
    assert [entry.work.token for entry in mine.in_turn()] == ["redriven"]


def test_a_renewed_attempt_is_kept_as_long_as_a_new_one(shared: Shared) -> None:
    mine = shared.agent("a")
    mine.add(work())
    shared.clock.sleep(KEPT_SECONDS - 1)
    assert mine.add(msgspec.structs.replace(work(), redrives=1))
    (item,) = shared.records.query(layout.waiting_pk(RIG))
    assert item["expires_at"] == int(shared.clock.now()) + KEPT_SECONDS


def test_two_agents_claim_each_attempt_once(shared: Shared) -> None:
    one, two = shared.agent("a"), shared.agent("b")
    for name in ("first", "second", "third"):
        one.add(work(name))
    claimed = [one.claim(), two.claim()]
    assert [entry.job_key for entry in claimed if entry] == ["first", "second"]
    assert one.claim() == claimed[0], "its own claim is its own until it runs out"


class Race(MemoryRecords):
    """Another agent claims or removes what was just read."""

    def __init__(self) -> None:
        super().__init__()
        self.before_update = lambda: None

    def update(self, pk: str, sk: str, values: object, **conditions: object) -> None:
        race, self.before_update = self.before_update, lambda: None
        race()
        super().update(pk, sk, values, **conditions)  # type: ignore[arg-type]


def test_an_agent_that_was_second_takes_the_next(shared: Shared) -> None:
    shared.records = records = Race()
    one, two = shared.agent("a"), shared.agent("b")
    one.add(work("first"))
    one.add(work("second"))
    won: list[Work | None] = []
    records.before_update = lambda: won.append(two.claim())
    lost = one.claim()
    assert won[0] is not None
    assert (won[0].job_key, lost and lost.job_key) == ("first", "second")


def test_an_attempt_that_was_removed_meanwhile_is_not_made_anew_by_a_claim(shared: Shared) -> None:
    shared.records = records = Race()
    one, two = shared.agent("a"), shared.agent("b")
    one.add(work())
    records.before_update = lambda: two.remove(work())
    assert one.claim() is None
    assert records.query(layout.waiting_pk(RIG)) == []


@pytest.mark.parametrize("redrives", [0, 1])
def test_an_attempt_that_was_removed_meanwhile_is_added_anew(shared: Shared, redrives: int) -> None:
    """An item is left of an earlier taking; the agent's other thread removes it between two writes."""
    shared.records = records = Race()
    mine, later = shared.agent("a"), msgspec.structs.replace(work(), token="later", redrives=redrives)
    mine.add(work())
    records.before_update = lambda: mine.remove(work())
    assert mine.add(later)
    assert mine.claim() == later


def test_what_does_not_fit_is_left_to_another_agent(shared: Shared) -> None:
    small, large = shared.agent("small"), shared.agent("large")
    large.add(msgspec.structs.replace(work("big"), accelerators=4))
    large.add(work("little"))
    taken = small.claim(lambda entry: entry.accelerators <= 1)
    assert taken is not None
    assert taken.job_key == "little"
    small.remove(taken)
    assert small.claim(lambda entry: entry.accelerators <= 1) is None
    left = large.claim()
    assert left is not None
    assert left.job_key == "big"


def test_the_claim_of_an_agent_that_died_runs_out(shared: Shared) -> None:
    one, two = shared.agent("a"), shared.agent("b")
    one.add(work())
    assert one.claim() == work()
    shared.clock.sleep(CLAIM_SECONDS - 1)
    assert two.claim() is None
    shared.clock.sleep(2)
    assert two.claim() == work()
    assert one.claim() is None, "it is the other's now"


def test_teams_take_turns_over_agents_and_restarts(shared: Shared) -> None:
    for number in range(3):
        shared.agent("a").add(work(f"x{number}", team="x"))
    shared.agent("a").add(work("y0", team="y"))
    order = []
    for agent in ("a", "b", "c", "d"):
        claimed = shared.agent(agent).claim()
        assert claimed is not None
        shared.agent(agent).note_turn(claimed.team)
        order.append(claimed.job_key)
        shared.clock.sleep(1)
    assert order == ["x0", "y0", "x1", "x2"]


def test_what_a_newer_version_wrote_is_left_to_it(shared: Shared) -> None:
    mine = shared.agent("a")
    plain = msgspec.to_builtins(work()) | {"schema": "isthmus/work/9"}
    shared.records.put({"pk": layout.waiting_pk(RIG), "sk": "WORK#new#1", "work": plain, "arrived_at": ""})
    mine.add(work())
    assert mine.claim() == work()


class SilentTable(MemoryRecords):
    """Does not answer writes while ``silent``."""

    silent = True

    def create(self, item: dict[str, object]) -> bool:
        if self.silent:
            raise Unavailable("no route")
        return super().create(item)


def test_a_message_is_deleted_only_when_its_item_is_written(shared: Shared) -> None:
    shared.records = table = SilentTable()
    queue, mine = MemoryQueue(), shared.agent("a")
    intake = Intake(queue, mine, lambda event, **fields: None, SystemThreads())
    queue.send(work())
    with pytest.raises(Unavailable):
        intake.drain()
    assert list(queue.in_flight.values()) == [work()]
    table.silent = False
    queue.redeliver()
    intake.drain()
    assert (queue.in_flight, mine.claim()) == ({}, work())


class Refusing(MemoryRecords):
    """Refuses reads, or writes, of everything or of one job."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.writes = False
        self.job = ""
        self.error: Exception = Unavailable("no route")

    def query(self, pk: str, *, prefix: str = "") -> list[dict[str, object]]:
        if self.reads:
            raise self.error
        return super().query(pk, prefix=prefix)

    def create(self, item: dict[str, object]) -> bool:
        if self.writes or item["job_key"] == self.job:
            raise self.error
        return super().create(item)

    def update(self, pk: str, sk: str, values: object, **conditions: object) -> None:
        if self.writes:
            raise self.error
        super().update(pk, sk, values, **conditions)  # type: ignore[arg-type]


class Counting(MemoryQueue):
    """Counts the deliveries of its messages, as a queue with a dead-letter queue does."""

    deliveries = 0

    def receive(self, *, wait_seconds: int) -> list[Message]:
        received = super().receive(wait_seconds=wait_seconds)
        self.deliveries += len(received)
        return received


@pytest.mark.parametrize("refused", ["reads", "writes"])
@pytest.mark.parametrize("error", [Unavailable("no route"), PermissionMissing("the rig may not")])
def test_nothing_is_received_while_the_table_refuses(shared: Shared, refused: str, error: Exception) -> None:
    shared.records = table = Refusing()
    queue, mine = Counting(), shared.agent("a")
    intake = Intake(queue, mine, lambda event, **fields: None, SystemThreads())
    table.error = error
    setattr(table, refused, True)
    queue.send(work())
    for _ in range(6):
        with pytest.raises(type(error)):
            intake.once(wait_seconds=0)
    assert queue.deliveries == 0
    setattr(table, refused, False)
    intake.drain()
    assert (queue.deliveries, mine.claim()) == (1, work())
    assert table.query(layout.waiting_pk(RIG))[0]["job_key"] == "job", "the check leaves nothing behind"
    table.writes = True
    queue.send(work("second"))
    for _ in range(6):
        with pytest.raises(type(error)):
            intake.once(wait_seconds=0)
    assert queue.deliveries == 2, "one delivery finds out, no other is spent"


def test_a_message_that_cannot_be_listed_does_not_take_its_batch_with_it(shared: Shared) -> None:
    shared.records = table = Refusing()
    queue, mine = Counting(), shared.agent("a")
    said: list[tuple[str, dict[str, object]]] = []
    intake = Intake(queue, mine, lambda event, **fields: said.append((event, fields)), SystemThreads())
    table.job, table.error = "second", ValueError("the item is too large")
    for name in ("first", "second", "third"):
        queue.send(work(name))
    intake.drain()
    assert [entry.work.job_key for entry in mine.in_turn()] == ["first", "third"]
    assert list(queue.in_flight.values()) == [work("second")]
    about = {"job_key": "second", "fencing": 1, "error": "ValueError: the item is too large"}
    assert ("message left: it cannot be listed", about) in said


def test_unread_messages_stay_in_the_queue_and_are_reported(shared: Shared) -> None:
    class Garbled(MemoryQueue):
        def receive(self, *, wait_seconds: int) -> list[Message]:
            garbled, self.garbled = self.garbled, []
            return garbled

        garbled = [Message("r1", None, "not JSON"), Message("r2", work())]

    said: list[tuple[str, dict[str, object]]] = []
    queue, deleted = Garbled(), []
    queue.delete = deleted.append  # type: ignore[method-assign]
    Intake(
        queue, shared.agent("a"), lambda event, **fields: said.append((event, fields)), SystemThreads()
    ).drain()
    assert deleted == ["r2"]
    assert said[0] == ("message left: it cannot be read", {"error": "not JSON"})


def test_a_removal_leaves_what_a_redrive_renewed(shared: Shared) -> None:
    """The execution is redriven while an agent finds out that nobody waits for the older token."""
    mine = shared.agent("a")
    mine.add(work())
    old = mine.claim()
    assert old is not None
    renewed = msgspec.structs.replace(work(), redrives=1, token="newer")
    assert mine.add(renewed)
    mine.remove(old)
    assert mine.claim() == renewed
    mine.remove(renewed)
    mine.remove(renewed)
    assert mine.claim() is None


def test_a_removal_leaves_what_a_retry_renewed(shared: Shared) -> None:
    mine = shared.agent("a")
    mine.add(work())
    retried = msgspec.structs.replace(work(), retries=1, token="newer")
    mine.add(retried)
    mine.remove(work())
    assert mine.claim() == retried


def test_what_an_agent_of_the_version_before_listed_can_be_removed(shared: Shared) -> None:
    mine = shared.agent("a")
    mine.add(work())
    (item,) = shared.records.query(layout.waiting_pk(RIG))
    del item["retries"]
    shared.records.put(item)
    mine.remove(work())
    assert mine.claim() is None


HOURS = 5 * 3600


def test_the_claim_of_a_clock_that_was_ahead_holds_nobody_up(shared: Shared) -> None:
    """An agent's clock is hours ahead when it claims; it dies, or its clock is set back."""
    shared.agent("a").add(work())
    ahead = WaitingList(RIG, "b", shared.records, ManualClock(shared.clock.now() + HOURS))
    assert ahead.claim() is not None
    assert shared.agent("a").claim() == work()


def test_a_clock_that_jumps_ahead_takes_a_claim_and_the_lease_decides(shared: Shared) -> None:
    """Of two that claim the same attempt only who wins its lease runs it."""
    one = shared.agent("a")
    one.add(work())
    claimed = one.claim()
    ahead = WaitingList(RIG, "b", shared.records, ManualClock(shared.clock.now() + HOURS))
    assert ahead.claim() == claimed == work()
    assert lease.take(work(), RIG, shared.records, "a") == "fresh"
    assert lease.take(work(), RIG, shared.records, "b") == "another's"


def test_a_turn_that_a_clock_ahead_wrote_down_starves_no_team(shared: Shared) -> None:
    ahead = WaitingList(RIG, "b", shared.records, ManualClock(shared.clock.now() + HOURS))
    ahead.note_turn("fast")
    mine = shared.agent("a")
    for number in (1, 2):
        mine.add(work(f"fast-{number}", team="fast"))
        mine.add(work(f"slow-{number}", team="slow"))
    taken = []
    while (found := mine.claim()) is not None:
        shared.clock.sleep(1)
        mine.note_turn(found.team)
        mine.remove(found)
        taken.append(found.team)
    assert taken == ["slow", "fast", "slow", "fast"]


def test_shares_are_kept_with_the_list_and_count_over_agents_and_restarts(shared: Shared) -> None:
    shared.agent("").set_shares({"x": 3})
    assert shared.agent("").shares == {"x": 3}
    for number in range(8):
        shared.agent("a").add(work(f"x{number}", team="x"))
        shared.agent("a").add(work(f"y{number}", team="y"))
    order = ""
    for number in range(8):
        mine = shared.agent("ab"[number % 2])
        first = mine.in_turn()[0].work
        found = mine.claim()
        assert found == first
        mine.note_turn(found.team)
        mine.remove(found)
        shared.clock.sleep(1)
        order += found.team
    assert order == "xyxxyxxx"
    assert len(shared.agent("c").in_turn()) == 8, "shares are no work"


def test_a_turn_that_an_earlier_agent_noted_is_read(shared: Shared) -> None:
    place = {"pk": layout.waiting_pk(RIG), "sk": layout.turn_sk("x")}
    shared.records.put(place | {"served_at": int(shared.clock.now() * 1000)})
    mine = shared.agent("a")
    mine.add(work("x", team="x"))
    mine.add(work("y", team="y"))
    assert [entry.work.team for entry in mine.in_turn()] == ["y", "x"]
