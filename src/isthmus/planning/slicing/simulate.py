"""A discrete-event simulator of one training step: stages, links between them, and a schedule.

It knows nothing of 1F1B: it runs any order that can run. A stage runs one action at a time. A link
carries one transfer at a time in each direction, in the order in which they were begun.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from isthmus.errors import InvalidCase
from isthmus.planning.slicing.schedule import Action, Schedule, check


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one micro-batch. ``forward``, ``backward``: of each of S stages. ``send_forward[k]``: of
    the activations from stage k to k + 1; ``send_backward[k]``: of the gradients from k + 1 back to k;
    S - 1 each. ``finish``: what each stage still does after its last action of the step (it sums the
    gradients of its replicas); S, or none. ``overlap``: a stage computes on while it sends; else it is
    busy until what it sends has arrived.

    Raises:
        InvalidCase: lengths that do not fit, or a negative or infinite number.
    """

    forward: Sequence[float]
    backward: Sequence[float]
    send_forward: Sequence[float] = ()
    send_backward: Sequence[float] = ()
    finish: Sequence[float] = ()
    overlap: bool = True

    def __post_init__(self) -> None:
        stages = len(self.forward)
        for what, values, count in (
            ("forward", self.forward, stages),
            ("backward", self.backward, stages),
            ("send_forward", self.send_forward, stages - 1),
            ("send_backward", self.send_backward, stages - 1),
            ("finish", self.finish or (0.0,) * stages, stages),
        ):
            if len(values) != count:
                raise InvalidCase(
                    f"{what} needs {count} numbers for {stages} stages; there are {len(values)}"
                )
            if not all(0 <= value < float("inf") for value in values):
                raise InvalidCase(f"{what} must be finite and at least 0; it is {tuple(values)}")


@dataclass(frozen=True, slots=True)
class Span:
    """``what``: ``compute``, or ``send`` from ``stage``. Seconds from the step's start."""

    stage: int
    what: str
    action: Action
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Step:
    """``in_flight[k]``: the most micro-batches whose forward pass had begun and whose backward pass had not
    ended, on stage k. ``timeline``: by start, then stage."""

    seconds: float
    in_flight: tuple[int, ...]
    timeline: tuple[Span, ...]


def simulate(rows: Schedule, times: Times) -> Step:
    """Run a schedule.

    Raises:
        InvalidCase: it has another number of stages than the times, or cannot run.
    """
    if len(rows) != len(times.forward):
        raise InvalidCase(f"the schedule has {len(rows)} stages; the times are of {len(times.forward)}")
    check(rows)
    world = _World(rows, times)
    world.run()
    finish = times.finish or (0.0,) * len(rows)
    seconds = max(end + extra for end, extra in zip(world.ended, finish, strict=True))
    timeline = tuple(sorted(world.spans, key=lambda span: (span.start, span.stage, span.what)))
    return Step(seconds, tuple(world.peak), timeline)


@dataclass
class _World:
    rows: Schedule
    times: Times
    events: list[tuple[float, int, str, int, Action]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.rows)
        self.next = [0] * count
        self.busy = [False] * count
        self.ended = [0.0] * count
        self.held = [0] * count
        self.peak = [0] * count
        self.inbox: list[set[Action]] = [set() for _ in range(count)]
        self.inbox[0] |= {action for action in self.rows[0] if action.kind == "F"}
        self.queues: dict[tuple[int, int], deque[Action]] = {}

    def run(self) -> None:
        for k in range(len(self.rows)):
            self._start(k, 0.0)
        while self.events:
            now, _, what, k, action = heapq.heappop(self.events)
            {"computed": self._computed, "sent": self._sent}[what](now, k, action)

    def _later(self, when: float, what: str, k: int, action: Action) -> None:
        # The count keeps events of one moment in the order in which they were made.
        heapq.heappush(self.events, (when, len(self.spans), what, k, action))

    def _start(self, k: int, now: float) -> None:
        """Begin the stage's next action, if its input is there."""
        if self.busy[k] or self.next[k] == len(self.rows[k]):
            return
        action = self.rows[k][self.next[k]]
        if action not in self.inbox[k]:
            return
        self.busy[k] = True
        self.next[k] += 1
        if action.kind == "F":
            self.held[k] += 1
            self.peak[k] = max(self.peak[k], self.held[k])
        end = now + (self.times.forward[k] if action.kind == "F" else self.times.backward[k])
        self.spans.append(Span(k, "compute", action, now, end))
        self._later(end, "computed", k, action)

    def _computed(self, now: float, k: int, action: Action) -> None:
        if action.kind == "B":
            self.held[k] -= 1
        target = k + 1 if action.kind == "F" else k - 1
        self.ended[k] = now
        if target == len(self.rows):
            # The last stage has the loss: its backward pass may follow at once.
            self.inbox[k].add(Action("B", action.microbatch))
        if not 0 <= target < len(self.rows):
            self.busy[k] = False
        else:
            queue = self.queues.setdefault((k, target), deque())
            queue.append(action)
            if len(queue) == 1:
                self._send(now, k, action)
            self.busy[k] = not self.times.overlap
        self._start(k, now)

    def _send(self, now: float, k: int, action: Action) -> None:
        seconds = self.times.send_forward[k] if action.kind == "F" else self.times.send_backward[k - 1]
        self.spans.append(Span(k, "send", action, now, now + seconds))
        self._later(now + seconds, "sent", k, action)

    def _sent(self, now: float, k: int, action: Action) -> None:
        target = k + 1 if action.kind == "F" else k - 1
        queue = self.queues[k, target]
        queue.popleft()
        if queue:
            self._send(now, k, queue[0])
        self.inbox[target].add(action)
        self._start(target, now)
        if not self.times.overlap:
            self.busy[k] = False
            self.ended[k] = now
            self._start(k, now)
