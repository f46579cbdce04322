"""One boto3 session per process; clients are made when they are first needed."""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config

# Standard mode retries throttling and connection errors three times with jitter; the read timeout
# bounds a long poll of 20 s and a synchronous Lambda call behind API Gateway's 29 s.
# Downloads use up to 32 connections at once (sync/download.py); botocore keeps ten, and throws away the others.
CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 4},
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=32,
)
# A rig's heartbeat must arrive within its job's tolerance, thirty seconds as shipped: a connection that a
# network swallowed is given up, and another one tried, long before that. Neither service's answers take seconds.
QUICK = Config(connect_timeout=3, read_timeout=5)
QUICK_SERVICES = ("dynamodb", "stepfunctions")
# Every object's bytes are verified by a SHA-256 of ours; S3's own checksums would be calculated beside it.
OBJECTS = Config(response_checksum_validation="when_required")


class _Clients:
    """Makes each client once, also when several threads ask at the same time.

    Clients may be shared by threads; a session, which makes them, may not (boto3 guide, "Clients", "Multithreading or
    multiprocessing with clients", and "Session"). Each costs some 10 MiB and a tenth of a second.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._making = threading.Lock()

    def __call__(self, service: str) -> Any:
        """Return the client of a service, for example ``s3``."""
        with self._making:
            if service not in self._made:
                self._made[service] = boto3.client(service, config=_config(service))  # type: ignore[call-overload]
            return self._made[service]

    def cache_clear(self) -> None:
        """Forget all clients: whoever asks next gets one with the settings of then."""
        with self._making:
            self._made.clear()


def _config(service: str) -> Config:
    if service in QUICK_SERVICES:
        return CONFIG.merge(QUICK)
    return CONFIG.merge(OBJECTS) if service == "s3" else CONFIG


client = _Clients()
