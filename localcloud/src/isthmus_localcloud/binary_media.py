"""Binary media types of REST APIs: LocalEmu asks the bytes what they are, and knows no wildcard.

AWS goes by the media types alone. A request whose Content-Type is in the API's list reaches the function as
base64, whatever its bytes; any other as text. A function's base64 becomes bytes for a client whose first
Accept is in the list; another gets the base64. ``*/*`` includes everything, also a request that names none.
Source: API Gateway developer guide, "Binary media types for REST APIs in API Gateway" and "Return binary
media from a Lambda proxy integration"; github.com/ministackorg/ministack/pull/767 tells the same of AWS.
"""

import base64
from collections.abc import Sequence
from typing import Any

from localemu.services.apigateway.next_gen.execute_api import helpers
from localemu.services.apigateway.next_gen.execute_api.integrations.aws import RestApiAwsProxyIntegration

from .hooks import replace_everywhere

DEFAULT_TYPE = "application/json"
"""What a request counts as that names no type, or none that can be read."""


def apply() -> None:
    replace_everywhere(helpers.__name__, "mime_type_matches_binary_media_types", is_binary)
    original = RestApiAwsProxyIntegration.create_lambda_input_event

    def create_lambda_input_event(self: Any, context: Any) -> Any:
        event = original(self, context)
        event["body"], event["isBase64Encoded"] = packed(
            context.integration_request["body"],
            context.integration_request["headers"].get("Content-Type"),
            context.deployment.rest_api.rest_api.get("binaryMediaTypes") or [],
        )
        return event

    RestApiAwsProxyIntegration.create_lambda_input_event = create_lambda_input_event


def is_binary(mime_type: str | None, binary_media_types: Sequence[str]) -> bool:
    """Whether the first of the types that a header names is in an API's list."""
    named = (mime_type or DEFAULT_TYPE).split(",")[0].split(";")[0].strip().lower()
    kind, _, _ = named.partition("/")
    return any(entry.lower() in ("*/*", named, f"{kind}/*") for entry in binary_media_types)


def packed(
    body: bytes, content_type: str | None, binary_media_types: Sequence[str]
) -> tuple[str | None, bool]:
    """A body as an event carries it, and whether that is base64. Bytes that are no text are lost as text."""
    if not body:
        return None, False
    if is_binary(content_type, binary_media_types):
        return base64.b64encode(body).decode(), True
    return body.decode(errors="replace"), False
