"""State RegisterModel: enter the release in the SageMaker Model Registry."""

from __future__ import annotations

import os
from typing import Any

from isthmus import bootstrap
from isthmus.config import RegisterModelSettings
from isthmus.observe import observed
from isthmus.workflows.register_model import register_model


@observed
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    settings = RegisterModelSettings.from_env(os.environ)
    asks = settings.manual_approval == "required"
    package = register_model(
        event["model"],
        event["bundle"],
        event["release"],
        event["job_key"],
        bucket=settings.bucket,
        records=bootstrap.records(settings.table),
        registry=bootstrap.registry(settings.model_group),
        approved=not asks,
    )
    # Decided here, once: the registry and the next state must not read two answers.
    return {"package": package, "asks": asks, "approval_seconds": round(settings.approval_days * 86400)}
