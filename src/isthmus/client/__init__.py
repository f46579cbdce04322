"""The Python client: ``isthmus.Client`` and ``isthmus.AsyncClient``.

Both ask the same way (``exchange.py``, which does no IO): the core device first, then the cloud, under
one deadline, with retries. They differ in what carries a request: urllib3, or aiohttp. Each is loaded when it is
first named: what a core device brings (``part.py``) needs neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from isthmus.client.answer import Answer, Classification

if TYPE_CHECKING:
    from isthmus.client.asynchronous import AsyncClient
    from isthmus.client.synchronous import Client

__all__ = ["Answer", "AsyncClient", "Classification", "Client"]
_HOMES = {"AsyncClient": "isthmus.client.asynchronous", "Client": "isthmus.client.synchronous"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'isthmus.client' has no attribute {name!r}")
