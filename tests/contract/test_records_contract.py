from __future__ import annotations

import pytest

from isthmus.adapters.aws.records import DynamoRecords
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import Conflict
from isthmus.ports import Records


@pytest.fixture(params=["memory", "dynamodb"])
def records(request: pytest.FixtureRequest) -> Records:
    if request.param == "memory":
        return MemoryRecords()
    request.getfixturevalue("aws")
    client("dynamodb").create_table(
        TableName="table",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    return DynamoRecords("table")


def test_what_is_put_is_what_is_read(records: Records) -> None:
    item = {
        "pk": "A",
        "sk": "1",
        "text": "ü",
        "empty": "",
        "whole": 3,
        "part": 0.125,
        "tiny": 1e-200,
        "yes": True,
        "none": None,
        "list": [1, "a", {"b": 2.5}],
        "map": {"nested": {"x": -0.001}},
    }
    records.put(item)
    read = records.get("A", "1")
    assert read is not None
    assert read.pop("tiny") == pytest.approx(0)
    assert read == {name: value for name, value in item.items() if name != "tiny"}
    assert records.get("A", "2") is None


def test_a_read_item_is_a_copy(records: Records) -> None:
    records.put({"pk": "A", "sk": "1", "map": {"x": 1}})
    read = records.get("A", "1")
    assert read is not None
    read["map"]["x"] = 2
    assert records.get("A", "1") == {"pk": "A", "sk": "1", "map": {"x": 1}}


def test_a_query_is_of_one_partition_in_order_of_sort_keys(records: Records) -> None:
    for pk, sk in (("A", "R#2"), ("A", "R#1"), ("A", "S#1"), ("B", "R#1")):
        records.put({"pk": pk, "sk": sk})
    assert [item["sk"] for item in records.query("A")] == ["R#1", "R#2", "S#1"]
    assert [item["sk"] for item in records.query("A", prefix="R#")] == ["R#1", "R#2"]
    assert records.query("C") == []


def test_create_writes_once(records: Records) -> None:
    assert records.create({"pk": "A", "sk": "1", "n": 1})
    assert not records.create({"pk": "A", "sk": "1", "n": 2})
    assert records.get("A", "1") == {"pk": "A", "sk": "1", "n": 1}


def test_update_makes_the_item_and_keeps_its_other_attributes(records: Records) -> None:
    records.update("A", "1", {"name": "x", "state": "NEW"})
    records.update("A", "1", {"state": "OLD"})
    assert records.get("A", "1") == {"pk": "A", "sk": "1", "name": "x", "state": "OLD"}


def test_expect_must_equal(records: Records) -> None:
    records.update("A", "1", {"fencing": 1})
    with pytest.raises(Conflict):
        records.update("A", "1", {"state": "X"}, expect={"fencing": 2})
    with pytest.raises(Conflict):
        records.update("B", "1", {"state": "X"}, expect={"fencing": 2})
    records.update("A", "1", {"state": "X"}, expect={"fencing": 1})
    assert records.get("A", "1") == {"pk": "A", "sk": "1", "fencing": 1, "state": "X"}
    assert records.get("B", "1") is None


def test_expect_none_is_absent_or_set_to_none(records: Records) -> None:
    records.update("A", "1", {"outcome": "first"}, expect={"outcome": None})
    with pytest.raises(Conflict):
        records.update("A", "1", {"outcome": "second"}, expect={"outcome": None})
    records.update("A", "1", {"outcome": None})
    records.update("A", "1", {"outcome": "third"}, expect={"outcome": None})
    read = records.get("A", "1")
    assert read is not None
    assert read["outcome"] == "third"


def test_below_must_be_smaller_or_absent(records: Records) -> None:
    records.update("A", "1", {"fencing": 1}, below={"fencing": 1})
    for equal_or_less in (1, 0):
        with pytest.raises(Conflict):
            records.update("A", "1", {"fencing": 9}, below={"fencing": equal_or_less})
    records.update("A", "1", {"fencing": 2}, below={"fencing": 2})
    assert records.get("A", "1") == {"pk": "A", "sk": "1", "fencing": 2}


def test_a_map_is_compared_as_a_whole(records: Records) -> None:
    records.update("A", "1", {"outcome": {"state": "X", "seconds": 3.0}})
    read = records.get("A", "1")
    assert read is not None
    assert read["outcome"] == {"state": "X", "seconds": 3.0}


def test_words_that_dynamodb_reserves_are_names_like_any(records: Records) -> None:
    reserved = {"state": 1, "name": 2, "size": 3, "status": 4}
    records.update("A", "1", reserved, expect={"token": None}, below={"number": 5})
    assert records.get("A", "1") == {"pk": "A", "sk": "1", **reserved}


def test_numbers_count_from_one_and_never_repeat(records: Records) -> None:
    assert [records.next_number("A", "N") for _ in range(3)] == [1, 2, 3]
    assert records.next_number("B", "N") == 1


def test_a_deleted_item_is_gone_however_often(records: Records) -> None:
    records.put({"pk": "A", "sk": "1"})
    records.put({"pk": "A", "sk": "2"})
    records.delete("A", "1")
    records.delete("A", "1")
    assert records.get("A", "1") is None
    assert [item["sk"] for item in records.query("A")] == ["2"]


def test_a_conditional_delete_leaves_what_somebody_changed(records: Records) -> None:
    records.put({"pk": "A", "sk": "1", "n": 2})
    for expected in ({"n": 1}, {"n": 2, "m": 1}):
        with pytest.raises(Conflict):
            records.delete("A", "1", expect=expected)
    with pytest.raises(Conflict):
        records.delete("A", "1", expect={"n": None})
    with pytest.raises(Conflict):
        records.delete("A", "2", expect={"n": 2})
    records.delete("A", "1", expect={"n": 2, "m": None})
    assert records.get("A", "1") is None
