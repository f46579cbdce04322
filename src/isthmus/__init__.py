"""isthmus joins GPU rigs, an AWS account and edge devices into one deep-learning system.

``isthmus.Client`` and ``isthmus.AsyncClient`` ask models in service; they are loaded when first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.client import AsyncClient, Client

__version__ = "0.2.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("AsyncClient", "Client"):
        return getattr(importlib.import_module("isthmus.client"), name)
    raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
