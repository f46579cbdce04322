"""What a removal takes, keeps and refuses, with things in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from isthmus.adapters.local.belongings import MemoryBelongings
from isthmus.cli.destroy import describe
from isthmus.errors import InvalidInput, StillRunning, Unavailable
from isthmus.model.inventory import Thing
from isthmus.model.units import GIB
from isthmus.ports import Belongings
from isthmus.workflows.destroy_stack import KEEPABLE, RUNNING, destroy, plan_destroy

Kinds = list[MemoryBelongings]


def thing(name: str, *kept_by: str, size_bytes: int = 0, price: str = "") -> Thing:
    return Thing(id=name, name=name, kept_by=kept_by, size_bytes=size_bytes, price=price)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def kinds(log: list[str]) -> Kinds:
    """A stack at rest, in the order of its removal."""
    folders = (
        thing("bundles/", "data", "models", size_bytes=2 * GIB, price="s3_gb_month"),
        thing("datasets/", "data", size_bytes=10 * GIB, price="s3_gb_month"),
    )
    return [
        MemoryBelongings(RUNNING, log=log),
        MemoryBelongings("model function", [thing("f")], log),
        MemoryBelongings("stack", [thing("shop")], log),
        MemoryBelongings("bucket folder", folders, log),
        MemoryBelongings("bucket", [thing("bucket", "data", "models")], log),
        MemoryBelongings(
            "KMS key", [thing("DataKey", "data", "models", "records", price="kms_key_month")], log
        ),
    ]


def removal(
    kinds: Kinds, *keep: str, force: bool = False, report: Callable[[str], None] | None = None
) -> int:
    every: list[Belongings] = list(kinds)
    return destroy(every, keep, force=force, report=report or (lambda line: None))


def test_a_plan_changes_nothing_and_names_everything(kinds: Kinds, log: list[str]) -> None:
    plan = plan_destroy("shop", kinds, ())
    assert log == []
    assert [group.kind for group in plan.remove] == [
        "model function",
        "stack",
        "bucket folder",
        "bucket",
        "KMS key",
    ]
    assert plan.keep == ()
    assert plan.kept_usd_per_month == 0
    text = describe(plan)
    assert "2 bucket folders, 12.0 GiB" in text
    assert text.endswith("nothing was changed; do it with --yes")


def test_everything_goes_in_order(kinds: Kinds, log: list[str]) -> None:
    lines: list[str] = []
    assert removal(kinds, report=lines.append) == 6
    assert log == [
        "model function f",
        "stack shop",
        "bucket folder bundles/",
        "bucket folder datasets/",
        "bucket bucket",
        "KMS key DataKey",
    ]
    assert len(lines) == 6
    assert removal(kinds) == 0, "and then there is nothing"


def test_data_keeps_the_bucket_and_its_key_and_says_what_that_costs(kinds: Kinds, log: list[str]) -> None:
    plan = plan_destroy("shop", kinds, ["data"])
    assert [group.kind for group in plan.keep] == ["bucket folder", "bucket", "KMS key"]
    assert plan.kept_usd_per_month == pytest.approx(12 * 0.023 + 1.0)
    assert "kept, for $1.28 a month" in describe(plan)
    removal(kinds, "data")
    assert log == ["model function f", "stack shop"]


def test_models_keep_their_bundles_alone(kinds: Kinds, log: list[str]) -> None:
    removal(kinds, "models")
    assert log == ["model function f", "stack shop", "bucket folder datasets/"]


@pytest.mark.parametrize("noun", KEEPABLE)
def test_every_noun_is_taken(kinds: Kinds, noun: str) -> None:
    assert plan_destroy("shop", kinds, [noun]).stack == "shop"


def test_an_unknown_noun_is_refused_before_anything_is_touched(kinds: Kinds, log: list[str]) -> None:
    with pytest.raises(InvalidInput, match="data, models, records, logs; it was given tables"):
        removal(kinds, "tables")
    assert log == []


def test_running_executions_are_named_and_stopped_only_by_force(kinds: Kinds, log: list[str]) -> None:
    kinds[0].things = [thing(f"job-{number}") for number in range(7)]
    with pytest.raises(StillRunning, match=r"7 executions run \(job-0, .*job-4, …\)"):
        removal(kinds)
    assert log == []
    assert "7 executions run: --force stops them" in describe(plan_destroy("shop", kinds, ()))
    removal(kinds, force=True)
    assert log[:2] == [f"{RUNNING} job-0", f"{RUNNING} job-1"]


def test_a_stack_that_cannot_go_now_is_refused_before_anything_is_touched(
    kinds: Kinds, log: list[str]
) -> None:
    kinds[2].things = [Thing(id="shop", name="shop", blocked="is UPDATE_IN_PROGRESS; wait for the end of it")]
    with pytest.raises(StillRunning, match="the stack shop is UPDATE_IN_PROGRESS"):
        removal(kinds, force=True)
    assert log == []
    assert "UPDATE_IN_PROGRESS" in describe(plan_destroy("shop", kinds, ()))


@pytest.mark.parametrize("where", range(1, 6))
def test_a_removal_that_was_cut_off_anywhere_is_continued(kinds: Kinds, log: list[str], where: int) -> None:
    broken = kinds[where]
    broken.fails = {broken.things[-1].id: Unavailable("the connection broke")}
    with pytest.raises(Unavailable):
        removal(kinds)
    done = len(log)
    removal(kinds)
    assert len(log) == len(set(log)) == 6
    assert done < 6


class Late(MemoryBelongings):
    """Removing this makes something of another kind: an execution's last act."""

    def __init__(self, other: MemoryBelongings, log: list[str]) -> None:
        super().__init__(RUNNING, [thing("job")], log)
        self._other = other

    def remove(self, thing_: Thing, report: Callable[[str], None]) -> None:
        self._other.things.append(thing("made in the last moment"))
        super().remove(thing_, report)


def test_what_an_execution_made_in_its_last_moments_goes_too(kinds: Kinds, log: list[str]) -> None:
    kinds[0] = Late(kinds[1], log)
    removal(kinds, force=True)
    assert "model function made in the last moment" in log


class Slow(MemoryBelongings):
    """While the stack is being removed, a function that was called before makes its last thing."""

    def __init__(self, other: MemoryBelongings, log: list[str]) -> None:
        super().__init__("stack", [thing("shop")], log)
        self._other = other

    def remove(self, thing_: Thing, report: Callable[[str], None]) -> None:
        self._other.things.append(thing("made beside the removal"))
        super().remove(thing_, report)


def test_what_a_function_made_while_the_stack_went_goes_too(kinds: Kinds, log: list[str]) -> None:
    kinds[2] = Slow(kinds[1], log)
    assert removal(kinds) == 7
    assert log[:3] == ["model function f", "stack shop", "model function made beside the removal"]


class Forgetful(MemoryBelongings):
    """Found only as long as the stack tells whose it is."""

    def __init__(self, stack: MemoryBelongings, log: list[str]) -> None:
        super().__init__("table", [thing("untagged")], log)
        self._stack = stack

    def find(self) -> list[Thing]:
        return super().find() if self._stack.things else []


def test_what_only_the_stack_knew_goes_after_it_too(kinds: Kinds, log: list[str]) -> None:
    removal([*kinds, Forgetful(kinds[2], log)])
    assert log[-1] == "table untagged"


def test_an_account_without_the_stack(log: list[str]) -> None:
    assert describe(plan_destroy("shop", [MemoryBelongings("stack", log=log)], ())) == (
        "nothing of the stack shop is there to remove"
    )
