"""What a rig found of a candidate on held-out data that lie with it: the cloud may not see them, and decides by it."""

from __future__ import annotations

from typing import Literal

import msgspec

JUDGEMENT_FILE = "judgement.json"


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracies (0..1) on one held-out split. ``champion`` None: there is none, or it cannot take this data, and
    ``incomparable`` says why."""

    candidate: float
    champion: float | None = None
    incomparable: str = ""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """``scores`` of the model with the SHA-256 ``model`` (hex), and of the champion whose bundle has the digest
    ``champion_bundle`` (hex; empty: none was in service)."""

    schema: Literal["isthmus/judgement/1"] = "isthmus/judgement/1"
    scores: Scores
    model: str
    champion_bundle: str = ""
