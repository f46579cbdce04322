"""An execution of a state machine, as its history tells it."""

from __future__ import annotations

from typing import Literal

import msgspec


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Where an execution broke off: the state that it entered last, and the last event's error and cause."""

    state: str
    error: str = ""
    cause: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A failed try of a state, ``at_seconds`` after the execution's start; ``cause`` is explained."""

    at_seconds: float
    error: str
    cause: str


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One stay in a state. Times are seconds since the execution's start; ``left_seconds`` None: still there.

    ``caught``: every try failed, and the execution went on elsewhere. ``attempts`` counts what was
    scheduled; ``redrive`` is 0, or under which redrive the state was entered. ``nested`` is the ARN of
    the execution that it started.
    """

    state: str
    type: str
    outcome: Literal["running", "succeeded", "caught", "failed", "stopped"] = "running"
    entered_seconds: float
    left_seconds: float | None = None
    attempts: int = 0
    failures: tuple[Failure, ...] = ()
    redrive: int = 0
    nested: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """An execution. ``status`` is Step Functions' own; times are seconds since the epoch.

    ``not_redrivable`` says why it cannot be redriven now, empty if it can.
    """

    name: str
    arn: str
    status: str
    started_at: float
    ended_at: float | None = None
    redrives: int = 0
    redriven_at: float | None = None
    not_redrivable: str = ""
    visits: tuple[Visit, ...] = ()
    error: str = ""
    cause: str = ""

    @property
    def state(self) -> str:
        """The state in which it is, or in which it ended; empty before the first."""
        return self.visits[-1].state if self.visits else ""
