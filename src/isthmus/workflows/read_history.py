"""An execution's events as stays in its states: pure, from Step Functions' own history.

Source: Step Functions API reference, GetExecutionHistory, HistoryEvent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from isthmus.model.execution import Ending, Failure, Visit
from isthmus.workflows.explain_failure import explain

Event = Mapping[str, Any]
"""As the API gives it, with ``timestamp`` in seconds since the epoch."""

SCHEDULED = frozenset({"TaskScheduled", "LambdaFunctionScheduled", "ActivityScheduled"})
FAILED = ("Failed", "TimedOut")
STOPPED = "ExecutionAborted"
ENDS = frozenset({"ExecutionFailed", "ExecutionTimedOut", STOPPED})
BROKEN_OFF = ("failed", "stopped")


def ending(newest_first: Iterable[Event]) -> Ending:
    """Return where an execution broke off; its events come newest first, and no more than needed is read."""
    said: dict[str, Any] = {}
    for event in newest_first:
        entered = event.get("stateEnteredEventDetails")
        if entered:
            return Ending(state=entered["name"], error=said.get("error") or "", cause=said.get("cause") or "")
        said = said or _details(event)
    return Ending(state="", error=said.get("error") or "", cause=said.get("cause") or "")


def visits(events: Iterable[Event]) -> tuple[Visit, ...]:
    """Return each stay in a state, in the order of entering; the events come oldest first."""
    story = _Story()
    for event in events:
        story.add(event)
    return tuple(story.stays)


@dataclass
class _Story:
    """``of`` maps an event's id to the place in ``stays`` of the stay that it belongs to."""

    stays: list[Visit] = field(default_factory=list)
    of: dict[int, int] = field(default_factory=dict)
    started_at: float | None = None
    redrive: int = 0

    def add(self, event: Event) -> None:
        kind = event["type"]
        if self.started_at is None:
            self.started_at = event["timestamp"]
        at = round(event["timestamp"] - self.started_at, 3)
        if kind.endswith("StateEntered"):
            self._enter(event, at)
            return
        # What ends an execution refers to no event; it concerns the state that was entered last.
        place = self.of.get(event.get("previousEventId", 0), len(self.stays) - 1)
        if kind == "ExecutionRedriven":
            self.redrive += 1
        elif place >= 0:
            place = self._again(place, at)
            self.of[event["id"]] = place
            self.stays[place] = _after(self.stays[place], event, at)

    def _again(self, place: int, at: float) -> int:
        """Return the place of a stay that goes on; one that broke off before a redrive goes on anew.

        A redriven Task "reschedules and then reruns" (Step Functions developer guide, "Restarting state
        machine executions with redrive"): its state need not be entered again.
        """
        stay = self.stays[place]
        if stay.outcome not in BROKEN_OFF or stay.redrive == self.redrive:
            return place
        self.stays.append(Visit(state=stay.state, type=stay.type, entered_seconds=at, redrive=self.redrive))
        return len(self.stays) - 1

    def _enter(self, event: Event, at: float) -> None:
        name, kind = event["stateEnteredEventDetails"]["name"], event["type"].removesuffix("StateEntered")
        self.of[event["id"]] = len(self.stays)
        self.stays.append(Visit(state=name, type=kind, entered_seconds=at, redrive=self.redrive))


def _after(stay: Visit, event: Event, at: float) -> Visit:
    """Return a stay after one more of its events."""
    kind, change = event["type"], msgspec.structs.replace
    if kind in ENDS:
        failed = stay if stay.failures or kind == STOPPED else _with_failure(stay, event, at)
        return change(failed, outcome="stopped" if kind == STOPPED else "failed", left_seconds=at)
    if kind.endswith("StateExited"):
        caught = bool(stay.failures) and len(stay.failures) >= stay.attempts
        return change(stay, outcome="caught" if caught else "succeeded", left_seconds=at)
    if kind in SCHEDULED:
        return change(stay, attempts=stay.attempts + 1)
    if kind == "TaskSubmitted":
        return change(stay, nested=_nested(event) or stay.nested)
    return _with_failure(stay, event, at) if kind.endswith(FAILED) else stay


def _with_failure(stay: Visit, event: Event, at: float) -> Visit:
    said = _details(event)
    given = {"Error": said.get("error") or "", "Cause": said.get("cause") or "", "At": stay.state}
    error, cause = explain(given)
    failure = Failure(at_seconds=at, error=error, cause=cause)
    return msgspec.structs.replace(stay, failures=(*stay.failures, failure))


def _details(event: Event) -> dict[str, Any]:
    """Return the one member of an event that holds its details: it is called after the event's type."""
    found = [value for name, value in event.items() if name.endswith("EventDetails")]
    return dict(found[0]) if found else {}


def _nested(event: Event) -> str:
    output = event["taskSubmittedEventDetails"].get("output") or "{}"
    try:
        return str(msgspec.json.decode(output).get("ExecutionArn", ""))
    except (msgspec.DecodeError, AttributeError):
        return ""
