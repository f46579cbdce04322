"""States AskApproval and RecordApproval: people decide whether a model goes into service."""

from __future__ import annotations

import datetime
import os
from typing import Any

from isthmus import bootstrap, documents
from isthmus.config import ApproveModelSettings
from isthmus.observe import logger, observed
from isthmus.workflows.approve_model import Asked, ask_approval, record_approval


@observed
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    settings = ApproveModelSettings.from_env(os.environ)
    records, registry = bootstrap.records(settings.table), bootstrap.registry(settings.model_group)
    job_key, package = event["job_key"], event["package"]
    if "asked" in event:
        asked = documents.convert(Asked, event.get("asked"), "what is asked")
        token, now = event.get("token", ""), datetime.datetime.now(datetime.UTC)
        found = ask_approval(job_key, asked, package, token, records=records, registry=registry, now=now)
    else:
        found = record_approval(job_key, package, event.get("answer"), records=records, registry=registry)
    logger.info("approval", extra={"job_key": job_key, "state": found.state})
    return {"approved": found.state == "APPROVED"}
