"""JSONata for LocalEmu's engine, which composes complete expressions but has lost its evaluator."""

import json
from typing import Any

import jsonata
from localemu.services.stepfunctions.asl.jsonata.jsonata import JSONataException


def evaluate(expression: str) -> Any:
    """Raises JSONataException, which the engine reports as States.QueryEvaluationError."""
    try:
        result = jsonata.Jsonata(expression).evaluate(None)
    except Exception as error:  # the library raises several unrelated classes for a bad expression
        raise JSONataException("UNKNOWN", str(error)) from error
    return json.loads(json.dumps(result))
