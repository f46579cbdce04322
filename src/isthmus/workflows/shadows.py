"""Which requests a candidate gets a copy of, and how it gets them: ``shadow_inference`` takes it from here."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from isthmus.errors import LimitExceeded, Unavailable
from isthmus.ports import Functions
from isthmus.workflows.serving_settings import Shadow


class Shadows:
    """Passes requests on to the function that compares; ``draw`` gives numbers in [0, 1)."""

    def __init__(
        self, functions: Functions, comparer: str, draw: Callable[[], float] = random.random
    ) -> None:
        self._functions, self._comparer, self._draw = functions, comparer, draw

    def offer(
        self,
        model: str,
        shadow: Shadow,
        request: Mapping[str, Any],
        answer: Mapping[str, Any],
        milliseconds: float,
    ) -> bool:
        """Send a copy of a request and its answer, if its turn has come; return whether it was sent.

        Never fails: what is too large for an asynchronous call, or cannot be sent now, is left out.
        """
        if self._draw() >= shadow.share:
            return False
        event = {
            "model": model,
            "release": shadow.release,
            "qualifier": shadow.qualifier,
            "request": request,
            "answer": answer,
            "milliseconds": milliseconds,
        }
        try:
            self._functions.send(self._comparer, event)
        except (LimitExceeded, Unavailable):
            return False
        return True
