"""A chain of slices over the direct stream: the whole's answers, many at once, and every failure in words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import helper
from profile_networks import residual, save, value, weights
from slicing_world import order_of, plan_of
from trained_networks import flags
from workflow_world import NOW, World

from isthmus import documents
from isthmus.bootstrap_chain import chained_slice, slice_asker
from isthmus.errors import (
    DeadlineExceeded,
    DigestMismatch,
    InvalidAnswer,
    InvalidCase,
    InvalidInput,
    InvalidModel,
    InvalidRequest,
    SignatureInvalid,
)
from isthmus.inference.engine import OnnxEngine
from isthmus.model.sliced import SlicedModel
from isthmus.transport.direct import DirectListener, DirectTransport
from isthmus.transport.inprocess import channel_pair
from isthmus.transport.pipelined import Pipelined
from isthmus.transport.ports import within
from isthmus.workflows.serve_slice import Chained, open_slice, work_of
from isthmus.workflows.slice_model import slice_model
from isthmus.workflows.slice_worker import SliceWorker

IMAGES = np.random.default_rng(1).standard_normal((6, 3, 16, 16)).astype("float32")
THREE = ([(0, 1)], [(1, 2)], [(2, 5)])
SECONDS = 20.0

Serve = Callable[[Chained], tuple[str, int]]


def cut(
    world: World, model: Path, *slices: list[tuple[int, int]], **changes: Any
) -> tuple[SlicedModel, Path]:
    folder = world.folder / "slices"
    order = order_of(model, plan_of(model, *slices), **changes)
    return slice_model(order, folder, signer=world.signer, open_engine=OnnxEngine, now=NOW), folder


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a chained slice on a free port of loopback; all end together."""
    started: list[tuple[SliceWorker, threading.Thread]] = []

    def start(chained: Chained) -> tuple[str, int]:
        listener = DirectListener(("127.0.0.1", 0), tls=None)
        worker = SliceWorker(chained, listener)
        thread = threading.Thread(target=worker.serve)
        started.append((worker, thread))
        thread.start()
        return listener.address

    yield start
    for worker, _ in started:
        worker.end()
    for _, thread in started:
        thread.join(SECONDS)


@pytest.fixture
def asking() -> Iterator[Callable[[tuple[str, int]], Pipelined]]:
    made: list[Pipelined] = []

    def make(address: tuple[str, int]) -> Pipelined:
        made.append(slice_asker(address, tls=None))
        return made[-1]

    yield make
    for asker in made:
        asker.close()


def in_a_row(folder: Path, count: int, serve: Serve) -> tuple[str, int]:
    """Serve all slices; return the first one's address."""
    address = None
    for number in reversed(range(count)):
        address = serve(chained_slice(folder, number, address, tls=None))
    assert address is not None
    return address


def test_a_chain_answers_what_the_whole_answers_many_at_once(
    world: World, tmp_path: Path, serve: Serve, asking: Any
) -> None:
    model = residual(tmp_path / "residual.onnx")
    _, folder = cut(world, model, *THREE)
    asker, whole = asking(in_a_row(folder, 3, serve)), OnnxEngine(model)
    questions = [{"image": IMAGES[k % 6 : k % 6 + 1]} for k in range(40)]
    answers = [asker.ask(question, deadline=within(SECONDS)) for question in questions]
    for question, answer in zip(questions, answers, strict=True):
        np.testing.assert_allclose(answer.result()["scores"], whole.run(question)["scores"], atol=1e-3)


def test_outputs_that_are_made_early_come_back_with_the_rest(
    world: World, tmp_path: Path, serve: Serve, asking: Any
) -> None:
    model = flags(tmp_path / "flags.onnx")
    _, folder = cut(world, model, [(0, 1)], [(1, 2)], [(2, 3)])
    asked = {"x": np.random.default_rng(3).standard_normal((2, 5)).astype("float32")}
    found = asking(in_a_row(folder, 3, serve)).ask(asked, deadline=within(SECONDS)).result()
    expected = OnnxEngine(model).run(asked)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_an_output_that_is_an_input_is_answered(
    world: World, tmp_path: Path, serve: Serve, asking: Any
) -> None:
    ends = [value("x", ["n", 3])]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    model = save(tmp_path / "through.onnx", nodes, ends, [value("y", ["n", 3]), *ends], [weights("w", 3, 3)])
    _, folder = cut(world, model, [(0, 1)], [(1, 2)])
    asked = {"x": IMAGES.reshape(-1, 3)[:2]}
    found = asking(in_a_row(folder, 2, serve)).ask(asked, deadline=within(SECONDS)).result()
    assert found.keys() == {"x", "y"}
    np.testing.assert_array_equal(found["x"], asked["x"])


def test_who_has_the_inputs_runs_the_head_and_asks_for_the_rest(
    world: World, tmp_path: Path, serve: Serve
) -> None:
    model = residual(tmp_path / "residual.onnx")
    _, folder = cut(world, model, *THREE)
    middle = serve(chained_slice(folder, 1, serve(chained_slice(folder, 2, None, tls=None)), tls=None))
    head = chained_slice(folder, 0, middle, tls=None)
    answers = [head.ask({"image": IMAGES[:2]}, deadline=within(SECONDS)) for _ in range(3)]
    expected = OnnxEngine(model).run({"image": IMAGES[:2]})["scores"]
    for answer in answers:
        np.testing.assert_allclose(answer.result()["scores"], expected, atol=1e-3)
    assert head.following is not None
    head.following.close()


def test_a_cut_in_8_bits_answers_about_the_same(
    world: World, tmp_path: Path, serve: Serve, asking: Any
) -> None:
    model = residual(tmp_path / "residual.onnx")
    document, folder = cut(world, model, [(0, 2)], [(2, 5)], cast="int8")
    found = (
        asking(in_a_row(folder, 2, serve)).ask({"image": IMAGES}, deadline=within(SECONDS)).result()["scores"]
    )
    expected = OnnxEngine(model).run({"image": IMAGES})["scores"]
    assert (
        0
        < float(np.abs(found - expected).max())
        <= 2 * document.proof.relative * float(np.ptp(expected)) + 0.05
    )


@pytest.mark.parametrize(
    ("question", "kind", "said"),
    [
        (
            {"picture": IMAGES},
            InvalidRequest,
            r"slice 0 \(residual-slice-0\) needs 'image'; there is picture",
        ),
        ({}, InvalidRequest, "needs 'image'; there is nothing"),
        ({"image": IMAGES[:, :2]}, InvalidRequest, "the model refuses these inputs"),
        ({"image": np.array([None])}, InvalidInput, "only numbers and booleans are sent"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_wrong_and_the_next_one_is_answered(
    world: World, tmp_path: Path, serve: Serve, asking: Any, question: Any, kind: type[Exception], said: str
) -> None:
    model = residual(tmp_path / "residual.onnx")
    _, folder = cut(world, model, [(0, 2)], [(2, 5)])
    asker = asking(in_a_row(folder, 2, serve))
    with pytest.raises(kind, match=said):
        asker.ask(question, deadline=within(SECONDS)).result()
    assert asker.ask({"image": IMAGES}, deadline=within(SECONDS)).result()["scores"].shape == (6, 10)


class Failing:
    """An engine that raises what nobody foresaw."""

    def run(self, inputs: Any) -> Any:
        raise ArithmeticError("overflow")


def test_a_failure_in_the_middle_comes_back_through_the_chain(
    world: World, tmp_path: Path, serve: Serve, asking: Any
) -> None:
    document, folder = cut(world, residual(tmp_path / "residual.onnx"), *THREE)
    last = serve(Chained(work_of(document, 2, Failing())))
    first = serve(chained_slice(folder, 0, serve(chained_slice(folder, 1, last, tls=None)), tls=None))
    with pytest.raises(InvalidModel, match=r"slice 2 \(residual-slice-2\) failed: ArithmeticError: overflow"):
        asking(first).ask({"image": IMAGES}, deadline=within(SECONDS)).result()


def test_a_slice_that_nobody_serves_is_named_before_the_time_is_up(
    world: World, tmp_path: Path, serve: Serve, asking: Any
) -> None:
    _, folder = cut(world, residual(tmp_path / "residual.onnx"), [(0, 2)], [(2, 5)])
    gone = DirectListener(("127.0.0.1", 0), tls=None)
    address = gone.address
    gone.close()
    asker = asking(serve(chained_slice(folder, 0, address, tls=None)))
    answers = [asker.ask({"image": IMAGES}, deadline=within(0.8)) for _ in range(3)]
    for answer in answers:
        with pytest.raises(
            DeadlineExceeded, match=f"the slice at 127.0.0.1:{address[1]} did not answer in time"
        ):
            answer.result()


class OneEnd:
    """A transport to one end of a channel within this process."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def connect(self, *, deadline: float) -> Any:
        return self.channel


def test_who_sends_no_label_is_no_slice() -> None:
    ours, theirs = channel_pair()
    theirs.send({"scores": IMAGES}, deadline=within(SECONDS))
    asker = Pipelined(OneEnd(ours))
    with pytest.raises(DeadlineExceeded, match="did not answer in time"):
        asker.ask({"image": IMAGES}, deadline=within(0.3)).result()
    asker.close()


def test_a_closed_asker_answers_with_that() -> None:
    asker = Pipelined(DirectTransport(("127.0.0.1", 9), tls=None))
    asked = asker.ask({"image": IMAGES}, deadline=within(SECONDS))
    asker.close()
    for answer in (asked, asker.ask({"image": IMAGES}, deadline=within(SECONDS))):
        with pytest.raises(Exception, match="this side closed the channel"):
            answer.result()


def test_a_folder_that_is_not_what_was_signed_is_not_served(world: World, tmp_path: Path) -> None:
    document, folder = cut(world, residual(tmp_path / "residual.onnx"), [(0, 2)], [(2, 5)])
    assert open_slice(folder, 1).is_last
    with pytest.raises(InvalidInput, match="there is no slice 2 of residual; it has 0 to 1"):
        open_slice(folder, 2)
    with (folder / document.slices[0].folder / "model.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(DigestMismatch):
        open_slice(folder, 0)
    other = msgspec.structs.replace(document, network="other")
    (folder / "sliced.json").write_bytes(documents.encode(other))
    with pytest.raises(SignatureInvalid):
        open_slice(folder, 1)


def test_raw_inputs_are_not_cast_on_their_way(world: World, tmp_path: Path) -> None:
    document, _ = cut(world, residual(tmp_path / "residual.onnx"), [(0, 2)], [(2, 5)])
    late = msgspec.structs.replace(document.transfers[0], source=-1, target=1, tensors=("image",))
    changed = msgspec.structs.replace(document, cast="int8", transfers=(*document.transfers, late))
    with pytest.raises(InvalidCase, match="would hand on the raw input image as int8"):
        work_of(changed, 0, Failing())
    # Whole numbers, such as a mask, are sent as they are with any cast.
    mask = msgspec.structs.replace(document.inputs[0], datatype="INT64")
    assert work_of(msgspec.structs.replace(changed, inputs=(mask,)), 0, Failing()).cast == "int8"


def test_the_last_slice_has_no_next_and_others_have(world: World, tmp_path: Path) -> None:
    document, _ = cut(world, residual(tmp_path / "residual.onnx"), [(0, 2)], [(2, 5)])
    with pytest.raises(InvalidInput, match="slice 0 of 2 is not the last one: it needs a next"):
        Chained(work_of(document, 0, Failing()))
    asker = Pipelined(DirectTransport(("127.0.0.1", 9), tls=None))
    with pytest.raises(InvalidInput, match="slice 1 of 2 is the last one: it hands on to nobody"):
        Chained(work_of(document, 1, Failing()), asker)
    asker.close()


def test_what_the_other_side_fails_of_otherwise_is_a_wrong_answer() -> None:
    from isthmus.transport.pipelined import Label, labelled

    ours, theirs = channel_pair()
    asker = Pipelined(OneEnd(ours))
    answer = asker.ask({"image": IMAGES}, deadline=within(SECONDS))
    theirs.receive(deadline=within(SECONDS))
    theirs.send(labelled({}, Label(0, error="Surprise", sentence="it is Tuesday")), deadline=within(SECONDS))
    with pytest.raises(InvalidAnswer, match="it is Tuesday"):
        answer.result()
    asker.close()
