"""Serves a model's bundle, from its layer or from the bucket, in the Open Inference Protocol v2."""

from __future__ import annotations

import os

from isthmus.inference import early

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    early.begin(os.environ)  # before the imports that it goes on beside

from functools import cache, partial
from typing import Any

from isthmus.bootstrap_serving import answer_handed_over, model_service
from isthmus.inference.lambda_handler import answer, raise_if_broken
from isthmus.inference.runtime import end_loading
from isthmus.inference.service import ModelService
from isthmus.observe import emit, observed


@cache
def service() -> ModelService:
    """Verify and open the model at the first request, once per execution environment."""
    try:
        return model_service(os.environ, report_drift)
    finally:
        end_loading()


def report_drift(model: str, index: float, shift: float) -> None:
    """Tell how far the last requests are from what the model was judged on; it is seldom said."""
    emit({"InputDrift": index, "InputShift": shift}, model=model)


@partial(observed, spans=False)  # nothing that an answered request has no use for
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer a request that the router passed on in API Gateway's proxy format, or a ping."""
    if event.get("handover"):
        return raise_if_broken(answer_handed_over(event, service(), os.environ), event)
    return raise_if_broken(answer(event, service()), event)


if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") != "on-demand":
    # A snapshot, or an environment that is kept ready, is taken when this module has been imported: with the model.
    service().releases()
