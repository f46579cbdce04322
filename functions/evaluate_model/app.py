"""State EvaluateModel: score candidate and champion on the held-out split."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.config import StateSettings
from isthmus.observe import observed
from isthmus.workflows.evaluate_model import check_rounds, evaluate_model


@observed
def handler(event: dict[str, Any], context: object) -> Any:
    settings = StateSettings.from_env(os.environ)
    check_rounds(event.get("round", 0), event.get("redrives", 0))
    with bootstrap.workdir() as workdir:
        verdict = evaluate_model(
            event["job_key"],
            event["fencing"],
            blobs=bootstrap.blobs(settings.bucket),
            records=bootstrap.records(settings.table),
            open_engine=bootstrap.open_engine,
            workdir=workdir,
        )
    return msgspec.to_builtins(verdict)
