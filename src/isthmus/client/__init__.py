"""The Python client: ``isthmus.Client`` and ``isthmus.AsyncClient``.

Both ask the same way (``exchange.py``, which does no IO): the core device first, then the cloud, under
one deadline, with retries. They differ in what carries a request: urllib3, or aiohttp.
"""

from isthmus.client.answer import Answer, Classification
from isthmus.client.asynchronous import AsyncClient
from isthmus.client.synchronous import Client

__all__ = ["Answer", "AsyncClient", "Classification", "Client"]
