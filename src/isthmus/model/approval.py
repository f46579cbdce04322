"""Whether a model that passed the gate may go into service, where people decide that."""

from __future__ import annotations

from typing import Literal

import msgspec

MAX_REASON_CHARACTERS = 500
"""So that it fits what the model registry says of a package, with an identity beside it."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the state machine is told: ``by`` is who said it (an ARN), empty when nobody did in time; ``at`` is UTC."""

    state: Literal["APPROVED", "REJECTED", "EXPIRED"]
    at: str
    by: str = ""
    reason: str = ""


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, and what came of it; the task token is no part of it.

    ``execution`` is the ARN that asks. ``candidate`` and ``champion`` are accuracies (0..1), None: not scored;
    ``champion_release`` is the release that the candidate was compared with, 0: none was in service. Times are UTC, ISO
    8601: ``since`` it waits, ``until`` it waits at the most, ``at`` it was answered.
    """

    execution: str
    model: str
    release: int
    since: str
    until: str
    candidate: float | None = None
    champion: float | None = None
    champion_release: int = 0
    state: Literal["WAITING", "APPROVED", "REJECTED", "EXPIRED"] = "WAITING"
    by: str = ""
    reason: str = ""
    at: str = ""
