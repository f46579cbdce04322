"""Gradients in eight bits, with what was lost of those before."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from learning_world import STEPS, Crash, World

from isthmus.errors import InvalidFrame
from isthmus.workflows.slice_gradients import RESIDUAL, ROUNDED, Rounding, restored


def test_what_is_lost_of_one_gradient_comes_with_the_next_ones() -> None:
    gradient = np.random.default_rng(1).normal(size=(8, 16)).astype("f4")
    rounding, sums = Rounding(), np.zeros_like(gradient)
    for k in range(1, 9):
        sent = rounding.rounded(2, 0, {"g": gradient})
        assert sent["g"].nbytes < gradient.nbytes / 2
        sums += restored(sent)["g"]
        # Never more than half a step of the last rounding is missing, however many there were.
        assert np.abs(k * gradient - sums).max() < np.ptp(gradient) / 255
    assert list(rounding.state(2)) == [f"{RESIDUAL}0:g"]


def test_micro_batches_and_slices_do_not_mix() -> None:
    rounding = Rounding()
    gradient = np.array([0.0, 0.3, 1.0], "f4")
    first = restored(rounding.rounded(0, 0, {"g": gradient}))["g"]
    for number, microbatch in ((0, 1), (1, 0)):
        assert (
            restored(rounding.rounded(number, microbatch, {"g": gradient}))["g"].tobytes() == first.tobytes()
        )
    assert restored(rounding.rounded(0, 0, {"g": gradient * 0}))["g"].any()


def test_what_has_no_eight_bits_goes_as_it_is() -> None:
    given = {"wide": np.arange(3.0), "endless": np.array([1, np.inf], "f4")}
    sent = Rounding().rounded(0, 0, given)
    assert {name: array.tobytes() for name, array in sent.items()} == {
        name: array.tobytes() for name, array in given.items()
    }


@pytest.mark.parametrize("fault", ["absent", "short", "garbage"])
def test_a_description_of_another_array_is_refused(fault: str) -> None:
    sent = Rounding().rounded(0, 0, {"g": np.array([0.0, 0.3, 1.0], "f4")})
    if fault == "absent":
        del sent["g"]
    elif fault == "short":
        sent["g"] = sent["g"][:-1]
    else:
        sent[f"{ROUNDED}g"] = np.zeros(3, np.uint8)
    with pytest.raises(InvalidFrame):
        restored(sent)


@pytest.mark.parametrize(("places", "cuts"), [((0, 1, 2), (1, 3)), ((0, 1, 0), (1, 4))])
def test_a_training_that_was_broken_off_comes_to_the_bits_of_one_that_was_not(
    places: tuple[int, ...], cuts: tuple[int, ...], tmp_path: Path
) -> None:
    results = []
    for name in ("undisturbed", "disturbed", "whole"):
        world = World(tmp_path / name, places, cuts, rounds=name != "whole")
        crashed = threading.Event()

        def crash(step: int, microbatch: int, crashed: threading.Event = crashed, name: str = name) -> None:
            if name == "disturbed" and (step, microbatch) == (5, 1) and not crashed.is_set():
                crashed.set()
                raise Crash

        world.start(0)
        world.start(1, crash)
        for worker in range(2, world.count):
            world.start(worker)
        if name == "disturbed":
            world.join(1)
            assert isinstance(world.errors.pop(1), Crash)
            world.start(1)
        world.join_all()
        assert world.errors == {}
        results.append(world.result())
    undisturbed, disturbed, whole = results
    assert undisturbed == disturbed
    assert undisturbed["step"] == bytes([STEPS])
    assert any(name.startswith(RESIDUAL) for name in undisturbed)
    np.testing.assert_allclose(
        np.frombuffer(undisturbed["parameter:w0"], "f4"),
        np.frombuffer(whole["parameter:w0"], "f4"),
        rtol=1e-2,
    )
