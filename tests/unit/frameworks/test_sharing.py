from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isthmus.errors import InvalidDocument, InvalidInput
from isthmus.frameworks.replicas import SETTLING, Sharing, averaged, spans, summed


def step(sharing: Sharing, rows: int, rates: tuple[float, ...]) -> tuple[int, ...]:
    found = sharing.begin(rows)
    sharing.end(found, [count / rate for count, rate in zip(found, rates, strict=True)])
    return found


def test_shares_are_equal_until_rates_are_known_and_follow_them_then() -> None:
    sharing = Sharing(2)
    assert [step(sharing, 12, (2.0, 1.0)) for _ in range(SETTLING + 1)] == [(6, 6)] * (SETTLING + 1)
    assert step(sharing, 12, (2.0, 1.0)) == (8, 4)
    assert sharing.rates == pytest.approx((2.0, 1.0))


def test_shares_stay_where_a_change_would_gain_next_to_nothing() -> None:
    sharing = Sharing(2)
    for _ in range(SETTLING + 3):
        assert step(sharing, 200, (1.0, 1.01)) == (100, 100)


def test_who_begins_again_shares_as_it_is_written_whatever_it_measures(tmp_path: Path) -> None:
    record = tmp_path / "shares.jsonl"
    first = Sharing(2, record)
    before = [step(first, 12, (3.0, 1.0)) for _ in range(8)]
    again = Sharing(2, record, first=5)
    assert [step(again, 12, (1.0, 3.0)) for _ in range(3)] == before[5:]
    step(again, 12, (1.0, 3.0))
    assert [entry.step for entry in again.taken] == [5, 6, 7, 8]
    assert len(record.read_text().splitlines()) == 9


def test_a_line_that_was_cut_off_is_of_a_step_that_did_not_begin(tmp_path: Path) -> None:
    record = tmp_path / "shares.jsonl"
    record.write_text('{"step": 0, "rows": [1, 3]}\n{"step": 1, "ro')
    sharing = Sharing(2, record)
    assert sharing.begin(4) == (1, 3)
    sharing.end((1, 3), (1.0, 1.0))
    assert sharing.begin(4) == (1, 3)
    assert record.read_text().splitlines()[1:] == ['{"step": 1, "rows": [1, 3]}']


def test_a_step_that_did_not_end_is_begun_again_under_its_number(tmp_path: Path) -> None:
    record = tmp_path / "shares.jsonl"
    sharing = Sharing(2, record, fixed=(3.0, 1.0))
    for _ in range(2):
        assert sharing.begin(4) == (3, 1)
    sharing.end((3, 1), (1.0, 1.0))
    assert sharing.begin(8) == (6, 2)
    sharing.end((6, 2), (1.0, 1.0))
    again = Sharing(2, record)
    for rows, shares in ((4, (3, 1)), (8, (6, 2))):
        assert again.begin(rows) == shares
        again.end(shares, (1.0, 1.0))


def test_a_record_of_another_training_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "shares.jsonl"
    record.write_text('{"step": 0, "rows": [1, 3]}\n')
    with pytest.raises(InvalidInput, match="step 0 had 4 samples; it has 6: this is another training"):
        Sharing(2, record).begin(6)
    with pytest.raises(InvalidDocument, match="has shares of 2 replicas; there are 3"):
        Sharing(3, record)
    record.write_text("{}\n")
    with pytest.raises(InvalidDocument, match="no record of shares"):
        Sharing(2, record)
    with pytest.raises(InvalidInput, match="there are 2 replicas, and rates of 1"):
        Sharing(2, fixed=(1.0,))


def test_arrays_of_replicas_are_added_in_order_and_averaged_by_samples() -> None:
    parts = [{"x": np.array([value], "f4")} for value in (1e8, 1.0, -1e8)]
    assert summed(parts, "x") == np.float32(0)
    assert averaged(parts[:2], (1, 3), "x") == np.float32(0.25e8 + 0.75)
    assert [entry.indices(10)[:2] for entry in spans((3, 0, 2))] == [(0, 3), (3, 3), (3, 5)]
