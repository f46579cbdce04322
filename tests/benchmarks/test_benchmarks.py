"""Benchmarks: each has a goal and a script, and ``holds`` is what its own figures say."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.report import GOALS, holds

FOLDER = GOALS.parent
RESULTS = [
    json.loads(line)
    for line in (FOLDER / "RESULTS.md").read_text().splitlines()
    if line.startswith('{"name"')
]


def test_every_goal_has_a_script_and_every_script_a_goal() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py")} - {
        "__init__",
        "__main__",
        "cut_graphs",
        "floor",
        "generated",
        "networks",
        "paced_s3",
        "report",
        "stage",
        "workloads",
    }
    assert scripts == set(json.loads(GOALS.read_text()))


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result["name"])
def test_results_hold_by_their_own_figures(result: dict[str, object]) -> None:
    goals = json.loads(GOALS.read_text())
    name = str(result["name"])
    assert result["goal"] == goals[name]
    assert result["holds"] is holds(name, result, goals)
    ours, reference = float(str(result["ours"])), float(str(result["reference"]))
    ratio = reference / ours if result.get("ratio_is") == "the reference over ours" else ours / reference
    assert result["ratio"] == pytest.approx(ratio, abs=1e-3)


def test_results_cover_every_benchmark() -> None:
    assert {result["name"] for result in RESULTS} == set(json.loads(GOALS.read_text()))


CASES = [("at_most", 9, True), ("at_most", 11, False), ("at_least", 9, False), ("at_least", 11, True)]


@pytest.mark.parametrize(("direction", "value", "expected"), CASES)
def test_directions(direction: str, value: float, expected: bool) -> None:
    goals = {"it": {"figure": "ours", "direction": direction, "goal": 10}}
    assert holds("it", {"ours": value}, goals) is expected


def test_no_timing_decides_a_test() -> None:
    for path in (FOLDER.parent / "tests").rglob("test_*.py"):
        assert not re.search(r"assert .*(perf_counter|monotonic)\(\)", path.read_text()), path
