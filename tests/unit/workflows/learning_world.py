"""A training in slices within one process: slices of numpy, workers as threads, channels between them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.adapters.system import SteadyClock, SystemThreads
from isthmus.errors import DeadlineExceeded
from isthmus.frameworks.sliced import Operator, SliceForm, cut
from isthmus.frameworks.trainable import Recipe, mask
from isthmus.planning.slicing.passes import passes
from isthmus.transport.inprocess import InProcessChannel, channel_pair
from isthmus.transport.ports import Channel, Listener, Objects, Transport
from isthmus.transport.relay_stream import RelayCaller, RelayListener, RelayTerms
from isthmus.workflows.slice_batches import Batches
from isthmus.workflows.slice_checkpoints import SliceCheckpoints
from isthmus.workflows.slice_gradients import Rounding
from isthmus.workflows.slice_meeting import Meeting
from isthmus.workflows.train_slices import Course, SliceTrainer

FINGERPRINT = "a" * 64
QUICK = RelayTerms(stale_seconds=0.1)
ROWS, STEPS, EVERY, FACTORS = 40, 9, 2, 4
RECIPE = Recipe(samples=8, microbatches=4, seed=3)
NETWORK = (
    *(
        Operator(
            f"h{k}",
            # Every factor reads the first one's result as well: it skips slices.
            tuple(dict.fromkeys(f"h{j}" for j in (0, k - 1) if 0 <= j < k)),
            (f"h{k}",),
            (f"w{k}",),
            ("x",) if k == 0 else (),
        )
        for k in range(FACTORS)
    ),
    Operator("loss", (f"h{FACTORS - 1}",), ("loss",), (), ("y",)),
)
"""h0 = w0 x; hk = wk h(k-1) d + h0, d a dropout mask; loss = (h - y)²."""


class Crash(Exception):
    """A worker dies."""


class NumpySlice:
    """Some of the network's operators."""

    def __init__(
        self, form: SliceForm, crash: Callable[[int, int], None] = lambda step, microbatch: None
    ) -> None:
        self.form = form
        self._crash = crash
        self._operators = NETWORK[form.start : form.end]
        self._weights = {name: np.float32(1 + int(name[1:]) / 10) for name in form.parameters}
        self._sums = dict.fromkeys(form.parameters, np.float32(0))
        self._steps = 0
        self._held: dict[int, dict[str, Any]] = {}

    def forward(self, step: int, microbatch: int, tensors: Mapping[str, Any]) -> dict[str, Any]:
        self._crash(step, microbatch)
        held = dict(tensors)
        for operator in self._operators:
            name = operator.name
            if name == "loss":
                held["loss"] = (held[operator.reads[0]] - held["y"]) ** 2
            elif name == "h0":
                held["h0"] = held["x"] * self._weights["w0"]
            else:
                before = f"h{int(name[1:]) - 1}"
                held[f"d{name}"] = mask(RECIPE.seed, step, microbatch, name, held[before].shape, 0.25)
                held[name] = held[before] * held[f"d{name}"] * self._weights[f"w{name[1:]}"] + held["h0"]
        self._held[microbatch] = held
        return {name: held[name] for name in (*self.form.gives, *self.form.outputs)}

    def backward(self, microbatch: int, gradients: Mapping[str, Any]) -> dict[str, Any]:
        held, sums = self._held.pop(microbatch), dict(gradients)

        def add(name: str, value: Any) -> None:
            sums[name] = sums[name] + value if name in sums else value

        for operator in reversed(self._operators):
            name = operator.name
            if name == "loss":
                add(operator.reads[0], 2 * (held[operator.reads[0]] - held["y"]))
            elif name == "h0":
                self._sums["w0"] += (sums["h0"] * held["x"]).sum()
            else:
                k, gradient = int(name[1:]), sums[name]
                self._sums[f"w{k}"] += (gradient * held[f"h{k - 1}"] * held[f"d{name}"]).sum()
                add("h0", gradient)
                add(f"h{k - 1}", gradient * held[f"d{name}"] * self._weights[f"w{k}"])
        return {name: sums[name] for name in self.form.reads}

    def step(self) -> None:
        for name in self._weights:
            self._weights[name] -= np.float32(1e-3) * self._sums[name]
            self._sums[name] = np.float32(0)
        self._steps += 1

    def state(self) -> dict[str, Any]:
        held = {f"parameter:{name}": np.array(value) for name, value in self._weights.items()}
        return {**held, "steps": np.array(self._steps)}

    def load(self, state: Mapping[str, Any]) -> None:
        self._weights = {name: np.float32(state[f"parameter:{name}"]) for name in self._weights}
        self._sums = dict.fromkeys(self._weights, np.float32(0))
        self._steps = int(state["steps"])
        self._held = {}


class Door:
    """Where channels come in, within the process."""

    def __init__(self) -> None:
        self._new: queue.SimpleQueue[InProcessChannel] = queue.SimpleQueue()
        self.open = True

    def connect(self, *, deadline: float) -> Channel:
        if not self.open:
            raise DeadlineExceeded("nobody is there")
        ours, theirs = channel_pair()
        self._new.put(theirs)
        return ours

    def accept(self, *, deadline: float) -> Channel:
        try:
            return self._new.get(timeout=0.02)
        except queue.Empty:
            raise DeadlineExceeded("nobody came") from None

    def close(self) -> None:
        self.open = False


class World:
    """Workers that train; ``places``: each slice's worker. ``relay``: they meet there, and not within the process.
    ``bare``: whose checkpoints worker 0 keeps. ``rounds``: gradients cross in eight bits."""

    def __init__(
        self,
        folder: Path,
        places: tuple[int, ...],
        cuts: tuple[int, ...],
        relay: Objects | None = None,
        bare: frozenset[int] = frozenset(),
        rounds: bool = False,
    ) -> None:
        self.folder = folder
        self.relay = relay
        self.bare = bare
        self.rounds = rounds
        self.forms = cut(NETWORK, ("loss",), cuts)
        self.course = Course(places, passes(places, RECIPE.microbatches), STEPS, EVERY)
        self.count = max(places) + 1
        self.doors = [Door() for _ in range(self.count)]
        self.errors: dict[int, Exception] = {}
        self._threads: dict[int, threading.Thread] = {}

    def start(
        self,
        worker: int,
        crash: Callable[[int, int], None] = lambda step, microbatch: None,
        fingerprint: str = FINGERPRINT,
        patience_seconds: float = 20.0,
    ) -> None:
        """Start a worker as a thread."""
        places = self.course.places
        near = {
            other
            for form in self.forms
            for target in form.targets()
            for pair in [{places[form.number], places[target]}]
            if worker in pair
            for other in pair - {worker}
        }
        self.doors[worker] = Door()
        door: Listener = self.doors[worker]
        ways: dict[int, Transport] = {other: _Way(self, other) for other in near if other < worker}
        if self.relay is not None:
            door = RelayListener(self.relay, f"worker-{worker}", QUICK)
            ways = {other: RelayCaller(self.relay, f"worker-{other}", QUICK) for other in ways}
        higher = frozenset(other for other in near if other > worker)
        meeting = Meeting(worker, fingerprint, ways, higher, door, SystemThreads(), SteadyClock())
        noise = np.random.default_rng(1)
        arrays = {name: noise.normal(size=ROWS).astype("f4") for name in "xy"}
        trainer = SliceTrainer(
            worker,
            {k: NumpySlice(self.forms[k], crash) for k, place in enumerate(places) if place == worker},
            self.course,
            meeting,
            SliceCheckpoints(self.folder / f"worker-{worker}", fingerprint),
            Batches(arrays, ROWS, RECIPE),
            patience_seconds=patience_seconds,
            is_kept_by_first=worker in self.bare,
            rounding=Rounding() if self.rounds else None,
        )

        def run() -> None:
            try:
                trainer.run()
            except Exception as error:
                self.errors[worker] = error
            finally:
                meeting.close()

        self._threads[worker] = threading.Thread(target=run)
        self._threads[worker].start()

    def start_all(self, crash: Callable[[int, int], None] = lambda step, microbatch: None) -> None:
        for worker in range(self.count):
            self.start(worker, crash)

    def join(self, worker: int) -> None:
        self._threads[worker].join(30)
        assert not self._threads[worker].is_alive()

    def join_all(self) -> None:
        for worker in range(self.count):
            self.join(worker)

    def result(self) -> dict[str, bytes]:
        """Return weights and losses of the committed step, and the step."""
        commit = SliceCheckpoints(self.folder / "worker-0", FINGERPRINT).committed()
        assert commit is not None
        found: dict[str, bytes] = {"step": bytes([commit.step])}
        for number, sha256 in commit.files.items():
            worker = self.course.places[int(number)]
            held = SliceCheckpoints(self.folder / f"worker-{worker}", FINGERPRINT)
            state = held.read(int(number), commit.step, sha256)
            found.update({name: array.tobytes() for name, array in state.items()})
        return found


class _Way:
    def __init__(self, world: World, worker: int) -> None:
        self._world = world
        self._worker = worker

    def connect(self, *, deadline: float) -> Channel:
        return self._world.doors[self._worker].connect(deadline=deadline)
