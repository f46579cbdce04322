"""The edge function: long-lived on a core device, it serves the proven model with or without network.

Imported by the Lambda runtime on the device it begins to serve on loopback at once; events from
local topics are answered too, in the same shape as in the cloud.
"""

from __future__ import annotations

import os

from isthmus.edge.begin import begin

if os.uname().machine == "x86_64":
    os.environ["OPENBLAS_CORETYPE"] = "Prescott"  # the package has no other kernels; see the Makefile

if "ISTHMUS_EDGE_PORT" in os.environ:
    begin(os.environ)  # before the imports that it goes on beside

import logging
from functools import cache
from typing import Any

from isthmus.edge.core import EdgeCore, EdgeSettings
from isthmus.inference.lambda_handler import answer
from isthmus.inference.runtime import end_loading, give_back_memory

logging.basicConfig(level=logging.INFO)


@cache
def core() -> EdgeCore:
    """Bring the model into service, once per process."""
    settings = EdgeSettings.from_env(os.environ)
    cloud = results = None
    if settings.split is not None:
        from isthmus.client.part import cloud_part

        cloud = cloud_part(settings.split)
    if settings.results is not None:
        from isthmus.bootstrap_results import device_results

        results = device_results(settings.results)
    started = EdgeCore(settings, cloud, results)
    started.start()
    end_loading()
    give_back_memory()
    return started


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an inference request that came as an event, or a ping."""
    return answer(event, core().service)


# A pinned function is started without an event. Elsewhere the port is not set, and importing does nothing.
if "ISTHMUS_EDGE_PORT" in os.environ:
    core()
