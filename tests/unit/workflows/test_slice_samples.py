"""Samples for a proof: as the model takes them, in batches that it takes, and refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.errors import InvalidInput, SlicesDiffer
from isthmus.workflows.prove_slices import Running, prove_slices
from isthmus.workflows.read_samples import arrays_from_file
from isthmus.workflows.slice_samples import MOST_SAMPLES, InputForm, given, made_up

OPEN = InputForm("x", "float32", (1, 3), True)
TENS = InputForm("x", "float32", (4, 3), False)
STATE = InputForm("state", "float32", (2, 1, 3), False)
RATE = InputForm("rate", "int64", (), False)


def runs(forms: Any, **arrays: Any) -> list[tuple[int, dict[str, tuple[int, ...]]]]:
    found = given(forms, arrays, "samples.npz")
    return [(count, {name: array.shape for name, array in feeds.items()}) for count, feeds in found.runs()]


def test_an_open_batch_is_tried_with_one_and_with_more() -> None:
    assert runs([OPEN], any=np.zeros((7, 3), "uint8")) == [
        (1, {"x": (1, 3)}),
        (4, {"x": (4, 3)}),
        (2, {"x": (2, 3)}),
    ]


def test_a_fixed_batch_takes_so_many_at_a_time() -> None:
    assert runs([TENS], x=np.zeros((11, 3))) == [(4, {"x": (4, 3)}), (4, {"x": (4, 3)})]
    assert runs([TENS], x=np.zeros((2, 4, 3))) == [(1, {"x": (4, 3)}), (1, {"x": (4, 3)})]


def test_of_several_inputs_each_sample_is_a_run() -> None:
    arrays = {"x": np.zeros((2, 3)), "state": np.zeros((2, 2, 1, 3)), "rate": np.array([16, 8])}
    assert runs([OPEN, STATE, RATE], **arrays) == [(1, {"x": (1, 3), "state": (2, 1, 3), "rate": ()})] * 2


def test_of_many_samples_some_are_taken_evenly() -> None:
    array = np.arange(3000, dtype="float32").reshape(1000, 3)
    found = given([OPEN], {"x": array}, "it")
    taken = np.concatenate([feeds["x"] for _, feeds in found.runs()])
    assert (found.count, len(taken)) == (MOST_SAMPLES, MOST_SAMPLES)
    assert (taken[0, 0], taken[-1, 0]) == (0, 2997)


def test_made_up_samples_are_the_same_each_time() -> None:
    one, other = (
        [feeds for _, feeds in made_up([OPEN, STATE, RATE, InputForm("on", "bool", (1,), False)]).runs()]
        for _ in range(2)
    )
    assert len(one) == 8
    for a, b in zip(one, other, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
        assert (a["x"].dtype, a["rate"].dtype, a["on"].dtype) == ("float32", "int64", "bool")


@pytest.mark.parametrize(
    ("forms", "arrays", "sentence"),
    [
        (
            [OPEN],
            {"x": np.zeros((2, 4))},
            r"must hold x as float32 \[samples, 3\]; it holds float64 \[2, 4\]",
        ),
        ([OPEN], {"x": np.zeros((0, 3))}, "holds no sample of x"),
        ([RATE], {"rate": np.zeros(2)}, r"must hold rate as int64 \[samples\]; it holds float64 \[2\]"),
        (
            [OPEN, RATE],
            {"x": np.zeros((2, 3))},
            "for each input, x, rate; it lacks rate: write them with numpy.savez",
        ),
        (
            [OPEN, RATE],
            {"x": np.zeros((2, 3)), "rate": np.array([1])},
            "must hold as many samples of each input",
        ),
        ([TENS], {"x": np.zeros((3, 3))}, "the model takes 4 samples at a time; it holds 3"),
    ],
)
def test_samples_that_do_not_fit_are_refused(forms: Any, arrays: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        given(forms, arrays, "it")


def test_files_hold_one_array_or_several(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((2, 3)))
    np.savez(tmp_path / "two.npz", x=np.zeros((2, 3)), rate=np.array([1, 2]))
    np.savez(tmp_path / "text.npz", x=np.array(["a"]))
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    assert list(arrays_from_file(tmp_path / "one.npy")) == [""]
    assert {name: array.shape for name, array in arrays_from_file(tmp_path / "two.npz").items()} == {
        "x": (2, 3),
        "rate": (2,),
    }
    for name, sentence in (
        ("text.npz", "numbers"),
        ("bad.npz", "cannot be read"),
        ("none.npy", "cannot be read"),
    ):
        with pytest.raises(InvalidInput, match=sentence):
            arrays_from_file(tmp_path / name)


class Fixed:
    """An engine that answers with what it was given."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def run(self, inputs: Any) -> dict[str, Any]:
        return {"y": np.asarray(self.answers.pop(0), "float32")}


def proof(ours: Any, whole: Any, cast: Any = "") -> Any:
    samples = given([OPEN], {"x": np.zeros((1, 3))}, "it")
    return prove_slices(Fixed(whole), [Running(("x",), Fixed(ours))], ["y"], samples, cast=cast)


def test_the_figures_are_of_the_largest_difference_and_the_range() -> None:
    (found,) = proof([0.0, 1.0, 3.0], [0.0, 1.25, 4.0], "int8").outputs
    assert (found.largest_difference, found.range, found.relative) == (1.0, 4.0, 0.25)
    (same,) = proof([2.0, 2.5], [2.0, 2.0], "int8").outputs
    assert (same.range, same.relative) == (0.0, 0.25)
    (nothing,) = proof([np.nan, -np.inf, 1.0], [np.nan, -np.inf, 1.0]).outputs
    assert (nothing.largest_difference, nothing.relative) == (0.0, 0.0)


def test_more_may_be_allowed_and_the_proof_says_so() -> None:
    samples = given([OPEN], {"x": np.zeros((1, 3))}, "it")
    with pytest.raises(
        SlicesDiffer, match=r"by 0.01 of its range .* \(it\), and at most 2e-06 .*--tolerance"
    ):
        proof([0.0, 1.0], [0.01, 1.01])
    parts = [Running(("x",), Fixed([0.0, 1.0]))]
    found = prove_slices(Fixed([0.01, 1.01]), parts, ["y"], samples, allowed=0.02)
    assert (found.allowed, round(found.relative, 3)) == (0.02, 0.01)


@pytest.mark.parametrize("cast", ["", "int8"])
@pytest.mark.parametrize(
    ("ours", "whole"), [([1.0, np.nan], [1.0, 2.0]), ([1.0, 2.0], [1.0, np.inf]), ([1.0], [1.0, 2.0])]
)
def test_other_shapes_and_what_is_no_number_are_never_let_pass(ours: Any, whole: Any, cast: Any) -> None:
    with pytest.raises(SlicesDiffer):
        proof(ours, whole, cast)
