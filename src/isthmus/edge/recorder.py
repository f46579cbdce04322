"""Puts the result of each answered request into the outbox, beside the answers: none waits for it.

A request leaves its outputs here as they are, which costs it next to nothing; a thread makes results of them and puts
what came meanwhile in one transaction. Whatever goes wrong there is counted and never an answer's trouble.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.edge.answered import Made, result_of
from isthmus.edge.outbox import Outbox
from isthmus.errors import IsthmusError, PayloadTooLarge
from isthmus.inference.http import HttpRequest, HttpResponse
from isthmus.inference.served import Placed, ServedModel
from isthmus.inference.service import ModelService
from isthmus.model.results import MAX_RESULT_BYTES, Result
from isthmus.model.units import MIB

if TYPE_CHECKING:
    from isthmus.inference.served import LoadableEngine

MAX_OUTPUT_BYTES = MIB
"""Of a request: scores of a few hundred samples. More is no small output, and would become no small result."""
MAX_WAITING_BYTES = 32 * MIB
MAX_WAITING = 4096
"""Of requests whose results are not in the outbox yet: what comes beside so many, while the disk is slow, is lost."""
GATHER_SECONDS = 0.05
"""What is answered within it is put together: a transaction costs the processor more than its results do."""
COMPLAIN_SECONDS = 60.0
PLACEMENT = "isthmus_placement"

logger = logging.getLogger(__name__)


class Missed(msgspec.Struct, frozen=True):
    """Answered requests without a result since the process began. ``large``: it would have been larger than
    ``MAX_RESULT_BYTES``; ``busy``: too many waited for the disk; ``unwritten``: the outbox could not be written."""

    large: int = 0
    busy: int = 0
    unwritten: int = 0


class Recorder:
    """Takes what models made, and keeps it in ``outbox``. ``on_kept`` hears that something was put."""

    def __init__(self, outbox: Outbox, on_kept: Callable[[], None] = lambda: None) -> None:
        self._outbox, self._on_kept = outbox, on_kept
        self._waiting: deque[Made] = deque()
        self._waiting_bytes = 0
        self._change = threading.Condition()
        self._ends = False
        self._complained_at = -COMPLAIN_SECONDS
        self.missed = Missed()
        self._thread = threading.Thread(target=self._keep_all, name="results", daemon=True)

    def start(self) -> None:
        """Begin to keep, in a thread of its own."""
        self._thread.start()

    def take(self, made: Made) -> None:
        """Note an answered request. Never fails, and never waits for the disk."""
        size = made.size_bytes
        with self._change:
            if size > MAX_OUTPUT_BYTES:
                self._miss(large=1)
            elif (
                self._ends
                or len(self._waiting) >= MAX_WAITING
                or self._waiting_bytes + size > MAX_WAITING_BYTES
            ):
                self._miss(busy=1)
            else:
                self._waiting.append(made)
                self._waiting_bytes += size
                if len(self._waiting) == 1:
                    self._change.notify()

    def close(self, *, wait_seconds: float = 10.0) -> None:
        """Keep what waits, and end."""
        with self._change:
            self._ends = True
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)

    def _keep_all(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._ends)
                self._change.wait_for(lambda: self._ends, GATHER_SECONDS)
                made = list(self._waiting)
                self._waiting.clear()
                self._waiting_bytes = 0
                if not made and self._ends:
                    return
            try:
                self._keep(made)
            except Exception:
                # Its thread must outlive what nobody foresaw: the next results may be fine.
                logger.exception("results could not be kept")
                with self._change:
                    self._miss(unwritten=len(made))

    def _keep(self, made: list[Made]) -> None:
        results = [result for entry in made if (result := self._small(entry)) is not None]
        if not results:
            return
        try:
            self._outbox.put(results)
        except PayloadTooLarge as error:
            self._lost(len(results), error, large=True)
        except IsthmusError as error:
            self._lost(len(results), error)
        else:
            self._on_kept()

    def _small(self, made: Made) -> Result | None:
        found = result_of(made)
        if len(bytes(found.outputs)) <= MAX_RESULT_BYTES:
            return found
        with self._change:
            self._miss(large=1)
        return None

    def _lost(self, count: int, error: IsthmusError, *, large: bool = False) -> None:
        with self._change:
            self._miss(**{"large" if large else "unwritten": count})
        now = time.monotonic()
        if now - self._complained_at >= COMPLAIN_SECONDS:
            self._complained_at = now
            logger.warning("%d results are not kept: %s", count, error)

    def _miss(self, *, large: int = 0, busy: int = 0, unwritten: int = 0) -> None:
        before = self.missed
        self.missed = Missed(before.large + large, before.busy + busy, before.unwritten + unwritten)


class RecordedService(ModelService):
    """A service whose answered inferences ``recorder`` hears of; what is refused, or fails, makes no result."""

    def __init__(
        self,
        models: Iterable[ServedModel],
        recorder: Recorder,
        *,
        max_request_bytes: int,
        max_response_bytes: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._recorder, self._now = recorder, now
        self._local = threading.local()
        watched = [msgspec.structs.replace(model, engine=_Listening(model, self._local)) for model in models]
        super().__init__(watched, max_request_bytes=max_request_bytes, max_response_bytes=max_response_bytes)

    def handle(self, request: HttpRequest) -> HttpResponse:
        """As ``ModelService``."""
        self._local.made = None
        began = time.perf_counter()
        response = super().handle(request)
        made: Made | None = self._local.made
        if made is not None and response.status == 200:
            elapsed = (time.perf_counter() - began) * 1000
            self._recorder.take(replace(made, at_ms=int(self._now() * 1000), latency_ms=elapsed))
        self._local.made = None
        return response


@dataclass
class _Listening:
    """A model's engine; what it gives is left where the request's thread finds it."""

    model: ServedModel
    local: Any

    def load(self) -> object:
        return self._engine.load()

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self.run_placed(inputs, {}).outputs

    def run_placed(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Placed:
        run_placed = getattr(self._engine, "run_placed", None)
        placed: Placed = run_placed(inputs, parameters) if run_placed else Placed(self._engine.run(inputs))
        way = str(placed.parameters.get(PLACEMENT, ""))
        self.local.made = Made(self.model.manifest, placed.outputs, way, 0, 0.0)
        return placed

    @property
    def _engine(self) -> LoadableEngine:
        return self.model.engine
