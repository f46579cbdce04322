"""``Events`` on EventBridge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.errors import Unavailable


class EventBridgeEvents:
    """Events of the source ``isthmus`` on one bus."""

    def __init__(self, bus: str) -> None:
        self._bus = bus

    @passing_trouble("EventBridge")
    def publish(self, kind: str, detail: Mapping[str, Any]) -> None:
        entry = {
            "EventBusName": self._bus,
            "Source": "isthmus",
            "DetailType": kind,
            "Detail": json.dumps(detail),
        }
        answer = client("events").put_events(Entries=[entry])
        if answer.get("FailedEntryCount"):
            raise Unavailable(f"the event bus refused {kind}: {answer['Entries'][0].get('ErrorMessage')}")
