"""Decide recorded calls again: which permissions did a run need?

``python -m isthmus_localcloud.iam.replay RECORD POLICIES`` reads a record (``logs/iam.jsonl``) and a
JSON object of the policies of each identity, ``{"NAME": [DOCUMENT, ...]}``, and prints a JSON object::

    refused   recorded calls that were refused, and that these policies do not allow either
    unused    actions that an identity was granted and no recorded call took
    needless  actions without which every recorded call would still be allowed

each as a list of objects with ``identity``, ``action`` and, for a refusal, ``resource`` and ``operation``.
Identities that POLICIES does not name are left out.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .calls import MISSING_OBJECT
from .conditions import as_list
from .policies import Decision, Policies, Principal, Question, parse, without

Document = Mapping[str, Any]
Line = Mapping[str, Any]
BASE = {"aws:securetransport": "true"}


def read(file: Path) -> Iterator[Line]:
    """The recorded decisions, each kind of call once; a rotated file comes first."""
    seen = set()
    for part in (file.with_name(file.name + ".1"), file):
        if not part.exists():
            continue
        for text in part.read_text().splitlines():
            line = json.loads(text)
            key = json.dumps({k: v for k, v in line.items() if k not in ("time", "arn")}, sort_keys=True)
            if key not in seen:
                seen.add(key)
                yield line


def question(line: Line) -> Question:
    keys = {name.lower(): value for name, value in line["keys"].items()}
    return Question(line["action"], line["resource"], {**BASE, **keys})


def allowed(documents: Sequence[Document], line: Line) -> bool:
    """Whether the identity's own policies allow the call."""
    statements = [statement for document in documents for statement in parse(document)]
    return Policies(statements).decide(Principal(""), question(line)).allows


def _refused(line: Line) -> bool:
    """Whether the call was refused for want of a permission.

    Who asks for a missing object without the right to list is refused instead of told; the object is what
    was missing.
    """
    return not Decision(line["decision"]).allows and line["implied"] != MISSING_OBJECT


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
    found: dict[str, list[dict[str, str]]] = {"refused": [], "unused": [], "needless": []}
    for name, documents in policies.items():
        own = [line for line in lines if line["identity"] == name]
        refused = [line for line in own if _refused(line) and not allowed(documents, line)]
        wanted = ("identity", "action", "resource", "operation")
        found["refused"] += [{field: line[field] for field in wanted} for line in refused]
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
    print(json.dumps(audit(list(read(record)), policies)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
