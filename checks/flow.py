"""What a state machine's document certainly holds when a state is entered.

A field that is set only later, or only on another way, selects nothing when a state reads it. So for
every state the fields are found that each way from StartAt sets before it: definite assignment, as
compilers prove it of variables (Java Language Specification, chapter 16). How a state's result gets
into the document: https://docs.aws.amazon.com/step-functions/latest/dg/concepts-input-output-filtering.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

State = dict[str, Any]
Field = tuple[str, ...]
Held = frozenset[Field] | None
"""The fields that a document certainly holds; None: nobody can say, as after a task whose result replaces it."""
Effect = Callable[[Held], Held]

ERROR_OUTPUT = ("Error", "Cause")
WHOLE = "$"


def entered(container: State, start: Held) -> dict[str, Held]:
    """Return what the document holds on entering each state that a way from StartAt leads to.

    ``start``: what the execution, or the branch, begins with. States of nested definitions are left out.
    """
    states = container["States"]
    found: dict[str, Held] = {}
    waiting = [(container.get("StartAt", ""), start)]
    while waiting:
        name, held = waiting.pop()
        if name not in states:
            continue
        both = common(found[name], held) if name in found else held
        if name in found and both == found[name]:
            continue
        found[name] = both
        waiting += [(target, effect(both)) for target, effect in ways(states[name])]
    return found


def common(first: Held, second: Held) -> Held:
    """Return what is held on both ways."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def ways(state: State) -> Iterator[tuple[str, Effect]]:
    """Yield where a state leads to, and what it makes of the document on that way."""
    done = result(state)
    for target in (
        state.get("Next"),
        state.get("Default"),
        *(rule.get("Next") for rule in state.get("Choices", [])),
    ):
        if target:
            yield target, done
    for handler in state.get("Catch", []):
        yield handler.get("Next", ""), placed(handler.get("ResultPath", WHOLE), ERROR_OUTPUT)


def result(state: State) -> Effect:
    """Return what a state makes of the document when it succeeds."""
    if state.get("OutputPath", WHOLE) != WHOLE:
        return lambda held: None
    if state["Type"] not in ("Task", "Pass", "Map", "Parallel"):
        return lambda held: held
    payload = state.get("ResultSelector") or state.get("Parameters" if state["Type"] == "Pass" else "")
    names = payload if payload is not None else state.get("Result")
    path = state.get("ResultPath", WHOLE)
    if state["Type"] == "Pass" and names is None and path == WHOLE and "InputPath" not in state:
        return lambda held: held
    return placed(path, names if isinstance(names, dict) else None)


def placed(path: str | None, names: Iterable[str] | None) -> Effect:
    """Return what ``ResultPath`` does with a result of these fields; None: they are not known."""
    if path is None:
        return lambda held: held
    if path == WHOLE:
        replaced = None if names is None else frozenset((name.removesuffix(".$"),) for name in names)
        return lambda held: replaced
    field = parts(path)
    added = {field[:length] for length in range(1, len(field) + 1)}
    return lambda held: None if held is None else held | added


def parts(path: str) -> Field:
    """Return the names in a reference path: ``$.a['b']`` gives a and b."""
    return tuple(dotted or quoted for dotted, quoted in re.findall(r"\.([^.\[]+)|\['([^']*)'\]", path))


def written(container: State) -> set[Field]:
    """Return every field that some state of the definition sets (nested ones aside)."""
    effects = [effect for state in container["States"].values() for _, effect in ways(state)]
    return {field for effect in effects for field in effect(frozenset()) or ()}


def without(document: Any, fields: Iterable[Field]) -> Any:
    """Return the document without these fields."""
    if not isinstance(document, dict):
        return document
    gone = {field[0] for field in fields if len(field) == 1}
    inner = {
        name: [field[1:] for field in fields if len(field) > 1 and field[0] == name] for name in document
    }
    return {name: without(value, inner[name]) for name, value in document.items() if name not in gone}
