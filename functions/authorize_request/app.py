"""API Gateway's authorizer, where the stack takes tokens: who bears one of its issuer may call."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from isthmus import bootstrap_serving
from isthmus.config import AuthorizeRequestSettings
from isthmus.observe import observed
from isthmus.workflows.authorize_request import Tokens, authorize_request


@cache
def tokens() -> Tokens:
    """The issuer's keys are kept for as long as the execution environment lives, and looked up anew in time."""
    return bootstrap_serving.tokens(AuthorizeRequestSettings.from_env(os.environ))


@observed
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return authorize_request(event, tokens())
