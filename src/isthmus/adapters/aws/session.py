"""One boto3 session per process; clients are made when they are first needed."""

from __future__ import annotations

import functools
from typing import Any

import boto3
from botocore.config import Config

# Standard mode retries throttling and connection errors three times with jitter; the read timeout
# bounds a long poll of 20 s and a synchronous Lambda call behind API Gateway's 29 s.
CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=5, read_timeout=60)


@functools.cache
def client(service: str) -> Any:
    """Return the client of a service, for example ``s3``."""
    return boto3.client(service, config=CONFIG)  # type: ignore[call-overload]
