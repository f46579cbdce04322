"""The API's one route, ``/{proxy+}``: find the model's own function and pass the request on."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger

from isthmus import bootstrap
from isthmus.config import RouteInferenceSettings
from isthmus.workflows.route_inference import route_inference

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    settings = RouteInferenceSettings.from_env(os.environ)
    return route_inference(
        event,
        stack=settings.stack,
        functions=bootstrap.functions(settings.bucket),
        records=bootstrap.records(settings.table),
    )
