from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from isthmus.inference.drift import EVERY, WINDOW, Drift, WatchedEngine, describe

RANDOM = np.random.default_rng(7)


class Echo:
    loads = 0

    def load(self) -> object:
        self.loads += 1
        return self

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return dict(inputs)


def watch(judged_on: Any, asked: Any, requests: int = EVERY * WINDOW) -> list[Drift]:
    """Return what is reported of a model that was judged on one thing and is asked another."""
    reports: list[Drift] = []
    engine = WatchedEngine(Echo(), describe(judged_on), reports.append)
    for number in range(requests):
        sample = asked(number)
        assert engine.run({"x": sample})["x"] is sample
    return reports


def normal(shift: float = 0.0, scale: float = 1.0) -> Any:
    return lambda number: (RANDOM.standard_normal((1, 3, 16, 16)) * scale + shift).astype(np.float32)


JUDGED = RANDOM.standard_normal((64, 3, 16, 16)).astype(np.float32)


def test_the_same_kind_of_input_is_no_drift() -> None:
    (drift,) = watch(JUDGED, normal())
    assert drift.index < 0.1
    assert drift.shift < 0.1


@pytest.mark.parametrize(("shift", "scale"), [(1.0, 1.0), (0.0, 3.0), (-2.0, 0.5)])
def test_another_kind_of_input_is_one(shift: float, scale: float) -> None:
    (drift,) = watch(JUDGED, normal(shift, scale))
    assert drift.index > 0.25
    assert drift.shift == pytest.approx(abs(shift), abs=0.2)


def test_one_channel_that_moves_is_seen() -> None:
    def asked(number: int) -> Any:
        sample = RANDOM.standard_normal((1, 3, 16, 16)).astype(np.float32)
        sample[:, 1] += 2
        return sample

    (drift,) = watch(JUDGED, asked)
    assert drift.shift == pytest.approx(2, abs=0.2)


def test_inputs_that_are_mostly_zero_have_a_baseline_too() -> None:
    pictures = np.where(RANDOM.random((32, 28, 28, 1)) < 0.8, 0, RANDOM.random((32, 28, 28, 1)))
    baseline = describe(pictures)
    assert sum(baseline.shares) == pytest.approx(1, abs=1e-4)
    assert len(baseline.shares) == len(baseline.edges) + 1
    (drift,) = watch(pictures, lambda number: pictures[number % 32][None])
    assert drift.index < 0.1


@pytest.mark.parametrize(
    "inputs", [np.zeros((4, 3)), np.array([["a"]], object), np.full((2, 2), np.nan), np.zeros((0, 3))]
)
def test_what_has_no_distribution_has_no_baseline(inputs: Any) -> None:
    assert describe(inputs) is None


def test_a_baseline_is_small_enough_for_an_environment_variable() -> None:
    many = RANDOM.standard_normal((32, 500)) * 1e9
    assert len(msgspec.json.encode(describe(many))) < 1000
    assert len(msgspec.json.encode(describe(many.reshape(-1, 8)))) < 1200


def test_reports_come_by_windows_and_hold_no_value_of_a_request() -> None:
    assert len(watch(JUDGED, normal(), EVERY * WINDOW * 3)) == 3
    assert watch(JUDGED, normal(), EVERY * (WINDOW - 1)) == []
    assert Drift.__struct_fields__ == ("index", "shift")


def test_a_report_that_fails_fails_no_request() -> None:
    heard: list[Drift] = []

    def report(drift: Drift) -> None:
        heard.append(drift)
        raise OSError("nobody listens")

    engine = WatchedEngine(Echo(), describe(JUDGED), report)
    for number in range(EVERY * WINDOW * 2):
        sample = normal()(number)
        assert engine.run({"x": sample})["x"] is sample
    assert len(heard) == 2


@pytest.mark.parametrize(
    "odd",
    [
        np.array([["a", "b"]], object),
        np.full((1, 3, 16, 16), np.inf, np.float32),
        np.full((1, 3, 16, 16), np.nan, np.float32),
        np.zeros((1, 5), np.float32),
        np.zeros((1, 3, 0), np.float32),
        np.array(1.0, np.float32),
    ],
    ids=["strings", "infinite", "nan", "other channels", "empty", "scalar"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_odd_inputs_fail_no_request(odd: Any) -> None:
    watch(JUDGED, lambda number: odd)
