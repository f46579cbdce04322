"""SigV4 signatures for requests to API Gateway, as its IAM authorizer wants them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError

from isthmus.errors import EnvironmentProblem

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_EXECUTE_API", "AWS_ENDPOINT_URL")
"""Where a request is sent instead of to its API's own address, which then goes in the Host header:
that is how a private API is called through a VPC endpoint."""

NO_CREDENTIALS = (BotoCoreError, ClientError, OSError, RuntimeError, ValueError)
"""What looking for credentials raises, and renewing them: also for a ``credential_process`` that is not there or
prints no JSON, and for renewed ones that have ended already (``botocore.credentials``)."""


class RequestSigner:
    """Signs with the credentials that boto3 finds, or with ``session``'s, looked up once and renewed as they end.

    Safe to share between threads: only the session, which makes credentials, is not (boto3 guide, "Session").
    """

    def __init__(self, session: boto3.Session | None = None) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._found: tuple[Credentials, str] | None = None

    def sign(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, dict[str, str]]:
        """Return where to send the request, and its headers with the signature; all given ones are signed.

        Raises:
            EnvironmentProblem: there are no credentials to sign with, or they have ended.
        """
        try:
            credentials, region = self._credentials()
        except NO_CREDENTIALS as error:
            told = " ".join(str(error).split())[:300]
            raise EnvironmentProblem(
                f"AWS credentials are needed to sign the request, and could not be had ({told}): sign in again"
            ) from error
        request = AWSRequest(method, url, data=body, headers=dict(headers))
        region = _region_of(url) or region or "us-east-1"
        SigV4Auth(credentials, "execute-api", region).add_auth(request)
        return _destination(url), {**dict(request.headers.items()), "Host": urlsplit(url).netloc}

    def _credentials(self) -> tuple[ReadOnlyCredentials, str]:
        with self._lock:
            if self._found is None:
                session = self._session or boto3.Session()
                credentials = session.get_credentials()
                if credentials is None:
                    raise EnvironmentProblem("no AWS credentials were found to sign the request with")
                self._found = credentials, session.region_name or ""
            found, region = self._found
        return found.get_frozen_credentials(), region


def _region_of(url: str) -> str:
    """Return the region in ``<id>.execute-api.<region>.<suffix>``: a stack may lie in another than the user's."""
    parts = (urlsplit(url).hostname or "").split(".")
    return parts[2] if len(parts) > 4 and parts[1] == "execute-api" else ""


def _destination(url: str) -> str:
    override = next((os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)
    if override is None:
        return url
    parts = urlsplit(url)
    return override.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")
