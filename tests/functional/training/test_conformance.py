"""The contract between a job and its script, asked on the rig, in our containers, under the toolkit."""

from __future__ import annotations

import pytest

from benchmarks.conformance.cases import CASES
from benchmarks.contract_conformance import compared

pytestmark = pytest.mark.slow


def test_a_script_finds_the_same_wherever_it_runs() -> None:
    rows = compared(list(CASES))
    assert len(rows) == len(CASES) >= 25
    assert [row for row in rows if not row["equal"]] == []
