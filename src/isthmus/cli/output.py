"""What a command prints: progress for a person on stderr, the result on stdout, as text or JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec


class Output:
    """``--json``: stdout holds exactly one JSON document, and nothing else is printed but errors."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def progress(self, line: str) -> None:
        """Say what is going on."""
        if not self.as_json:
            print(line, file=sys.stderr, flush=True)

    def result(self, value: object, text: str) -> None:
        """Print the result: ``value`` as JSON, or ``text``."""
        print(json.dumps(msgspec.to_builtins(value), indent=2) if self.as_json else text, flush=True)

    def error(self, name: str, sentence: str) -> None:
        """Print a failure, without a traceback."""
        if self.as_json:
            print(json.dumps({"error": name, "message": sentence}), flush=True)
        else:
            print(f"isthmus: {sentence}", file=sys.stderr, flush=True)


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    """Return rows as aligned text with a heading; an absent value is a dash."""
    cells = [[str(row.get(name, "-")) for name in columns] for row in rows]
    widths = [
        max(len(name), *(len(line[i]) for line in cells)) if cells else len(name)
        for i, name in enumerate(columns)
    ]
    lines = [[name.upper() for name in columns], *cells]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
