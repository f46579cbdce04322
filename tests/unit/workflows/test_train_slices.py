"""Workers that train slices: what several come to is what one comes to, whoever is lost on the way."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from learning_world import FINGERPRINT, RECIPE, ROWS, STEPS, Crash, World

from isthmus.adapters.shared_folder import SharedFolder
from isthmus.errors import (
    AttemptLost,
    DigestMismatch,
    EnvironmentProblem,
    InvalidFrame,
    InvalidInput,
    InvalidJob,
    InvalidModel,
)
from isthmus.frameworks.trainable import check_weights
from isthmus.transport.inprocess import channel_pair
from isthmus.transport.ports import within
from isthmus.workflows import slice_notes
from isthmus.workflows.slice_batches import Batches
from isthmus.workflows.slice_checkpoints import SliceCheckpoints
from isthmus.workflows.slices_together import weights_together

DIVISIONS = [((0, 1), (2,)), ((0, 1, 2), (1, 3)), ((0, 1, 2, 3), (1, 2, 3)), ((0, 1, 0), (1, 4))]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one worker comes to that has every operator."""
    world = World(tmp_path_factory.mktemp("alone"), (0,), ())
    world.start_all()
    world.join_all()
    assert not world.errors
    return world.result()


@pytest.mark.parametrize(("places", "cuts"), DIVISIONS)
def test_slices_come_to_the_same_bits_as_one_worker(
    places: tuple[int, ...], cuts: tuple[int, ...], alone: dict[str, bytes], tmp_path: Path
) -> None:
    world = World(tmp_path, places, cuts)
    world.start_all()
    world.join_all()
    assert world.errors == {}
    assert world.result() == alone
    assert alone["step"] == bytes([STEPS])


def once(worker: int, step: int, microbatch: int) -> Callable[[int], Callable[[int, int], None]]:
    """Return for each worker what crashes there once, if it is the one."""
    crashed = threading.Event()

    def of(which: int) -> Callable[[int, int], None]:
        def crash(now: int, at: int) -> None:
            if which == worker and (now, at) == (step, microbatch) and not crashed.is_set():
                crashed.set()
                raise Crash

        return crash

    return of


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize(("step", "microbatch"), [(0, 1), (5, 3)])
def test_who_is_lost_and_comes_again_makes_all_go_on_from_the_last_common_checkpoint(
    lost: int, step: int, microbatch: int, alone: dict[str, bytes], tmp_path: Path
) -> None:
    world = World(tmp_path, *DIVISIONS[1])
    crash = once(lost, step, microbatch)
    for worker in range(world.count):
        world.start(worker, crash(worker))
    world.join(lost)
    assert isinstance(world.errors.pop(lost), Crash)
    world.start(lost)
    world.join_all()
    assert world.errors == {}
    assert world.result() == alone


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_through_a_relay_too_who_is_lost_makes_all_go_on_from_the_last_common_checkpoint(
    lost: int, alone: dict[str, bytes], tmp_path: Path
) -> None:
    world = World(tmp_path, *DIVISIONS[1], relay=SharedFolder(tmp_path / "relay"))
    crash = once(lost, 3, 1)
    for worker in range(world.count):
        world.start(worker, crash(worker))
    world.join(lost)
    assert isinstance(world.errors.pop(lost), Crash)
    world.start(lost)
    world.join_all()
    assert world.errors == {}
    assert world.result() == alone


def test_the_first_gives_back_what_another_has_lost_with_its_disk(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    world = World(tmp_path, *DIVISIONS[0], bare=frozenset({1}))
    world.start(0)
    world.start(1, once(1, 5, 2)(1))
    world.join(1)
    assert isinstance(world.errors.pop(1), Crash)
    shutil.rmtree(tmp_path / "worker-1")
    world.start(1)
    world.join_all()
    assert world.errors == {}
    assert world.result() == alone
    shutil.rmtree(tmp_path / "worker-1")
    step, weights = weights_together([tmp_path / "worker-0"])
    assert (step, len(weights)) == (STEPS, 4)


def test_the_first_keeps_nothing_of_one_that_shares_no_tensor_with_it(tmp_path: Path) -> None:
    world = World(tmp_path, *DIVISIONS[1], bare=frozenset({2}))
    for worker in range(world.count):
        world.start(worker, patience_seconds=0.5)
    world.join_all()
    assert isinstance(world.errors[2], InvalidJob)
    assert "worker 2 shares no tensors with worker 0" in str(world.errors[2])
    assert isinstance(world.errors[0], AttemptLost)


def test_all_are_lost_and_a_finished_training_is_not_done_again(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    world = World(tmp_path, *DIVISIONS[0])
    world.start(0, once(0, 5, 0)(0))
    world.start(1, once(1, 5, 0)(1), patience_seconds=1.0)
    world.join_all()
    assert set(world.errors) == {0, 1}
    for _ in range(2):
        again = World(tmp_path, *DIVISIONS[0])
        again.start_all()
        again.join_all()
        assert again.errors == {}
        assert again.result() == alone


@pytest.mark.parametrize("again", [0, 1])
def test_who_is_started_again_when_all_have_ended_ends_well_without_the_others(
    again: int, alone: dict[str, bytes], tmp_path: Path
) -> None:
    world = World(tmp_path, *DIVISIONS[0])
    world.start_all()
    world.join_all()
    world.start(again, patience_seconds=0.3)
    world.join(again)
    assert world.errors == {}
    assert world.result() == alone


def test_who_waits_in_vain_names_who_is_missing(tmp_path: Path) -> None:
    world = World(tmp_path, *DIVISIONS[0])
    world.start(1, patience_seconds=0.2)
    world.join(1)
    assert isinstance(world.errors[1], AttemptLost)
    assert "worker 1 waits for worker 0" in str(world.errors[1])


def test_workers_of_different_trainings_do_not_begin(tmp_path: Path) -> None:
    world = World(tmp_path, *DIVISIONS[0])
    world.start(0, patience_seconds=0.5)
    world.start(1, fingerprint="b" * 64)
    world.join_all()
    assert isinstance(world.errors[1], InvalidInput)
    assert "worker 0 trains another network" in str(world.errors[1])


def test_a_checkpoint_that_is_another_or_gone_is_not_used(tmp_path: Path) -> None:
    kept = SliceCheckpoints(tmp_path, FINGERPRINT)
    sha256 = kept.write(1, 4, {"parameter:w": np.arange(3.0)})
    assert kept.write(1, 4, {"parameter:w": np.arange(3.0)}) == sha256
    assert kept.read(1, 4, sha256)["parameter:w"].tolist() == [0, 1, 2]
    with pytest.raises(DigestMismatch, match="was committed"):
        kept.read(1, 4, "0" * 64)
    with pytest.raises(EnvironmentProblem, match="slice 1 goes on from step 6"):
        kept.read(1, 6, sha256)
    kept.commit(4, {"1": sha256})
    with pytest.raises(EnvironmentProblem, match="is of another training"):
        SliceCheckpoints(tmp_path, "b" * 64).committed()


def test_what_a_killed_worker_left_half_written_is_removed_with_the_older_files(tmp_path: Path) -> None:
    kept = SliceCheckpoints(tmp_path, FINGERPRINT)
    for step in (0, 2, 4):
        kept.write(1, step, {"parameter:w": np.arange(3.0)})
    folder = kept.path(1, 0).parent
    (folder / f".{kept.path(1, 6).name}.123").write_bytes(b"half")
    kept.forget(1, 2)
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002.npz", "step-00000004.npz"]


def test_the_weights_of_all_are_put_together(alone: dict[str, bytes], tmp_path: Path) -> None:
    world = World(tmp_path, *DIVISIONS[1])
    world.start_all()
    world.join_all()
    folders = [tmp_path / f"worker-{k}" for k in (2, 0, 1)]
    step, weights = weights_together(folders)
    assert step == STEPS
    expected = {name.partition(":")[2]: raw for name, raw in alone.items() if name.startswith("parameter:")}
    assert {name: array.tobytes() for name, array in weights.items()} == expected
    with pytest.raises(EnvironmentProblem, match="slice 1 has no file of step 9"):
        weights_together(folders[:2])
    with pytest.raises(EnvironmentProblem, match=r"one committed\.json among them; 0 of 1"):
        weights_together(folders[:1])


def test_a_served_network_has_to_be_the_one_that_learned() -> None:
    weights = {"w": np.zeros((2, 3))}
    check_weights({"w": (2, 3)}, weights)
    with pytest.raises(InvalidModel, match=r"needs v \(2,\); the slices learned none of that name"):
        check_weights({"v": (2,)}, weights)
    with pytest.raises(InvalidModel, match=r"needs w \(3, 2\); the slices learned \(2, 3\)"):
        check_weights({"w": (3, 2)}, weights)


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    kept = SliceCheckpoints(tmp_path, FINGERPRINT)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        kept.write(0, 0, {"x": np.array([{}], dtype=object)})
    assert kept.committed() is None


def test_arrays_arrive_as_they_lay_in_memory() -> None:
    sent = {
        "turned": np.arange(12.0, dtype="f4").reshape(3, 4).T,
        "spread": np.broadcast_to(np.float32(7), (2, 3)),
        "part": np.arange(20.0, dtype="f4").reshape(4, 5)[:, 1:3],
        "plain": np.arange(6.0, dtype="f4"),
    }
    here, there = channel_pair()
    values = {"kind": "F", "source": 0, "target": 1, "step": 2, "microbatch": 3}
    here.send(slice_notes.crossing(sent, **values), deadline=within(5))
    note, tensors = slice_notes.read(there.receive(deadline=within(5)))
    assert isinstance(note, slice_notes.Crossing)
    found = slice_notes.restored(note, tensors)
    for name, array in sent.items():
        assert np.array_equal(found[name], array)
        assert found[name].strides == array.strides


def test_a_message_without_a_note_is_none() -> None:
    with pytest.raises(InvalidFrame, match="has no note"):
        slice_notes.read({"x": np.zeros(1)})


def test_samples_come_in_one_order_for_all_and_each_once_an_epoch() -> None:
    rows = np.arange(ROWS)
    head, tail = Batches({"x": rows}, ROWS, RECIPE), Batches({"y": rows * 10}, ROWS, RECIPE)
    per_epoch = ROWS // RECIPE.samples
    epochs = []
    for epoch in range(2):
        found = []
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            for microbatch in range(RECIPE.microbatches):
                chosen = head(step, microbatch, ["x"])["x"]
                assert (tail(step, microbatch, ["y"])["y"] == chosen * 10).all()
                found += chosen.tolist()
        assert sorted(found) == rows.tolist()
        epochs.append(found)
    assert epochs[0] != epochs[1]
    with pytest.raises(InvalidInput, match="a slice of this worker reads y; it was given x"):
        head(0, 0, ["y"])
    with pytest.raises(InvalidInput, match="must have 40 rows"):
        Batches({"x": rows[1:]}, ROWS, RECIPE)
