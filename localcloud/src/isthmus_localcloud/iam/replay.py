"""Decide recorded calls again: which permissions did a run need?

``python -m isthmus_localcloud.iam.replay RECORD POLICIES [REMOVALS]`` reads a record (``logs/iam.jsonl``)
and a JSON object of the policies of each identity, ``{"NAME": [DOCUMENT, ...]}``, and prints a JSON object::

    refused   recorded calls that were refused, by whatever policy: the identity's, the resource's, a limit
    unused    actions that an identity was granted and no recorded call took
    needless  actions without which every recorded call would still be allowed

each as a list of objects with ``identity``, ``action`` and, for a refusal, ``resource``, ``operation`` and
``decision``. Identities that POLICIES does not name are left out; not so AWS services that deliver something,
whom only the policies of resources let do it.

REMOVALS has one JSON object a line for each time that permissions were taken away on purpose:
``{"identity": NAME, "actions": [ACTION, ...], "since": SECONDS, "until": SECONDS}``, in seconds of the
epoch. What was refused for want of them meanwhile is no refusal here.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .calls import MISSING_OBJECT
from .conditions import as_list
from .policies import Decision, Policies, Principal, Question, parse, without

Document = Mapping[str, Any]
Line = Mapping[str, Any]
Removal = Mapping[str, Any]
BASE = {"aws:securetransport": "true"}


def read(file: Path) -> Iterator[Line]:
    """The recorded decisions; a rotated file comes first."""
    for part in (file.with_name(file.name + ".1"), file):
        if part.exists():
            yield from map(json.loads, part.read_text().splitlines())


def once(lines: Iterable[Line]) -> Iterator[Line]:
    """Each kind of call once, the first of them."""
    seen = set()
    for line in lines:
        key = json.dumps({k: v for k, v in line.items() if k not in ("time", "arn")}, sort_keys=True)
        if key not in seen:
            seen.add(key)
            yield line


def on_purpose(line: Line, removals: Iterable[Removal]) -> bool:
    """Whether the call was refused for want of what had been taken away."""
    return line["decision"] == Decision.NOT_ALLOWED.value and any(
        line["identity"] == removal["identity"]
        and line["action"] in removal["actions"]
        and removal["since"] <= line["time"] <= removal["until"]
        for removal in removals
    )


def question(line: Line) -> Question:
    keys = {name.lower(): value for name, value in line["keys"].items()}
    return Question(line["action"], line["resource"], {**BASE, **keys})


def allowed(documents: Sequence[Document], line: Line) -> bool:
    """Whether the identity's own policies allow the call."""
    statements = [statement for document in documents for statement in parse(document)]
    return Policies(statements).decide(Principal(""), question(line)).allows


def _refused(line: Line) -> bool:
    """Whether the call was refused for want of a permission, or by an explicit deny.

    Who asks for a missing object without the right to list is refused instead of told; the object is what
    was missing.
    """
    decision = Decision(line["decision"])
    return decision is Decision.DENIED or not (decision.allows or line["implied"] == MISSING_OBJECT)


def refusals(lines: Iterable[Line], names: Iterable[str]) -> Iterator[dict[str, str]]:
    """Every refusal of one of the identities, and of AWS services."""
    wanted = ("identity", "action", "resource", "operation", "decision")
    known = frozenset(names)
    for line in lines:
        if _refused(line) and (line["identity"] in known or line["kind"] == "service"):
            yield {field: line[field] for field in wanted}


def granted(documents: Sequence[Document]) -> list[str]:
    """Every action that the documents allow, in their order."""
    found = [
        action
        for document in documents
        for entry in as_list(document.get("Statement", []))
        if entry.get("Effect") == "Allow"
        for action in as_list(entry.get("Action", []))
    ]
    return list(dict.fromkeys(found))


def audit(
    lines: Sequence[Line], policies: Mapping[str, Sequence[Document]]
) -> dict[str, list[dict[str, str]]]:
    """See the module's description."""
    found: dict[str, list[dict[str, str]]] = {
        "refused": list(refusals(lines, policies)),
        "unused": [],
        "needless": [],
    }
    for name, documents in policies.items():
        own = [line for line in lines if line["identity"] == name]
        taken = [line for line in own if line["decision"] == Decision.ALLOWED.value]
        for action in granted(documents):
            using = [line for line in taken if line["action"].lower() == action.lower()]
            entry = {"identity": name, "action": action}
            if not any(allowed(documents, line) for line in using):
                found["unused"].append(entry)
                continue
            reduced = [without(document, action) for document in documents]
            if all(allowed(reduced, line) for line in using if allowed(documents, line)):
                found["needless"].append(entry)
    return found


def main() -> int:
    record, policies = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    removals = [json.loads(text) for path in sys.argv[3:] for text in Path(path).read_text().splitlines()]
    lines = list(once(line for line in read(record) if not on_purpose(line, removals)))
    print(json.dumps(audit(lines, policies)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
