"""Called by the router and by nobody waited for: a candidate's answer against the model's in service."""

from __future__ import annotations

import os
from typing import Any

from isthmus import bootstrap
from isthmus.config import ShadowInferenceSettings
from isthmus.observe import emit, observed
from isthmus.workflows.shadow_inference import shadow_inference


@observed
def handler(event: dict[str, Any], context: object) -> None:
    settings = ShadowInferenceSettings.from_env(os.environ)
    found = shadow_inference(
        event,
        stack=settings.stack,
        functions=bootstrap.functions(settings.bucket),
        records=bootstrap.records(settings.table),
        now=bootstrap.now(),
        clock=bootstrap.clock().now(),
    )
    values: dict[str, float] = {"ShadowLatency": found.milliseconds, "ShadowFailed": bool(found.problem)}
    if found.difference is not None:
        values |= {"ShadowDifference": found.difference}
    emit(values, facts={"release": event["release"]}, model=event["model"])
