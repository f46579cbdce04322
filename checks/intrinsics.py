"""Intrinsic functions of the Amazon States Language, evaluated on sample values.

The list and the meaning of each:
https://docs.aws.amazon.com/step-functions/latest/dg/intrinsic-functions.html
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from checks.findings import CheckError

TOKEN = re.compile(
    r"""\s*(?:
        (?P<call>States\.\w+)\s*\( |
        (?P<string>'(?:\\.|[^'\\])*') |
        (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?) |
        (?P<word>true|false|null)\b |
        (?P<path>\$(?:\[(?:'(?:\\.|[^'\\])*'|[^\]'])*\]|[^\s,()\[])*) |
        (?P<close>\)) |
        (?P<comma>,)
    )""",
    re.VERBOSE,
)
WORDS = {"true": True, "false": False, "null": None}
HASHES = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}


def evaluate(expression: str, read: Callable[[str], Any]) -> Any:
    """Return the value of ``States.Name(…)``; ``read`` gives the value of a path.

    Raises:
        CheckError: the expression does not parse, no such function exists, or its arguments are wrong.
    """
    parser = _Parser(expression, read)
    value = parser.value()
    if parser.rest():
        raise CheckError(f"{expression} has {parser.rest()!r} after its end")
    return value


class _Parser:
    def __init__(self, text: str, read: Callable[[str], Any]) -> None:
        self._text, self._read, self._at = text, read, 0

    def rest(self) -> str:
        return self._text[self._at :].strip()

    def value(self) -> Any:
        kind, text = self._next()
        match kind:
            case "call":
                return _call(text, self._arguments(), self._text)
            case "string":
                return text[1:-1]  # still escaped: Format must tell \{ from {
            case "number":
                return json.loads(text)
            case "word":
                return WORDS[text]
            case "path":
                return self._read(text)
        raise CheckError(f"{self._text} has {text!r} where a value should be")

    def _arguments(self) -> list[Any]:
        arguments: list[Any] = []
        if self.rest().startswith(")"):
            self._next()
            return arguments
        while True:
            arguments.append(self.value())
            kind, text = self._next()
            if kind == "close":
                return arguments
            if kind != "comma":
                raise CheckError(f"{self._text} has {text!r} where a comma should be")

    def _next(self) -> tuple[str, str]:
        found = TOKEN.match(self._text, self._at)
        if not found or not found.lastgroup:
            raise CheckError(f"{self._text} does not parse at {self.rest()!r}")
        self._at = found.end()
        return found.lastgroup, found[found.lastgroup]


def _call(name: str, arguments: list[Any], expression: str) -> Any:
    if name not in FUNCTIONS:
        raise CheckError(f"{name} is no intrinsic function; there are {', '.join(sorted(FUNCTIONS))}")
    if name != "States.Format":
        arguments = [_unescape(entry) if isinstance(entry, str) else entry for entry in arguments]
    try:
        return FUNCTIONS[name](*arguments)
    except (TypeError, ValueError, LookupError) as error:
        raise CheckError(f"{expression} fails on the sample: {error}") from error


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _format(template: str, *values: Any) -> str:
    holes = len(re.findall(r"(?<!\\)\{\}", template))
    if holes != len(values):
        raise ValueError(f"{holes} times {{}} for {len(values)} values")
    filled = iter(values)
    text = re.sub(r"(?<!\\)\{\}", lambda _: _text(next(filled)).replace("\\", "\\\\"), template)
    return _unescape(text)


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        raise ValueError("States.Format takes strings, numbers, booleans and null")
    return value if isinstance(value, str) else json.dumps(value)


def _whole(*values: Any) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{value!r} is no whole number")


def _add(first: Any, second: Any) -> int:
    _whole(first, second)
    return int(first + second)


def _range(first: int, last: int, step: int) -> list[int]:
    _whole(first, last, step)
    return list(range(first, last + (1 if step > 0 else -1), step))


def _random(start: int, end: int, seed: int = 0) -> int:
    _whole(start, end, seed)
    if end <= start:
        raise ValueError("the end is not after the start")
    return start  # any value of the range will do, and the same one each time


def _unique(values: list[Any]) -> list[Any]:
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def _merge(first: dict[str, Any], second: dict[str, Any], deep: bool) -> dict[str, Any]:
    if deep is not False:
        raise ValueError("deep merging is not supported by Step Functions: the third argument is false")
    return {**first, **second}


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "States.Array": lambda *values: list(values),
    "States.ArrayContains": lambda values, wanted: wanted in values,
    "States.ArrayGetItem": lambda values, index: values[index],
    "States.ArrayLength": len,
    "States.ArrayPartition": lambda values, size: [
        values[start : start + size] for start in range(0, len(values), size)
    ],
    "States.ArrayRange": _range,
    "States.ArrayUnique": _unique,
    "States.Base64Decode": lambda text: base64.b64decode(text, validate=True).decode(),
    "States.Base64Encode": lambda text: base64.b64encode(text.encode()).decode(),
    "States.Format": _format,
    "States.Hash": lambda text, kind: hashlib.new(HASHES[kind], text.encode()).hexdigest(),
    "States.JsonMerge": _merge,
    "States.JsonToString": lambda value: json.dumps(value, separators=(",", ":")),
    "States.MathAdd": _add,
    "States.MathRandom": _random,
    "States.StringSplit": lambda text, marks: [
        part for part in re.split(f"[{re.escape(marks)}]", text) if part
    ],
    "States.StringToJson": json.loads,
    "States.UUID": lambda: "00000000-0000-4000-8000-000000000000",
}
