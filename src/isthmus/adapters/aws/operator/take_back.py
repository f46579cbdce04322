"""Asks the stack's own function to take a release from the core devices: it holds the lock, the key and the rights."""

from __future__ import annotations

import json
from typing import Any

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.errors import Refused, Unavailable


@passing_trouble("Lambda")
def ask_to_take_back(function: str, model: str, reason: str) -> dict[str, Any]:
    """Return the function's answer: the deployment that brings back what was there before, and its components.

    Raises:
        Refused: there is nothing to take back.
        Unavailable: another deployment is being written, or the function did not answer.
    """
    event = json.dumps({"model": model, "take_back": reason}).encode()
    answer = client("lambda").invoke(FunctionName=function, Payload=event)
    told = json.loads(answer["Payload"].read())
    if not answer.get("FunctionError"):
        return dict(told)
    kind, message = str(told.get("errorType", "")), str(told.get("errorMessage", told))
    raise (Refused if kind == Refused.__name__ else Unavailable)(message)
