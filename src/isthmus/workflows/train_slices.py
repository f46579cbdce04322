"""One worker of a training in slices: it runs its passes in their order, and goes on from the last checkpoint that
all have.

Reports go up a tree of the channels that there are, to the first worker, and what it decides goes down again. A
checkpoint is written by every worker, then committed by the first, and only then does anybody go on. Nobody leaves
before all have noted that the last one is committed, unless the others stay away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from isthmus.errors import AttemptLost, ChannelClosed, DeadlineExceeded, InvalidFrame, InvalidJob, SessionLost
from isthmus.frameworks.trainable import TrainableSlice
from isthmus.planning.slicing.passes import Pass, Passes
from isthmus.workflows.slice_checkpoints import SliceCheckpoints
from isthmus.workflows.slice_crew import Crew
from isthmus.workflows.slice_gradients import Rounding, restored
from isthmus.workflows.slice_meeting import Meeting
from isthmus.workflows.slice_notes import Committed, Done, Kept, Ready, Start, Written, crossing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

PATIENCE_SECONDS = 120.0
"""What is waited for one message, and for all to meet."""
MOST_FAULTS = 20
"""Meetings that may fail, one after the other, without a checkpoint in between."""
LOSS = "loss:"
LOST = (SessionLost, ChannelClosed, InvalidFrame, DeadlineExceeded)

Feed = Callable[[int, int, Sequence[str]], Mapping[str, Any]]
"""Step, micro-batch and names of the network's inputs to arrays."""


@dataclass(frozen=True)
class Course:
    """How long and in which order is trained. ``places``: each slice's worker. ``every``: steps between two
    checkpoints; the last step has one as well."""

    places: tuple[int, ...]
    passes: Passes
    steps: int
    every: int

    def is_kept(self, step: int) -> bool:
        """Whether there is a checkpoint once so many steps are done."""
        return step == self.steps or step % self.every == 0


@dataclass
class SliceTrainer:
    """Trains the slices of one worker. ``slices``: by number."""

    worker: int
    slices: Mapping[int, TrainableSlice]
    course: Course
    meeting: Meeting
    checkpoints: SliceCheckpoints
    feed: Feed
    patience_seconds: float = PATIENCE_SECONDS
    say: Callable[[str], None] = lambda line: None
    on_step: Callable[[int], None] = lambda step: None
    """Is told how many steps are done, after each."""
    is_kept_by_first: bool = False
    """Whether the first worker keeps this one's files as well, whose own disk may be gone at the next start."""
    rounding: Rounding | None = None
    """Where gradients cross in eight bits."""
    losses: dict[str, list[list[Any]]] = field(default_factory=dict)
    """By the network's output: for each step its micro-batches' values."""
    _done: int = 0
    _keeps: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Train to the end, however often others are lost and come again.

        Raises:
            AttemptLost: others stayed away, or faults did not end.
            IsthmusError: what cannot be helped by beginning again: a wrong job, a checkpoint that is gone.
        """
        faults, reached = 0, -1
        while True:
            crew: Crew | None = None
            try:
                channels = self.meeting.join(deadline=self.meeting.clock.now() + self.patience_seconds)
                crew = Crew(self.worker, channels, self.meeting, self.patience_seconds)
                self._train(crew)
                self._part(crew)
                return
            except LOST as error:
                now = self._done
                faults = faults + 1 if now == reached else 1
                reached = now
                self.say(f"worker {self.worker} begins again after step {now}: {error}")
                self.meeting.leave()
                if faults > MOST_FAULTS or crew is None:
                    if self.checkpoints.has_ended(self.course.steps):
                        self.say(
                            f"worker {self.worker} ends: the last step is committed, and others stayed away"
                        )
                        return
                    raise AttemptLost(
                        f"worker {self.worker} could not go on after step {now}: {error}"
                    ) from error
            finally:
                if crew is not None:
                    crew.end()

    def _train(self, crew: Crew) -> None:
        crew.meet()
        if self.is_kept_by_first and self.worker and crew.parent != 0:
            raise InvalidJob(
                f"worker {self.worker} shares no tensors with worker 0, or later ones with worker {crew.parent}: "
                "keep its checkpoints on its own disk"
            )
        start = self._agree(crew)
        if start.step is None:
            self._done = 0
            if self.rounding is not None:
                for number in self.slices:
                    self.rounding.load(number, {})
            self._keep(crew)
        else:
            self._load(start.step, start.files)
        while self._done < self.course.steps:
            for entry in self.course.passes[self.worker]:
                self._pass(crew, entry)
            for each in self.slices.values():
                each.step()
            self._done += 1
            self.on_step(self._done)
            if self.course.is_kept(self._done):
                self._keep(crew)

    def _part(self, crew: Crew) -> None:
        """Leave when all may. What one of them would never hear again is on its disk by then."""
        if crew.parent is not None:
            self.checkpoints.end(self.course.steps)
        crew.gather(Done)
        if crew.parent is not None:
            crew.tell(crew.parent, Done())
            crew.hear(crew.parent, Done)
        crew.tell_all(Done())
        crew.finish()

    def _agree(self, crew: Crew) -> Start:
        bare = [number for said in crew.gather(Ready) for number in said.bare]
        if crew.parent is None:
            commit = self.checkpoints.committed()
            start = Start(None) if commit is None else Start(commit.step, commit.files)
            self._give_back(crew, start, bare)
        else:
            crew.tell(crew.parent, Ready((*bare, *self.slices) if self.is_kept_by_first else tuple(bare)))
            start = crew.hear(crew.parent, Start)
            self._take_handed(crew)
        crew.tell_all(start)
        return start

    def _give_back(self, crew: Crew, start: Start, bare: Sequence[int]) -> None:
        """Send others the files that this worker keeps for them."""
        for number in bare if start.step is not None else ():
            raw = self.checkpoints.raw(number, start.step or 0)
            if raw is not None:
                crew.hand(self.course.places[number], Kept(number, start.step or 0), raw)
            self.checkpoints.forget(number, start.step or 0)

    def _take_handed(self, crew: Crew) -> None:
        for kept, raw in crew.handed():
            self.checkpoints.put(kept.number, kept.step, raw)
            self._keeps.add(kept.number)

    def _load(self, step: int, files: Mapping[str, str]) -> None:
        self._done = step
        self.losses = {}
        for number, each in self.slices.items():
            state = self.checkpoints.read(number, step, files[str(number)])
            self.checkpoints.forget(number, step)
            each.load(state)
            if self.rounding is not None:
                self.rounding.load(number, state)
            for name in each.form.outputs:
                self.losses[name] = [list(values) for values in state[LOSS + name]] if step else []

    def _keep(self, crew: Crew) -> None:
        """Make a checkpoint with all others; return when it counts."""
        files: dict[str, str] = {}
        for number, each in self.slices.items():
            files[str(number)] = self.checkpoints.write(number, self._done, self._state(each))
            if self.is_kept_by_first and self.worker and (raw := self.checkpoints.raw(number, self._done)):
                crew.hand(0, Kept(number, self._done), raw)
        for written in crew.gather(Written):
            if written.step != self._done:
                raise InvalidFrame(f"step {written.step} was written where {self._done} was due")
            files.update(written.files)
        self._take_handed(crew)
        if crew.parent is None:
            self.checkpoints.commit(self._done, files)
            committed = Committed(self._done)
        else:
            crew.tell(crew.parent, Written(self._done, files))
            committed = crew.hear(crew.parent, Committed)
        if committed.step != self._done:
            raise InvalidFrame(f"step {committed.step} was committed where {self._done} was written")
        crew.tell_all(committed)
        self.say(f"worker {self.worker}: {self._done} of {self.course.steps} steps are kept")
        for number in {*self.slices, *self._keeps}:
            self.checkpoints.forget(number, self._done)

    def _state(self, each: TrainableSlice) -> dict[str, Any]:
        import numpy as np

        losses = {LOSS + name: np.array(self.losses.get(name, [])) for name in each.form.outputs}
        lost = {} if self.rounding is None else self.rounding.state(each.form.number)
        return {**each.state(), **losses, **lost}

    def _pass(self, crew: Crew, entry: Pass) -> None:
        each, at = self.slices[entry.stage], entry.action.microbatch
        if entry.action.kind == "F":
            tensors: dict[str, Any] = dict(self.feed(self._done, at, each.form.inputs))
            for source in each.form.sources():
                tensors.update(self._receive(crew, "F", source, entry))
            found = each.forward(self._done, at, tensors)
            for target in each.form.targets():
                self._send(
                    crew, "F", target, entry, {name: found[name] for name in each.form.given_to(target)}
                )
            for name in each.form.outputs:
                self._note(name, at, found[name])
            return
        gradients: dict[str, Any] = {}
        for target in each.form.targets():
            if _learns(each, each.form.given_to(target)):
                gradients.update(restored(self._receive(crew, "B", target, entry)))
        found = each.backward(at, gradients)
        for source in each.form.sources():
            names = each.form.read_from(source)
            if _learns(each, names):
                sums = {name: found[name] for name in names if name in found}
                if self.rounding is not None:
                    sums = self.rounding.rounded(entry.stage, at, sums)
                self._send(crew, "B", source, entry, sums)

    def _note(self, name: str, microbatch: int, value: Any) -> None:
        steps = self.losses.setdefault(name, [])
        if microbatch == 0:
            steps.append([])
        steps[-1].append(value.copy())

    def _send(self, crew: Crew, kind: str, target: int, entry: Pass, tensors: Mapping[str, Any]) -> None:
        sent = crossing(
            tensors,
            kind=kind,
            source=entry.stage,
            target=target,
            step=self._done,
            microbatch=entry.action.microbatch,
        )
        crew.send(self.course.places[target], sent)

    def _receive(self, crew: Crew, kind: str, source: int, entry: Pass) -> Arrays:
        wanted = (kind, source, entry.stage, self._done, entry.action.microbatch)
        return crew.receive(self.course.places[source], wanted)


def _learns(each: TrainableSlice, names: Sequence[str]) -> bool:
    return any(name in each.form.differentiable for name in names)
