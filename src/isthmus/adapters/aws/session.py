"""One boto3 session per process; clients are made when they are first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
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

# Whoever waits behind the API hears soon that a model takes no more calls.
IMPATIENT = Config(retries={"mode": "standard", "total_max_attempts": 2})
# Presigned addresses are signed by version 2 otherwise, which S3 takes for no object that KMS encrypts, and
# name the global endpoint, which sends the caller on for as long as a bucket is new.
PRESIGNED = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})


class _Clients:
    """Makes each client once, also when several threads ask at the same time.

    Clients may be shared by threads; a session, which makes them, may not (boto3 guide, "Clients", "Multithreading or
    multiprocessing with clients", and "Session"). Each costs some 10 MiB and a tenth of a second.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str, Config | None], Any] = {}
        self._making = threading.Lock()
        self._watching: list[tuple[str, Callable[..., None]]] = []

    def __call__(self, service: str, extra: Config | None = None) -> Any:
        """Return the client of a service, for example ``s3``; with ``extra``, one that differs by that."""
        with self._making:
            if (service, extra) not in self._made:
                config = _config(service) if extra is None else _config(service).merge(extra)
                made = boto3.client(service, config=config)  # type: ignore[call-overload]
                for event, handler in self._watching:
                    made.meta.events.register_first(event, handler)
                self._made[service, extra] = made
            return self._made[service, extra]

    def watch(self, event: str, handler: Callable[..., None]) -> Callable[[], None]:
        """Let every client call ``handler`` first at an event of botocore's, also those that were made before.

        Returned is what ends that.
        """
        with self._making:
            self._watching.append((event, handler))
            for made in self._made.values():
                made.meta.events.register_first(event, handler)

        def end() -> None:
            with self._making:
                self._watching.remove((event, handler))
                for made in self._made.values():
                    made.meta.events.unregister(event, handler)

        return end

    def cache_clear(self) -> None:
        """Forget all clients: whoever asks next gets one with the settings of then."""
        with self._making:
            self._made.clear()


def _config(service: str) -> Config:
    if service in QUICK_SERVICES:
        return CONFIG.merge(QUICK)
    return CONFIG.merge(OBJECTS) if service == "s3" else CONFIG


client = _Clients()
