"""The API's ``POST /results/{device}``: a device's results into the bucket, each once, and how they spread."""

from __future__ import annotations

import os
from typing import Any

from isthmus import bootstrap
from isthmus.config import StateSettings
from isthmus.observe import emit, logger, observed
from isthmus.workflows.ingest_results import answer_results
from isthmus.workflows.watch_answers import AnswerDrift


def report(model: str, drift: AnswerDrift) -> None:
    """Tell of a release of this stack how far a device's last answers are from its own; it is seldom said."""
    values = {"AnswerDrift": drift.classes}
    if drift.confidence is not None:
        values |= {"ConfidenceDrift": drift.confidence}
    emit(values, model=model)
    if drift.is_large:  # what the template's metric filter, and so its alarm, looks for
        logger.warning("answers drifted", extra={"answers": "drifted", "model": model})


@observed
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    settings = StateSettings.from_env(os.environ)
    blobs, records = bootstrap.blobs(settings.bucket), bootstrap.records(settings.table)
    return answer_results(event, blobs=blobs, records=records, now=bootstrap.now(), report=report)
