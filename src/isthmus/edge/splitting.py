"""A model that runs here, or here and in the cloud: an engine like any other, with the same answers.

Whatever becomes of the cloud, a request is answered once: by the cloud if that comes first and fits, else by this
device, from the tensors that its head left or from the beginning. Inference has no effects, so what is asked twice,
or in vain, does no harm.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from isthmus.edge.balancer import Balancer, Choice, Now, Option
from isthmus.edge.cloud import Cloud, checked
from isthmus.edge.race import Errand, Race
from isthmus.edge.ways import Ways, rows_of
from isthmus.edge.wish import read_deadline, wished
from isthmus.errors import (
    InvalidModel,
    InvalidRequest,
    IsthmusError,
    PayloadTooLarge,
    PermissionMissing,
    PolicyViolation,
    UnknownModel,
    UnsupportedMediaType,
)
from isthmus.inference.served import Placed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.inference.served import LoadableEngine
    from isthmus.model.sliced import ModelSlice, SlicedModel

NOT_SERVED = (UnknownModel, PayloadTooLarge, UnsupportedMediaType, PermissionMissing)
"""What the cloud will say again to the next request for that model."""
PLACEMENT, REASON = "isthmus_placement", "isthmus_reason"
MOST_ASKS = 16
"""So many requests may wait for the cloud, those that nobody waits for any more included."""
LEAST_TIMEOUT_SECONDS = 1.0
LATENCY_SECONDS, LOOK_TIMEOUT_SECONDS = 60.0, 5.0
"""How often latency is measured at most, while requests come, and how long that may take."""
CLOUD, HERE = "cloud", "here"

Outputs = dict[str, "NDArray[Any]"]


@dataclass(frozen=True)
class _Run:
    """A request whose head has run: ``pool`` is what is known, raw inputs included."""

    inputs: Mapping[str, Any]
    pool: Mapping[str, Any]
    rows: int
    choice: Choice


@dataclass
class SplitEngine:
    """``ports.Engine`` over a whole model, its slices and the cloud; safe to share between threads.

    ``whole``: what serves without slices, and what is left when everything else fails.
    """

    whole: LoadableEngine
    ways: Ways
    cloud: Cloud
    balancer: Balancer
    clock: Callable[[], float]
    counts: Counter[str] = field(default_factory=Counter)
    on_answer: Callable[[], None] = lambda: None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    in_vain: int = 0
    _asks: int = 0
    _looked_at: float = -math.inf
    _busy: dict[int, float] = field(default_factory=dict, repr=False)

    def load(self) -> object:
        """Make the whole ready. Raises InvalidModel when it cannot serve."""
        return self.whole.load()

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """As ``ports.Engine``."""
        return self.run_placed(inputs, {}).outputs

    def run_placed(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Placed:
        """Run a request where the balancer says; the response says where that was, and why.

        Raises:
            InvalidRequest: the model refuses the values, or the request wishes for a way that the policy forbids.
            InvalidModel: the model fails.
        """
        choice = self._choose(inputs, parameters)
        if choice.option.kind == "local":
            return self._told(self._whole(inputs), "local", choice.reason)
        try:
            with self._working(choice.option.head_seconds):
                pool = self._slices(0, choice.option.cut, inputs, rows_of(inputs))
        except InvalidModel as error:
            return self._told(self._whole(inputs), "local", f"its head failed here: {error}")
        return self._race(_Run(inputs, pool, rows_of(inputs), choice))

    def status(self) -> dict[str, Any]:
        """Return counts by where requests were answered, and what is known of the link."""
        with self._lock:
            link = self.balancer.link
            return {
                "answered": dict(sorted(self.counts.items())),
                "asked_in_vain": self.in_vain,
                "bytes_per_second": round(1 / link.seconds_per_byte_at(self.clock())),
                "latency_seconds": round(link.latency_seconds, 4),
                "lost": round(link.lost, 3),
                "cloud_rests": link.rests(self.clock()),
            }

    def _choose(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Choice:
        deadline, rows = read_deadline(parameters), rows_of(inputs)
        with self._lock:
            now = self.clock()
            self._look(now)
            options = self.ways.options(now, rows)
            local = options[0]
            if not self.ways.slices.fits(inputs):
                return Choice(local, "the slices are for other sizes than this request's", local.head_seconds)
            if (wish := wished(parameters, options)) is not None:
                return self.balancer.wished(Now(now, self._queue(now), deadline), wish)
            if self._asks >= MOST_ASKS:
                return Choice(local, f"{MOST_ASKS} requests wait for the cloud already", local.head_seconds)
            return self.balancer.choose(Now(now, self._queue(now), deadline), options)

    def _look(self, now: float) -> None:
        """Measure the latency now and then, which large transfers cannot tell from the rate; nobody waits for it."""
        if now - self._looked_at < LATENCY_SECONDS or self.balancer.link.rests(now):
            return
        self._looked_at = now
        threading.Thread(target=self._measure, name="split-latency", daemon=True).start()

    def _measure(self) -> None:
        try:
            seconds = self.cloud.latency(timeout_seconds=LOOK_TIMEOUT_SECONDS)
        except IsthmusError:
            with self._lock:
                self.balancer.link.failed(self.clock())
        else:
            with self._lock:
                self.balancer.link.answered(seconds)

    def _race(self, run: _Run) -> Placed:
        """Ask the cloud, and begin here too when its answer is late, or fails; the first answer counts."""
        race: Race[Outputs] = Race()
        errand = Errand()
        began, choice, option = self.clock(), run.choice, run.choice.option
        race.start(CLOUD, lambda: self._ask(run, errand))
        if not race.wait(choice.hedge_seconds):
            # In a thread of its own, so that the cloud's answer is heard while a slice runs; not where none can come.
            begin = race.run if CLOUD in race.errors else race.start
            begin(HERE, lambda: self._finish(run, race))
            race.wait()
        if race.winner == CLOUD and race.answer is not None:
            return self._told(race.answer, option.name, choice.reason)
        reason = f"the cloud was late; expected: {choice.reason}"
        if CLOUD in race.errors:
            reason = _why(race.errors[CLOUD])
        else:
            errand.give_up()
            with self._lock:
                self.balancer.link.stalled(self.clock(), option.moved_bytes, self.clock() - began)
        if race.answer is None and isinstance(race.errors[HERE], IsthmusError):
            raise race.errors[HERE]
        answer = race.answer if race.answer is not None else self._whole(run.inputs)
        return self._told(answer, "local", reason)

    def _finish(self, run: _Run, race: Race[Outputs]) -> Outputs:
        slices, cut = self.ways.slices, run.choice.option.cut
        if cut == 0 or not slices.whole_here:
            return self._whole(run.inputs)
        with self._working(run.choice.option.tail_seconds):
            done = self._slices(cut, slices.count, run.pool, run.rows, lambda: race.over)
        if race.over:
            return {}  # somebody else has answered: nobody reads this
        return slices.outputs_of(done)

    def _ask(self, run: _Run, errand: Errand) -> Outputs:
        with self._lock:
            self._asks += 1
        began = self.clock()
        try:
            known, seconds = self._through(run, errand)
        except Exception as error:
            if not errand.given_up:
                with self._lock:
                    self._blame(error, run.choice.option)
            raise
        finally:
            with self._lock:
                self._asks -= 1
        with self._lock:
            wire = max(self.clock() - began - seconds, 1e-6)
            self.balancer.link.moved(self.clock(), run.choice.option.moved_bytes, wire)
        slices, back = self.ways.slices, run.choice.option.back
        if back is not None:
            with self._working(run.choice.option.after_seconds):
                known = self._slices(back, slices.count, known, run.rows, lambda: errand.given_up)
        return {} if errand.given_up else slices.outputs_of(known)

    def _through(self, run: _Run, errand: Errand) -> tuple[Outputs, float]:
        """Ask for what the cloud runs, model by model; return what is known then, and the cloud's own seconds."""
        document, known, spent = self.ways.slices.document, dict(run.pool), 0.0
        option, ends = run.choice.option, self.clock() + _timeout(run.choice)
        whole = option.kind == "cloud"
        entries: Sequence[SlicedModel | ModelSlice] = [document] if whole else self.ways.entries(option)
        for entry, (name, version) in zip(entries, self.ways.calls(option), strict=True):
            sent = {spec.name: known[spec.name] for spec in entry.inputs}
            # The last look at the policy: what moves is looked at, not what was planned to.
            self.ways.guard.check(
                {name for name in sent if name in run.pool} | set(self.ways.crossing(option))
            )
            left = max(ends - self.clock(), 0.001)
            answer = self.cloud(
                name, version, sent, timeout_seconds=left, errand=errand, cast="" if whole else document.cast
            )
            known |= checked(answer.outputs, entry.outputs)
            if answer.seconds is not None:
                spent += answer.seconds
                with self._lock:
                    self.ways.cloud_took(name, answer.seconds, run.rows)
        return known, spent

    def _blame(self, error: Exception, option: Option) -> None:
        if isinstance(error, NOT_SERVED):
            self.ways.not_served(self.ways.calls(option)[0][0], self.clock())
        # That a request's values are refused says nothing of the link.
        elif not isinstance(error, (PolicyViolation, InvalidRequest)):
            self.in_vain += 1
            self.balancer.link.failed(self.clock())

    def _slices(
        self,
        start: int,
        end: int,
        pool: Mapping[str, Any],
        rows: int,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Outputs:
        def took(number: int, seconds: float) -> None:
            with self._lock:
                self.ways.took(number, seconds, rows)

        return self.ways.slices.run(start, end, pool, took, self.clock, is_over)

    def _whole(self, inputs: Mapping[str, Any]) -> Outputs:
        rows = rows_of(inputs)
        began = self.clock()
        with self._working(self.ways.whole_seconds * rows):
            outputs = self.whole.run(inputs)
        with self._lock:
            self.ways.whole_took(self.clock() - began, rows)
        return outputs

    @contextmanager
    def _working(self, expected_seconds: float) -> Iterator[None]:
        """Count as work of the processor what is being done here."""
        mark = object()
        with self._lock:
            self._busy[id(mark)] = self.clock() + expected_seconds
        try:
            yield
        finally:
            with self._lock:
                del self._busy[id(mark)]

    def _queue(self, now: float) -> float:
        """Return what the processor has left to do of what it has begun."""
        return sum(max(ends - now, 0.0) for ends in self._busy.values())

    def _told(self, outputs: Outputs, placement: str, reason: str) -> Placed:
        with self._lock:
            self.counts[placement] += 1
        self.on_answer()
        return Placed(outputs, {PLACEMENT: placement, REASON: reason})


def _why(error: Exception) -> str:
    if isinstance(error, PolicyViolation):
        return f"not sent: {error}"
    return f"the cloud failed: {error if isinstance(error, IsthmusError) else type(error).__name__}"


def _timeout(choice: Choice) -> float:
    """How long the cloud may take at most, whatever happens here."""
    return choice.hedge_seconds + max(
        LEAST_TIMEOUT_SECONDS, 2 * (choice.seconds + choice.option.tail_seconds)
    )
