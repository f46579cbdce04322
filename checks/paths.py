"""JSONPath as Step Functions reads it."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonpath_ng as jp
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.ext.parser import parse

from checks.findings import CheckError


def read(path: str, state_input: Any, context: Any) -> Any:
    """Return what ``path`` selects: ``$…`` from the state's input, ``$$…`` from the context object.

    A path that can match many values gives a list, any other exactly one, as in Step Functions
    (https://docs.aws.amazon.com/step-functions/latest/dg/amazon-states-language-paths.html).

    Raises:
        CheckError: the path is no JSONPath, or a definite path selects nothing.
    """
    document = context if path.startswith("$$") else state_input
    expression = _parse(path[1:] if path.startswith("$$") else path)
    found = [match.value for match in expression.find(document)]
    if _is_indefinite(expression):
        return found
    if not found:
        source = "context object" if path.startswith("$$") else "sample input"
        raise CheckError(f"reads {path}, which the {source} does not have")
    return found[0]


@cache
def _parse(path: str) -> Any:
    try:
        return parse(path)
    except JSONPathError as error:
        raise CheckError(f"{path} is no JSONPath: {error}") from error


def _is_indefinite(expression: Any) -> bool:
    if isinstance(expression, jp.Child):
        return _is_indefinite(expression.left) or _is_indefinite(expression.right)
    if isinstance(expression, jp.Fields):
        return len(expression.fields) > 1 or "*" in expression.fields
    if isinstance(expression, jp.Index):
        return len(getattr(expression, "indices", ())) > 1
    return not isinstance(expression, jp.Root | jp.This)
