"""Serves the bundle that the model's layer brought, in the Open Inference Protocol v2."""

from __future__ import annotations

import os
from functools import cache, partial
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from isthmus.inference.lambda_handler import answer, service_from_env
from isthmus.inference.service import ModelService
from isthmus.observe import observed


@cache
def service() -> ModelService:
    """Verify and open the model at the first request, once per execution environment."""
    return service_from_env(os.environ)


@partial(observed, spans=False)  # the X-Ray SDK would add botocore to its first request
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer a request that the router passed on in API Gateway's proxy format, or a ping."""
    return answer(event, service())
