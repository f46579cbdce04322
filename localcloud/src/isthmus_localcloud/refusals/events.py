"""EventBridge: the size of PutEvents' entries. LocalEmu refuses a detail of 256 KB, the limit until 2026.

Source: EventBridge user guide, "Calculating PutEvents event entry size".
"""

import json
from typing import Any

from localemu.aws.api import CommonServiceException, RequestContext
from localemu.services.events import provider

from . import limits

TIME_BYTES = 14
OLD_DETAIL_BYTES = 262_144


def entry_bytes(entry: dict[str, Any]) -> int:
    texts = [entry.get(name) or "" for name in ("Source", "DetailType", "Detail")]
    texts += [resource for resource in entry.get("Resources") or [] if resource]
    return sum(len(text.encode()) for text in texts) + (TIME_BYTES if entry.get("Time") else 0)


def put_events(context: RequestContext) -> None:
    """Raises ValidationException for the whole request, as AWS does."""
    total = sum(entry_bytes(entry) for entry in context.service_request.get("Entries") or [])
    if total > limits.EVENT_ENTRIES.value:
        raise CommonServiceException(
            "ValidationException", "Total size of the entries in the request is over the limit."
        )


CHECKS = {"events.PutEvents": put_events}


def apply() -> None:
    original = provider.validate_event

    def validate_event(event: dict[str, Any]) -> Any:
        """Keeps LocalEmu's old limit from a detail that ``put_events`` has let pass."""
        if len(event.get("Detail") or "") < OLD_DETAIL_BYTES:
            return original(event)
        return original({**event, "Detail": "{}" if is_object(event["Detail"]) else "malformed"})

    provider.validate_event = validate_event


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False
