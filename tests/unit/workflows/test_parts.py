"""Parts of a network that a worker computes, over the direct stream: what is asked is what a few lines of numpy are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from isthmus.errors import DeadlineExceeded, InvalidFrame, InvalidInput, SessionLost
from isthmus.frameworks.parts import MOST_KEPT, AskedPart, Opening, position
from isthmus.frameworks.replicas import Sharing
from isthmus.frameworks.replicated import Replicas
from isthmus.transport.direct import DirectListener, DirectTransport
from isthmus.workflows.ask_parts import AskedPlace
from isthmus.workflows.part_notes import read
from isthmus.workflows.serve_parts import PartWorker

OPENING = Opening("numpy", b"x * w", {})
X = np.arange(12, dtype="f4").reshape(4, 3)
W = np.array([1, 2, 3], "f4")


class Product:
    """``x * w``; counts what it is sent."""

    def __init__(self, opening: Opening) -> None:
        assert opening == OPENING
        self.weights: Any = None
        self.sent: list[list[str]] = []

    def forward(
        self, arrays: Any, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> tuple[dict[str, Any], Any]:
        self.sent.append(sorted(arrays))
        self.weights = arrays.get("w", self.weights)
        if "x" not in arrays:
            raise InvalidInput("there is no x")
        assert arrays["x"].flags.c_contiguous != ("odd" in wanted)
        return {"y": arrays["x"] * self.weights}, (arrays["x"], self.weights)

    def backward(self, kept: Any, gradients: Any) -> dict[str, Any]:
        x, w = kept
        return {"x": gradients["y"] * w, "w": (gradients["y"] * x).sum(0)}


class World:
    """A worker, and what it opened."""

    def __init__(self) -> None:
        self.parts: list[Product] = []
        self.places: list[AskedPlace] = []
        self.make: Callable[[Opening], Product] = Product
        self.listener = DirectListener(("127.0.0.1", 0), tls=None)
        self.worker = PartWorker(self.listener, open=self._open)
        self.thread = threading.Thread(target=self.worker.serve)
        self.thread.start()

    def _open(self, opening: Opening) -> Product:
        self.parts.append(self.make(opening))
        return self.parts[-1]

    def place(self, seconds: float = 20.0) -> AskedPlace:
        transport = DirectTransport(self.listener.address, tls=None)
        self.places.append(AskedPlace("the worker", transport, seconds))
        return self.places[-1]

    def end(self) -> None:
        for place in self.places:
            place.close()
        self.worker.end()
        self.thread.join()


@pytest.fixture
def world() -> Iterator[World]:
    found = World()
    yield found
    found.end()


def ask(part: AskedPart, x: Any, w: Any = W, wanted: Sequence[str] = ("x", "w")) -> tuple[int, Any]:
    call, pending = part.forward({"x": x}, {"w": w}, kept=True, training=True, wanted=wanted)
    return call, pending().arrays["y"]


def test_passes_come_back_and_parameters_go_only_where_they_have_changed(world: World) -> None:
    part = AskedPart(world.place(), OPENING)
    call, y = ask(part, X)
    np.testing.assert_array_equal(y, X * W)
    ask(part, X)
    _, y = ask(part, X, -0.0 * W)
    assert np.signbit(y[1:]).all()
    _, y = ask(part, X, 0.0 * W)
    assert not np.signbit(y).any()
    assert world.parts[0].sent == [["w", "x"], ["x"], ["w", "x"], ["w", "x"]]
    back = part.backward(call, {"y": np.ones_like(X)}, ())().arrays
    np.testing.assert_array_equal(back["x"], np.ones_like(X) * W)
    np.testing.assert_array_equal(back["w"], X.sum(0))


def test_an_array_lies_in_memory_there_as_it_does_here(world: World) -> None:
    part = AskedPart(world.place(), OPENING)
    _, y = ask(part, np.asfortranarray(X), wanted=("odd",))
    np.testing.assert_array_equal(y, X * W)


def test_what_cannot_be_computed_is_said_and_the_next_call_is_answered(world: World) -> None:
    part = AskedPart(world.place(), OPENING)
    _, pending = part.forward({}, {"w": W}, kept=False, training=False, wanted=())
    with pytest.raises(InvalidInput, match="the worker at the worker says: there is no x"):
        pending()
    call, _ = ask(part, X)
    part.backward(call, {"y": X}, ())()
    with pytest.raises(InvalidInput, match="is not kept any more"):
        part.backward(call, {"y": X}, ())()


def test_of_many_forward_passes_the_oldest_is_forgotten(world: World) -> None:
    part = AskedPart(world.place(), OPENING)
    calls = [ask(part, X)[0] for _ in range(MOST_KEPT + 1)]
    part.backward(calls[1], {"y": X}, ())()
    with pytest.raises(InvalidInput, match="is not kept any more"):
        part.backward(calls[0], {"y": X}, ())()


def test_after_a_lost_channel_the_step_begins_again_with_everything_sent_again(world: World) -> None:
    place = world.place()
    part = AskedPart(place, OPENING)
    call, _ = ask(part, X)
    place.close()
    with pytest.raises(SessionLost, match="begin the step again"):
        part.backward(call, {"y": X}, ())
    _, y = ask(part, X)
    np.testing.assert_array_equal(y, X * W)
    assert [each.sent for each in world.parts] == [[["w", "x"]], [["w", "x"]]]


def test_nobody_at_a_place_is_a_deadline_and_a_replica_that_was_asked_is_not_held(world: World) -> None:
    nobody = DirectListener(("127.0.0.1", 0), tls=None)
    gone = AskedPlace("nobody", DirectTransport(nobody.address, tls=None), 0.2)
    nobody.close()
    there = world.place()
    replicas = Replicas(OPENING, [there, gone], Sharing(2), ())
    with pytest.raises(DeadlineExceeded):
        replicas.forward({"x": X}, {"w": W}, kept=True, training=True, wanted=("w",))
    part = AskedPart(there, OPENING)
    np.testing.assert_array_equal(ask(part, X)[1], X * W)


def test_replicas_have_their_shares_and_add_up_what_they_find(world: World) -> None:
    replicas = Replicas(OPENING, [world.place(), world.place()], Sharing(2, fixed=(3.0, 1.0)), ())
    heads, backward = replicas.forward({"x": X}, {"w": W}, kept=True, training=True, wanted=("x", "w"))
    np.testing.assert_array_equal(heads["y"], X * W)
    back = backward({"y": np.ones_like(X)})
    np.testing.assert_array_equal(back["w"], X[:3].sum(0) + X[3:].sum(0))
    np.testing.assert_array_equal(back["x"], np.ones_like(X) * W)
    with pytest.raises(InvalidInput, match="share a batch by its first axis"):
        replicas.forward({"x": X, "z": X[:1]}, {"w": W}, kept=True, training=True, wanted=())


class Waiting(Product):
    """Computes once another one has begun to."""

    def __init__(self, opening: Opening, mine: threading.Event, other: threading.Event) -> None:
        super().__init__(opening)
        self._mine, self._other = mine, other

    def forward(self, arrays: Any, **wishes: Any) -> tuple[dict[str, Any], Any]:
        self._mine.set()
        assert self._other.wait(20)
        return super().forward(arrays, **wishes)

    def backward(self, kept: Any, gradients: Any) -> dict[str, Any]:
        self._mine.set()
        assert self._other.wait(20)
        return super().backward(kept, gradients)


@pytest.mark.parametrize("first", [0, 1])
def test_a_replica_here_and_one_elsewhere_compute_at_the_same_time(world: World, first: int) -> None:
    here, away = threading.Event(), threading.Event()
    world.make = lambda opening: Waiting(opening, away, here)
    places = [None, world.place()] if first == 0 else [world.place(), None]
    replicas = Replicas(OPENING, places, Sharing(2), (), lambda opening: Waiting(opening, here, away))
    heads, backward = replicas.forward({"x": X}, {"w": W}, kept=True, training=True, wanted=("w",))
    np.testing.assert_array_equal(heads["y"], X * W)
    here.clear()
    away.clear()
    np.testing.assert_array_equal(backward({"y": X})["w"], (X[:2] * X[:2]).sum(0) + (X[2:] * X[2:]).sum(0))


@pytest.mark.parametrize(
    ("cut", "found"), [("b_fwd", 1), ("b", 1), ("c", 3), (2, 2), ("deep.one", 2), ("deep", 2)]
)
def test_a_cut_is_named_by_operator_layer_or_number(cut: Any, found: int) -> None:
    assert position(["a_fwd", "b_fwd", "b_act", "c"], cut, ["", "", "deep.one", "deep.two"]) == found


def test_a_message_of_somebody_else_is_no_note() -> None:
    with pytest.raises(InvalidFrame, match="computes no parts of networks"):
        read({"x": X})
