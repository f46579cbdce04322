"""The edge function: long-lived on a core device, it serves the proven model with or without network.

Imported by the Lambda runtime on the device it begins to serve on loopback at once; events from
local topics are answered too, in the same shape as in the cloud.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Any

from isthmus.client.part import cloud_part
from isthmus.edge.core import EdgeCore, EdgeSettings
from isthmus.inference.lambda_handler import answer

logging.basicConfig(level=logging.INFO)


@cache
def core() -> EdgeCore:
    """Bring the model into service, once per process."""
    settings = EdgeSettings.from_env(os.environ)
    started = EdgeCore(settings, cloud_part(settings.split))
    started.start()
    return started


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an inference request that came as an event, or a ping."""
    return answer(event, core().service)


# A pinned function is started without an event. Elsewhere the port is not set, and importing does nothing.
if "ISTHMUS_EDGE_PORT" in os.environ:
    core()
