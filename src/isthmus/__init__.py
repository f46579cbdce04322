"""isthmus joins GPU rigs, an AWS account and edge devices into one deep-learning system.

``isthmus.Client`` and ``isthmus.AsyncClient`` ask models in service, ``isthmus.submit`` starts a job,
``isthmus.hybridize`` lets a network's calls run in slices; they are loaded when first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.bootstrap_hybrid import hybridize
    from isthmus.client import AsyncClient, Client
    from isthmus.jobs import submit

__version__ = "0.2.0"
__all__ = ["AsyncClient", "Client", "__version__", "hybridize", "submit"]


def __getattr__(name: str) -> object:
    if name in ("AsyncClient", "Client"):
        return getattr(importlib.import_module("isthmus.client"), name)
    if name == "submit":
        return importlib.import_module("isthmus.jobs").submit
    if name == "hybridize":
        return importlib.import_module("isthmus.bootstrap_hybrid").hybridize
    raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
