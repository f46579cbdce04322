"""The API's one route, ``/{proxy+}``: find the model's own function and pass the request on."""

from __future__ import annotations

import os
import time
from typing import Any

from isthmus import bootstrap, bootstrap_serving
from isthmus.config import RouteInferenceSettings
from isthmus.observe import correlation_id, emit, observed
from isthmus.workflows.route_inference import model_of, route_inference

KNOWN: set[str] = set()
"""Models whose own functions were reached from this execution environment. Any other name may be made up, and must
become no dimension: whoever calls would make up metrics."""


@observed
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    settings, started = RouteInferenceSettings.from_env(os.environ), time.perf_counter()
    answer = route_inference(
        event,
        stack=settings.stack,
        functions=bootstrap.functions(settings.bucket),
        records=bootstrap.records(settings.table),
        settings=bootstrap_serving.serving_settings(settings.table),
        shadows=bootstrap_serving.shadows(settings.bucket, settings.shadow_function),
        hand_over=bootstrap_serving.hand_over(settings.bucket),
        reached=KNOWN.add,
    )
    status, model = int(answer["statusCode"]), model_of(event)
    if model in KNOWN and status != 404:
        values = {"RequestLatency": (time.perf_counter() - started) * 1000, "RequestFailed": status >= 500}
        emit(values, facts={"status": status, "correlation_id": correlation_id(event)}, model=model)
    return answer
