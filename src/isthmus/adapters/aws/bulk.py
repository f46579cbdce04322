"""S3's native client (the AWS Common Runtime) for downloads: it takes a third of botocore's processor time.

What it cannot do, for whatever reason, is left to botocore: no error of it has a meaning here.
"""

from __future__ import annotations

import functools
import os
import threading
from concurrent.futures import wait
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.utils import get_environ_proxies

from isthmus.adapters.aws.session import CONFIG
from isthmus.model.units import GIB, MIB
from isthmus.ports import GoOn, always

PART_BYTES = 2 * MIB
"""A larger range is fetched in several requests; what is under way lies in memory."""
MEMORY_BYTES = GIB
"""The least that the library takes as a limit (aws-c-s3, docs/memory_aware_request_execution.md); what it uses of it
is bounded by the connections and the size of a part."""
GIGABITS = 5.0
LOOK_SECONDS = 0.25
"""Between looks whether a request is still wanted."""


class BulkReader:
    """Reads objects of a bucket into files, for many threads at once over ``connections``."""

    def __init__(self, bucket: str, connections: int, unsigned: Any) -> None:
        self._bucket = bucket
        self._unsigned = unsigned
        self._connections = connections
        self._making = threading.Lock()

    @classmethod
    def if_possible(cls, bucket: str, connections: int) -> BulkReader | None:
        """Return a reader; None where ``awscrt`` is not installed, or a proxy stands between."""
        try:
            import awscrt
        except ImportError:
            return None
        # Where botocore finds objects (endpoint, style of address), for requests that the native client signs.
        unsigned = boto3.client("s3", config=CONFIG.merge(Config(signature_version=UNSIGNED)))
        if not awscrt or get_environ_proxies(unsigned.meta.endpoint_url):
            return None
        return cls(bucket, connections, unsigned)

    def save(
        self, key: str, path: Path, start: int, stop: int | None, version: str, go_on: GoOn = always
    ) -> bool:
        """Write ``[start, stop)`` of an object to its place in the file; return whether that succeeded.

        Raises what ``go_on`` raises: then nothing more is written.
        """
        from awscrt.exceptions import AwsCrtError
        from awscrt.s3 import S3RequestType

        with self._making:  # once, however many threads begin at the same time
            native = self._native
        whole = start == 0 and stop is None
        address = self._unsigned.generate_presigned_url("get_object", {"Bucket": self._bucket, "Key": key})
        file = -1 if whole else os.open(path, os.O_WRONLY)
        try:

            def write(chunk: bytes, offset: int, **_: Any) -> None:
                # Counted from the object's beginning (aws-c-s3, aws_s3_meta_request_receive_body_callback_fn).
                os.pwrite(file, chunk, offset)

            request = native.make_request(
                type=S3RequestType.GET_OBJECT,
                operation_name="GetObject",
                request=_request(address, start, stop, version),
                **({"recv_filepath": str(path)} if whole else {"on_body": write}),
            )
            _wait(request, go_on)
        except (AwsCrtError, OSError):
            return False
        finally:
            if file >= 0:
                os.close(file)
        return True

    @functools.cached_property
    def _native(self) -> Any:
        from awscrt import io, s3
        from s3transfer.crt import BotocoreCRTCredentialsWrapper

        region, endpoint = self._unsigned.meta.region_name, self._unsigned.meta.endpoint_url
        session = boto3.DEFAULT_SESSION or boto3.Session()
        provider = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
        loops = io.EventLoopGroup(1)
        plain = urlsplit(endpoint).scheme == "http"
        return s3.S3Client(
            bootstrap=io.ClientBootstrap(loops, io.DefaultHostResolver(loops)),
            region=region,
            signing_config=s3.create_default_s3_signing_config(region=region, credential_provider=provider),
            tls_mode=s3.S3RequestTlsMode.DISABLED if plain else s3.S3RequestTlsMode.ENABLED,
            tls_connection_options=None if plain else self._tls(),
            part_size=PART_BYTES,
            throughput_target_gbps=GIGABITS,
            memory_limit=MEMORY_BYTES,
            max_active_connections_override=self._connections,
            connect_timeout_ms=5000,
        )

    def _tls(self) -> Any:
        from awscrt import io

        options = io.TlsContextOptions()
        if bundle := os.environ.get("AWS_CA_BUNDLE"):
            options.override_default_trust_store_from_path(ca_filepath=bundle)
        return io.ClientTlsContext(options).new_connection_options()


def _wait(request: Any, go_on: GoOn) -> None:
    """Wait for the end of a request; one that is not to go on is over, too, before this returns."""
    done = request.finished_future
    while not wait((done,), LOOK_SECONDS).done:
        try:
            go_on()
        except BaseException:
            request.cancel()
            wait((done,))
            raise
    done.result()


def _request(address: str, start: int, stop: int | None, version: str) -> Any:
    from awscrt.http import HttpHeaders, HttpRequest

    url = urlsplit(address)
    headers = HttpHeaders([("host", url.netloc)])
    if version:
        headers.add("If-Match", version)
    if start or stop is not None:
        headers.add("Range", f"bytes={start}-{'' if stop is None else stop - 1}")
    return HttpRequest("GET", url.path, headers)
