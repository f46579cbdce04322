"""One call as a plan of what to send where, and for how long to wait: no IO, no clock of its own.

A generator yields ``Send`` and ``Pause``; whoever drives it (threads, asyncio, a test) tells it what
became of each. The order: the first place, then the next at once, then a pause with jitter, and the
same again; never after an answer that says that the request is wrong. One deadline holds over all.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from isthmus.client import handing
from isthmus.client.answer import Trip
from isthmus.client.place import Place
from isthmus.client.verdict import extensions_of, lost, pause_asked, refusal, trouble
from isthmus.errors import DeadlineExceeded, InvalidAnswer, IsthmusError, Unavailable
from isthmus.inference.binary import EXTENSION
from isthmus.inference.http import HttpResponse

T = TypeVar("T")

FIRST_SHARE = 0.5
"""Of the time that is left, for a place after which another one can be asked: one that hangs leaves the rest."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Call(Generic[T]):
    """What is asked. ``form`` gives headers and body, JSON or binary; ``read`` raises InvalidAnswer.

    ``wants_binary``: the tensors are large enough for the extension to be worth asking for.
    ``handover``: the path at which the cloud offers a place for a body over Lambda's limit; empty for none.
    """

    method: str
    path: str
    read: Callable[[HttpResponse], T]
    form: Callable[[bool], tuple[Mapping[str, str], bytes]] = lambda binary: ({}, b"")
    wants_binary: bool = False
    handover: str = ""


@dataclass(frozen=True)
class Limits:
    """``attempts``: requests in all, wherever they went; a question for extensions counts if nobody answers it."""

    deadline_seconds: float
    attempts: int


@dataclass(frozen=True)
class Send:
    """Send this; the answer is a response, or what went wrong."""

    place: Place
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    timeout_seconds: float


@dataclass(frozen=True)
class Pause:
    """Wait; the answer is None."""

    seconds: float


@dataclass(frozen=True)
class Lost:
    """No answer came: ``reason`` in a few words, or ``error`` when the request could not even be made."""

    reason: str = ""
    error: IsthmusError | None = None


Outcome = HttpResponse | Lost | None
Steps = Generator[Send | Pause, Outcome, T]


@dataclass
class Exchange(Generic[T]):
    """One call to one or several places, in their order. ``clock`` is monotonic, in seconds."""

    call: Call[T]
    places: Sequence[Place]
    limits: Limits
    clock: Callable[[], float]
    jitter: Callable[[], float] = random.random
    attempts: int = 0
    asked_pause: float = 0.0
    problem: IsthmusError | None = None
    started: float = field(init=False)
    left: list[Place] = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.left = list(self.places)

    def steps(self) -> Steps[tuple[T, Trip]]:
        """Yield what to do; return the answer and how it came.

        Raises:
            InvalidRequest, UnknownModel, PayloadTooLarge, PermissionMissing: asking again would not help.
            DeadlineExceeded: the time is up.
            Throttled, InvalidAnswer, Unavailable: the last trouble, when there were enough.
        """
        turn = 0
        while True:
            found = yield from self._round()
            if not isinstance(found, IsthmusError):
                return found
            if not self.left or self.attempts >= self.limits.attempts:
                raise found
            backoff = self.jitter() * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**turn)
            pause = max(backoff, self.asked_pause)
            if pause >= self._remaining():
                raise found
            yield Pause(pause)
            turn, self.asked_pause = turn + 1, 0.0

    def _round(self) -> Steps[tuple[T, Trip] | IsthmusError]:
        """Ask each place that is worth it, once; return the first answer, or the last trouble."""
        self.problem = None
        places = list(self.left)
        for place in places:
            is_last = place is places[-1]
            rests = not place.breaker.allows(self.clock())
            # Somebody must be asked: of places that all rest, the last.
            if rests and not (is_last and self.problem is None):
                continue
            found = yield from self._ask(place, is_last)
            if not isinstance(found, IsthmusError):
                return found
            self.problem = found
            if self.attempts >= self.limits.attempts:
                break
        return self.problem or Unavailable("there is no place to ask")

    def _ask(self, place: Place, is_last: bool) -> Steps[tuple[T, Trip] | IsthmusError]:
        send = functools.partial(self._send, is_last=is_last)
        binary = False
        if self.call.wants_binary:
            if place.extensions is None:
                response = yield from send(place, "GET", "/v2", {}, b"")
                if isinstance(response, IsthmusError):
                    self.attempts += 1
                    return response
                place.extensions = extensions_of(response)
            binary = EXTENSION in (place.extensions or ())
        self.attempts += 1
        headers, body = self.call.form(binary)
        response = yield from self._infer(send, place, dict(headers), body)
        if isinstance(response, IsthmusError):
            return response
        return self._judge(place, response, is_last)

    def _infer(
        self, send: handing.Sender, place: Place, headers: dict[str, str], body: bytes
    ) -> Steps[HttpResponse | IsthmusError]:
        """Send the call itself; through the bucket what is too large for the cloud's functions."""
        call, through = self.call, bool(self.call.handover) and place.name == "cloud"
        if through and len(body) > handing.LARGE_BYTES:
            put = yield from handing.put_body(send, place, call.handover, headers, body)
            if not isinstance(put, dict):
                return put
            headers, body = put, b""
        if through and call.path in place.large_answers:
            headers[handing.ANSWER_HEADER] = handing.ALLOWED
        response = yield from send(place, call.method, call.path, headers, body)
        if isinstance(response, HttpResponse) and through:
            if response.status == 413 and call.path not in place.large_answers:
                place.large_answers.add(call.path)
                headers[handing.ANSWER_HEADER] = handing.ALLOWED
                response = yield from send(place, call.method, call.path, headers, body)
            if isinstance(response, HttpResponse) and response.status == 303:
                response = yield from handing.fetch_answer(send, place, response)
        return response

    def _send(
        self, place: Place, method: str, path: str, headers: Mapping[str, str], body: bytes, *, is_last: bool
    ) -> Steps[HttpResponse | IsthmusError]:
        remaining = self._remaining()
        timeout = remaining if is_last else remaining * FIRST_SHARE
        outcome = yield Send(place, method, path, headers, body, timeout)
        if isinstance(outcome, HttpResponse):
            return outcome
        if not isinstance(outcome, Lost):
            raise TypeError(f"a request is answered with a response or what went wrong, not {outcome!r}")
        if outcome.error is not None and not isinstance(outcome.error, Unavailable):
            # No address, or no credentials: that place is none for this call.
            self.left = [other for other in self.left if other is not place]
            return outcome.error
        place.breaker.failed(self.clock())
        return lost(place.name, outcome.reason or str(outcome.error))

    def _judge(self, place: Place, response: HttpResponse, is_last: bool) -> tuple[T, Trip] | IsthmusError:
        status = response.status
        if status == 429 or status >= 500:
            place.breaker.failed(self.clock())
            self.asked_pause = max(self.asked_pause, pause_asked(response))
            return trouble(place.name, response)
        if not 200 <= status < 300:
            place.breaker.succeeded()
            if status == 404 and not is_last:
                # This place does not have the model; another one may.
                self.left.remove(place)
                return refusal(place.name, response)
            raise refusal(place.name, response)
        try:
            found = self.call.read(response)
        except InvalidAnswer as error:
            place.breaker.failed(self.clock())
            return InvalidAnswer(f"the {place.name} gave a wrong answer: {error}")
        place.breaker.succeeded()
        seconds = self.clock() - self.started
        return found, Trip(place=place.name, attempts=self.attempts, seconds=seconds)

    def _remaining(self) -> float:
        """Return the seconds until the deadline. Raises DeadlineExceeded when there are none."""
        left = self.started + self.limits.deadline_seconds - self.clock()
        if left <= 0:
            sent = f"{self.attempts} request{'' if self.attempts == 1 else 's'}"
            after = f"no answer within {self.limits.deadline_seconds:g} s, after {sent}"
            raise DeadlineExceeded(f"{after}: {self.problem}" if self.problem else after)
        return left
