"""CloudFormation custom resource ServingCode: after a deploy, renew the models in service."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.request import Request, urlopen

from isthmus import bootstrap
from isthmus.config import RefreshModelsSettings
from isthmus.observe import logger, observed
from isthmus.workflows.refresh_models import refresh_models


@observed
def handler(event: dict[str, Any], context: Any) -> None:
    status, reason = "SUCCESS", "started"
    try:
        if event["RequestType"] == "Update":
            logger.info("refreshed", extra={"models": _refresh(event["RequestId"])})
    except Exception as error:  # whatever it was: without an answer the stack waits for an hour
        logger.exception("refresh failed")
        status, reason = "FAILED", f"{type(error).__name__}: {error}"
    answer = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    answer |= {"Status": status, "Reason": reason, "PhysicalResourceId": "isthmus-serving-code"}
    with urlopen(
        Request(event["ResponseURL"], json.dumps(answer).encode(), {"Content-Type": ""}, method="PUT")
    ):
        logger.info("answered", extra={"status": status})


def _refresh(request_id: str) -> list[str]:
    settings = RefreshModelsSettings.from_env(os.environ)
    return refresh_models(
        request_id,
        records=bootstrap.records(settings.table),
        executions=bootstrap.executions(),
        machine=settings.deploy_cloud,
    )
